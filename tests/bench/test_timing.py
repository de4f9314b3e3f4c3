"""Rounds in turn, ratios with honest intervals."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.measure.timing import Rounds, interleave, ratio

Seconds = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=30)


@settings(max_examples=25, deadline=None)
@given(Seconds, st.floats(0.1, 10.0))
def test_a_constant_factor_is_found_exactly(fast: list[float], factor: float) -> None:
    found = ratio([factor * s for s in fast], fast)
    assert [found.median, found.low, found.high, found.minima] == pytest.approx([factor] * 4)


@settings(max_examples=25, deadline=None)
@given(Seconds)
def test_the_interval_holds_the_ratio_and_turns_over(slow: list[float]) -> None:
    fast = list(reversed(slow))
    found, inverse = ratio(slow, fast), ratio(fast, slow)
    assert found.low <= found.high
    assert found.median == pytest.approx(1.0)
    assert inverse.low == pytest.approx(1 / found.high)
    assert inverse.high == pytest.approx(1 / found.low)


def test_the_interval_covers_the_truth_and_shrinks() -> None:
    rng = np.random.default_rng(0)
    hits, widths = 0, {10: [], 100: []}
    for number in widths:
        for trial in range(40):
            noise = rng.lognormal(0, 0.1, (2, number))
            found = ratio((1.5 * noise[0]).tolist(), noise[1].tolist(), seed=trial)
            hits += found.low <= 1.5 <= found.high
            widths[number].append(found.high - found.low)
    assert hits >= 0.85 * 80
    assert np.median(widths[100]) < 0.5 * np.median(widths[10])


def test_rounds_must_be_paired() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        ratio([1.0, 2.0], [1.0])


def test_everybody_runs_once_a_round_and_goes_first_in_turn() -> None:
    order: list[str] = []
    runs = {name: (lambda name=name: order.append(name)) for name in "abc"}
    timings = interleave(runs, Rounds(3, warm_ups=1))
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert all(len(timing.cpu_s) == len(timing.wall_s) == 3 for timing in timings.values())


def test_wall_clock_sees_sleep_and_cpu_time_does_not() -> None:
    timing = interleave({"sleep": lambda: time.sleep(0.02)}, Rounds(3, warm_ups=0))["sleep"]
    assert min(timing.wall_s) >= 0.02
    assert timing.median_s < 0.01


def test_a_spent_budget_ends_the_race_after_three_rounds() -> None:
    timing = interleave({"a": lambda: time.sleep(0.005)}, Rounds(50, budget_s=0.0))["a"]
    assert len(timing.wall_s) == 3


def test_two_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="3 or more"):
        Rounds(2)
