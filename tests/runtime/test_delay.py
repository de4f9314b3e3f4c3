import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.runtime.delay import DelayEstimator, to_ticks


def test_the_initial_estimate_holds_until_the_first_counted_sample() -> None:
    estimator = DelayEstimator(initial=4, num_warmup=2)
    for warmup in (90, 80):
        estimator.record(warmup)
        assert estimator.estimate() == 4
    estimator.record(2)
    assert estimator.estimate() == 2


@given(st.lists(st.integers(0, 50), min_size=1, max_size=250), st.integers(0, 2))
def test_the_estimate_covers_95_percent_of_the_last_100(samples: list[int], margin: int) -> None:
    estimator = DelayEstimator(initial=0, margin=margin, num_warmup=0)
    for sample in samples:
        estimator.record(sample)
    window = np.sort(samples[-100:])
    estimate = estimator.estimate()
    if not window.any():
        assert estimate == 0
    else:
        assert estimate - margin in window
        assert np.mean(window <= estimate - margin) >= 0.95
        assert np.mean(window < estimate - margin) <= 0.95


def test_the_window_forgets() -> None:
    estimator = DelayEstimator(initial=0, window=3, num_warmup=0)
    for sample in (30, 2, 2, 2):
        estimator.record(sample)
    assert estimator.estimate() == 2


def test_replies_inside_their_own_tick_promise_nothing() -> None:
    estimator = DelayEstimator(initial=5, margin=1, num_warmup=0)
    estimator.record(0)
    assert estimator.estimate() == 0
    estimator.record(1)
    assert estimator.estimate() == 2


@pytest.mark.parametrize("field", ["initial", "window", "margin", "num_warmup"])
def test_arguments_out_of_range_are_named(field: str) -> None:
    arguments = {"initial": 0} | {field: -1}
    with pytest.raises(ValueError, match=rf"DelayEstimator\.{field} must be . or more; got -1"):
        DelayEstimator(**arguments)


def test_quantile_and_samples_are_checked() -> None:
    with pytest.raises(ValueError, match=r"quantile must be in 0\.\.1; got 95"):
        DelayEstimator(0, quantile=95)
    with pytest.raises(ValueError, match="0 or more ticks; got -1"):
        DelayEstimator(0).record(-1)


def test_to_ticks_rounds_up() -> None:
    assert [to_ticks(duration_s, 0.1) for duration_s in (0.0, 0.01, 0.1, 0.11)] == [0, 1, 1, 2]
    with pytest.raises(ValueError, match=r"got 1\.0 s and 0\.0 s"):
        to_ticks(1.0, 0.0)
