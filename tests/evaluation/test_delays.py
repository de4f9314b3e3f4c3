"""Delays that repeat: who meets which."""

from itertools import pairwise

import numpy as np
import pytest

from cerebella.evaluation.delays import DelayTrace, burst_trace, constant_trace, jitter_trace
from cerebella.runtime.instruments.latency import BURST_80MS, generate


def test_an_episode_walks_along_the_trace_from_its_own_place() -> None:
    trace = DelayTrace("t", tuple(range(100)), 5)
    for seed in (0, 7, 1_000_000):
        met = [trace(seed, number) for number in range(150)]
        assert [(b - a) % 100 for a, b in pairwise(met)] == [1] * 149
        assert met == [trace(seed, number) for number in range(150)]
    starts = {trace(seed, 0) for seed in range(300)}
    assert len(starts) > 90


def test_where_an_episode_starts_has_nothing_to_do_with_what_its_seed_draws_elsewhere() -> None:
    trace = DelayTrace("t", tuple(range(1000)), 0)
    starts = [trace(seed, 0) for seed in range(400)]
    drawn = [np.random.default_rng(seed).random() for seed in range(400)]
    assert abs(np.corrcoef(starts, drawn)[0, 1]) < 0.15


@pytest.mark.parametrize(("delay", "margin", "initial"), [(0, 0, 0), (0, 1, 0), (1, 1, 2), (4, 0, 4), (4, 1, 5)])
def test_a_constant_delay_promises_itself_and_the_margin(delay: int, margin: int, initial: int) -> None:
    trace = constant_trace(delay, margin)
    assert (trace(3, 9), trace.initial, trace.mean) == (delay, initial, delay)


@pytest.mark.parametrize(("mean", "spread"), [(4, 0), (4, 3), (6, 6)])
def test_jitter_has_exactly_the_mean_and_the_spread(mean: int, spread: int) -> None:
    trace = jitter_trace(mean, spread)
    assert trace.mean == mean
    assert (min(trace.ticks), max(trace.ticks)) == (mean - spread, mean + spread)
    assert np.ptp(np.bincount(trace.ticks, minlength=1)[mean - spread :]) == 0
    if spread:
        assert abs(np.corrcoef(trace.ticks[1:], trace.ticks[:-1])[0, 1]) < 0.05


def test_the_burst_trace_is_the_one_of_the_instruments_in_ticks() -> None:
    trace, seconds = burst_trace(), generate(BURST_80MS)
    assert len(trace.ticks) == BURST_80MS.num_samples
    for number, ticks in enumerate(trace.ticks):
        assert (ticks - 1) / 30 < seconds(number) <= ticks / 30
    calm, slow = np.mean(np.array(trace.ticks) <= 4), np.mean(np.array(trace.ticks) >= 5)
    assert (calm, slow) == pytest.approx((1 - BURST_80MS.burst_share, BURST_80MS.burst_share))
    assert trace.initial == 3, "what nearly all requests take; the bursts come as a surprise"


def test_impossible_delays_are_refused() -> None:
    for ticks, initial in (((), 0), ((3, -1), 0), ((3,), -1)):
        with pytest.raises(ValueError, match="delay must be 0 or more ticks"):
            DelayTrace("t", ticks, initial)
    with pytest.raises(ValueError, match="0 <= spread <= mean"):
        jitter_trace(3, 4)
    with pytest.raises(ValueError, match="9 requests or more"):
        jitter_trace(6, 4, num_requests=8)
