"""Windows of demonstrations whose commands were disturbed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.data.sent_rows import SentRows
from cerebella.types import Sample

HORIZON, LENGTH = 8, 20
ASKED = np.linspace(0.0, 1.0, LENGTH, dtype=np.float32)[:, None]
SENT = (ASKED + 0.1 * np.sin(np.arange(LENGTH))[:, None]).astype(np.float32)


def sample(start: int) -> Sample:
    """As `EpisodeArrays.window` cuts it."""
    rows = np.minimum(np.arange(start, start + HORIZON), LENGTH - 1)
    is_valid = np.arange(start, start + HORIZON)[:, None] < LENGTH
    return Sample({}, np.zeros(1, np.float32), "go", ASKED[rows], is_valid, "toy", "joint")


@given(st.integers(0, LENGTH - 1), st.integers(0, 6), st.integers(0, 500))
def test_the_prefix_is_what_was_sent_and_the_rest_leads_back_from_there(
    start: int, max_committed: int, window: int
) -> None:
    rows = SentRows(max_committed, share=0.7)
    given_sample = sample(start)
    made = rows.applied(given_sample, ASKED, SENT, start, window)
    num = made.num_committed
    assert num == min(rows.num_committed(window), HORIZON - 1, LENGTH - start)
    assert num <= max_committed
    np.testing.assert_array_equal(made.actions[:num], SENT[start : start + num])
    error = made.actions[num:] - given_sample.actions[num:]
    before = start + num - 1
    first = SENT[before] - ASKED[before] if before >= 0 else np.zeros(1)
    np.testing.assert_allclose(error[:, 0], first * 0.5 ** (np.arange(1, len(error) + 1) / 3.0), atol=1e-6)


def test_shares_and_lengths_are_as_asked_for() -> None:
    rows = SentRows(4, share=0.25, seed=3)
    lengths = np.array([rows.num_committed(window) for window in range(4000)])
    counts = np.bincount(lengths, minlength=5) / len(lengths)
    assert abs(counts[0] - 0.75) < 0.03
    assert np.abs(counts[1:] - 0.0625).max() < 0.015
    assert (lengths == [rows.num_committed(window) for window in range(4000)]).all()
    assert (lengths != [replace(rows, seed=4).num_committed(window) for window in range(4000)]).any()


def test_what_was_sent_and_asked_alike_changes_nothing() -> None:
    made = SentRows(6, share=1.0).applied(sample(3), ASKED, ASKED, 3, 0)
    np.testing.assert_array_equal(made.actions, sample(3).actions)


@pytest.mark.parametrize("wrong", [{"max_committed": -1}, {"share": 1.5}, {"half_life_rows": 0.0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="half_life_rows above 0"):
        SentRows(**wrong)  # pyright: ignore[reportArgumentType]
