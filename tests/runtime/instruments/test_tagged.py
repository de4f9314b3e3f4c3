"""A tag says where a row comes from, also after a prefix and under guidance."""

import numpy as np
import pytest

from cerebella.interfaces import Guidance
from cerebella.runtime.instruments.tagged import TaggedPolicy, make_metadata, make_observation
from cerebella.types import FloatArray

NOTHING: FloatArray = np.zeros((0, 4), dtype=np.float32)


def test_rows_carry_call_row_tick_and_value() -> None:
    policy = TaggedPolicy(make_metadata(4, 3))
    policy.infer(make_observation(3), NOTHING)
    prefix = np.array([[0, 2, 5, 0.5]], dtype=np.float32)
    chunk = policy.infer(make_observation(5, value=0.25), prefix)
    assert chunk.actions[1:].tolist() == [[1, 1, 6, 0.25], [1, 2, 7, 0.25], [1, 3, 8, 0.25]]
    np.testing.assert_allclose(chunk.actions[0], prefix[0], atol=2e-5)
    assert chunk.prefix_length == 1


def test_guided_calls_are_remembered_and_tagged() -> None:
    policy, guidance = TaggedPolicy(make_metadata(4, 0)), Guidance(np.ones((2, 4), dtype=np.float32), 1, 2)
    chunk = policy.infer_guided(make_observation(9), guidance)
    assert chunk.actions[:, :3].tolist() == [[0, 0, 9], [0, 1, 10], [0, 2, 11], [0, 3, 12]]
    assert policy.seen_guidances == [guidance]
    assert chunk.prefix_length == 0


def test_scripted_trouble() -> None:
    policy = TaggedPolicy(make_metadata(4, 3), frozenset({0}), frozenset({1}), frozenset({2}))
    with pytest.raises(OSError, match="call 0: the server is gone"):
        policy.infer(make_observation(0), NOTHING)
    with pytest.raises(ValueError, match=r"ActionChunk\.actions must be finite"):
        policy.infer(make_observation(1), NOTHING)
    assert policy.infer(make_observation(2), np.zeros((2, 4), dtype=np.float32)).actions[:2].min() >= 999
