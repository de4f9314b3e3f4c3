import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.evaluation.statistics import bootstrap_interval, compare_paired, quantiles, wilson_interval


@pytest.mark.parametrize(
    ("num_successes", "num_trials", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval_agrees_with_published_tables(
    num_successes: int, num_trials: int, low: float, high: float
) -> None:
    assert wilson_interval(num_successes, num_trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_solves_the_score_equation(num_trials: int, data: st.DataObject) -> None:
    num_successes = data.draw(st.integers(1, num_trials))
    low, high = wilson_interval(num_successes, num_trials)
    rate = num_successes / num_trials
    assert 0.0 < low <= rate <= high <= 1.0
    # The end of the interval is the p at which the observed rate is exactly z standard errors away.
    assert abs(rate - low) / math.sqrt(low * (1 - low) / num_trials) == pytest.approx(1.959964, rel=1e-5)


def test_wilson_interval_refuses_more_successes_than_trials() -> None:
    with pytest.raises(ValueError, match="11 successes in 10 trials"):
        wilson_interval(11, 10)


def test_mcnemar_is_the_exact_binomial_test_of_the_pairs_that_disagree() -> None:
    first = [True] * 60 + [True] * 10 + [False] * 2 + [False] * 28
    second = [True] * 60 + [False] * 10 + [True] * 2 + [False] * 28
    result = compare_paired(first, second)
    assert (result.num_pairs, result.num_only_first, result.num_only_second) == (100, 10, 2)
    assert result.p_value == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert result.difference == pytest.approx(0.08)
    assert (result.low, result.high) == pytest.approx((8 / 102 - 0.06759, 8 / 102 + 0.06759), abs=1e-4)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_paired_comparison_is_antisymmetric(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    one, other = compare_paired(first, second), compare_paired(second, first)
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == other.p_value <= 1.0
    assert one.low <= one.high


def test_paired_comparison_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        compare_paired([True, False], [True])


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    low, high = bootstrap_interval(values, lambda x: float(x.mean()), num_resamples=4000)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert bootstrap_interval(values, lambda x: float(x.mean()), num_resamples=50, seed=7) == bootstrap_interval(
        values, lambda x: float(x.mean()), num_resamples=50, seed=7
    )


def test_bootstrap_refuses_nothing_and_impossible_levels() -> None:
    with pytest.raises(ValueError, match="non-empty"):
        bootstrap_interval([], lambda x: 0.0)
    with pytest.raises(ValueError, match="level must be"):
        bootstrap_interval([1.0], lambda x: 0.0, level=1.5)


def test_quantiles_by_name() -> None:
    values = np.arange(1001.0)
    named = quantiles(values, ("p50", "p99.9", "max", "mean"))
    assert named == pytest.approx({"p50": 500, "p99.9": 999, "max": 1000, "mean": 500})
    assert quantiles([], ("p50", "max")) == {"p50": None, "max": None}
    for name in ("median", "p101", "pp"):
        with pytest.raises(ValueError, match=f"unknown quantile '{name}'"):
            quantiles(values, (name,))
