"""Many questions at once, a few training seeds, units that are not independent: `holm`, `student_interval`, `sign_flip_test`."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.evaluation.statistics import holm, sign_flip_test, student_interval


def test_holm_on_the_textbook_example() -> None:
    # 0.01 * 4, then max(0.04, 0.02 * 3), then max(0.06, 0.03 * 2), then max(0.06, 0.04 * 1).
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.3]) == [0.3]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"0\.\.1; got 1\.5"):
        holm([0.1, 1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], alpha: float) -> None:
    adjusted = holm(p_values)
    rejected: set[int] = set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if min(1.0, (len(p_values) - rank) * p_values[i]) > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(p <= q <= min(1.0, len(p_values) * p) for p, q in zip(p_values, adjusted, strict=True))


def test_the_interval_of_three_seeds() -> None:
    found = student_interval([1.0, 2.0, 3.0])
    assert found == pytest.approx((2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3)))
    assert student_interval([1.0]) is None
    with pytest.raises(ValueError, match="a list of numbers"):
        student_interval([[1.0, 2.0]])


@pytest.mark.parametrize("count", [2, 5, 31, 32, 60])
def test_the_interval_covers_the_mean_in_95_of_100_cases(count: int) -> None:
    draws = np.random.default_rng(count).normal(3.0, 2.0, (4000, count))
    covered = [low <= 3.0 <= high for low, high in filter(None, map(student_interval, draws))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_sign_flips_agree_with_counting_all_of_them() -> None:
    values = np.array([0.5, -0.25, 1.0, 0.75, 0.25, 0.0, 1.0])
    sums = [abs(float(np.dot(signs, values))) for signs in product((-1, 1), repeat=len(values))]
    exact = np.mean([each >= abs(values.sum()) - 1e-12 for each in sums])
    assert sign_flip_test(values) == pytest.approx(exact, abs=0.015)
    assert sign_flip_test(values) == sign_flip_test(values)
    assert sign_flip_test([0.0, 0.0]) == 1.0
    assert sign_flip_test(np.ones(30), num_flips=99) == 0.01
    with pytest.raises(ValueError, match="list of differences"):
        sign_flip_test([])
