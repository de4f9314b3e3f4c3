"""Two rates on one clock, exact after any time."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.runtime.rates import Rates

PAIRS = [(30.0, 30.0), (30.0, 100.0), (30.0, 250.0), (30.0, 500.0), (30.0, 1000.0), (29.97, 100.0), (7.5, 443.21)]


@pytest.mark.parametrize(("policy_hz", "control_hz"), PAIRS)
def test_f22_no_drift_in_a_million_ticks(policy_hz: float, control_hz: float) -> None:
    rates = Rates(policy_hz, control_hz)
    ratio = Fraction(str(policy_hz)) / Fraction(str(control_hz))
    for k in (*range(3000), *range(999_000, 1_000_001), 10**9):
        tick, phase = rates.locate(k)
        assert tick == k * ratio // 1
        assert 0.0 <= phase < 1.0
        assert phase == float(k * ratio % 1)


@pytest.mark.parametrize(("policy_hz", "control_hz"), PAIRS)
def test_f22_every_policy_tick_has_its_control_ticks(policy_hz: float, control_hz: float) -> None:
    """None is left out, and positions only grow; where a control tick lies on a policy tick the phase is exactly 0."""
    located = [Rates(policy_hz, control_hz).locate(k) for k in range(2000)]
    ticks = [tick for tick, _ in located]
    assert sorted(set(ticks)) == list(range(ticks[-1] + 1))
    assert all(a < b for a, b in pairwise(located))
    ratio = Fraction(str(policy_hz)) / Fraction(str(control_hz))
    assert [k for k, (_, phase) in enumerate(located) if phase == 0.0] == list(range(0, 2000, ratio.denominator))


@settings(deadline=None)
@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(0, 10**7))
def test_f22_any_rates_in_whole_hundredths(first: int, second: int, control_tick: int) -> None:
    policy, control = sorted((first, second))
    tick, phase = Rates(policy / 100, control / 100).locate(control_tick)
    assert (tick, phase) == (
        control_tick * policy // control,
        float(Fraction(control_tick * policy % control, control)),
    )


@pytest.mark.parametrize(("policy_hz", "control_hz"), [(0.0, 30.0), (-1.0, 30.0), (50.0, 30.0), (30.0, 0.0)])
def test_rates_that_cannot_be(policy_hz: float, control_hz: float) -> None:
    with pytest.raises(ValueError, match=f"{policy_hz:g} and {control_hz:g}"):
        Rates(policy_hz, control_hz)
