"""What does not fit is named with the knob that makes it fit; turning that knob makes it fit."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.runtime.executor_config import ExecutorConfig, Mode
from cerebella.runtime.preflight import preflight

from .arm import make_arm, make_metadata

ARM = make_arm()
PERIOD_S = 1 / 30
SPAN = re.compile(r"execute_horizon to (\d+) \.\. (\d+)$")


def metadata_of(horizon: int, max_trained_prefix: int = 6):
    return make_metadata(ARM, horizon, max_trained_prefix)


def latency_of(num_ticks: int) -> list[float]:
    """Just below so many ticks."""
    return [(num_ticks - 0.5) * PERIOD_S] * 20


def test_what_fits_is_silent() -> None:
    assert preflight(metadata_of(16), ExecutorConfig("prefix", 8), latency_of(3)) == []


def test_a_delay_beyond_the_execute_horizon() -> None:
    (violation,) = preflight(metadata_of(16), ExecutorConfig("prefix", 4), latency_of(6))
    assert not violation.is_fatal
    assert violation.inequality.startswith("delay r = 6 ticks (p95 latency 183 ms at 30 Hz) > execute_horizon s = 4")
    assert violation.knob == "raise execute_horizon to 6 .. 10"
    assert str(violation) == f"{violation.inequality}: {violation.knob}"


def test_a_plan_that_ends_before_the_answer() -> None:
    (violation,) = preflight(metadata_of(16), ExecutorConfig("naive", 12), latency_of(6))
    assert violation.inequality == "execute_horizon s = 12 > H - r = 16 - 6 = 10"
    assert violation.knob == "lower execute_horizon to 6 .. 10"


def test_a_prefix_beyond_the_training() -> None:
    (violation,) = preflight(metadata_of(16, 3), ExecutorConfig("prefix", 8), latency_of(4))
    assert violation.inequality.endswith("> longest trained prefix = 3")
    assert "post-train with prefixes of up to 4 rows" in violation.knob
    assert preflight(metadata_of(16, 4), ExecutorConfig("prefix", 8), latency_of(4)) == []
    assert preflight(metadata_of(16, 3), ExecutorConfig("guided", 8), latency_of(4)) == [], "only `prefix` needs it"


def test_a_horizon_too_short_for_any_setting_is_fatal() -> None:
    (violation,) = preflight(metadata_of(8), ExecutorConfig("prefix", 4), latency_of(5))
    assert violation.is_fatal
    assert "no execute_horizon fits" in violation.knob
    assert "mode sync" in violation.knob
    assert preflight(metadata_of(8), ExecutorConfig("sync", 4), latency_of(5)) == []
    assert not any(v.is_fatal for v in preflight(metadata_of(10), ExecutorConfig("naive", 5), latency_of(5)))


def test_the_quantile_decides_and_rounds_up() -> None:
    latencies = [0.01] * 95 + [0.5] * 5
    assert preflight(metadata_of(16), ExecutorConfig("naive", 8), latencies, quantile=0.5) == []
    assert preflight(metadata_of(16), ExecutorConfig("naive", 8), latencies, quantile=0.99)


def test_no_measurement_is_no_answer() -> None:
    with pytest.raises(ValueError, match="at least one measured latency"):
        preflight(metadata_of(16), ExecutorConfig("naive", 8), [])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["naive", "ensemble", "guided", "prefix"]),
    st.integers(2, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_turning_the_named_knob_to_the_named_value_helps(
    mode: Mode, horizon: int, execute_horizon: int, delay: int, trained: int
) -> None:
    config = ExecutorConfig(mode, min(execute_horizon, horizon))
    violations = preflight(metadata_of(horizon, trained), config, latency_of(delay))
    assert all(violation.is_fatal == (2 * delay > horizon) for violation in violations)
    for violation in violations:
        assert str(delay) in str(violation)
        if violation.is_fatal:
            with_longer = preflight(
                metadata_of(2 * delay, delay), replace(config, execute_horizon=delay), latency_of(delay)
            )
            assert with_longer == []
        elif span := SPAN.search(violation.knob):
            for value in map(int, span.groups()):
                left = preflight(
                    metadata_of(horizon, trained), replace(config, execute_horizon=value), latency_of(delay)
                )
                assert all("execute_horizon" not in other.inequality for other in left)
        else:
            prefix = re.search(r"prefixes of up to (\d+) rows", violation.knob)
            assert prefix is not None
            left = preflight(metadata_of(horizon, int(prefix[1])), config, latency_of(delay))
            assert all("prefix" not in other.inequality for other in left)
