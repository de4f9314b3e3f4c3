"""Limits of one number: the sums in closed form, stops, and the way to a reference."""

import math
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cerebella.runtime import jerk_limit
from cerebella.runtime.jerk_limit import Limits

SEEDS = st.integers(0, 2**40)


def draw_limits(rng: random.Random, orders: float = 2.0) -> Limits:
    """Each limit within so many orders of magnitude of the one before."""
    span = 10 ** rng.uniform(-3, 3)
    velocity = span * 10 ** rng.uniform(-3, 1)
    acceleration = velocity * 10 ** rng.uniform(-orders, orders)
    return Limits(-span, span, velocity, acceleration, acceleration * 10 ** rng.uniform(-orders, orders))


def draw_motion(rng: random.Random, limits: Limits) -> tuple[float, float]:
    """Velocity and acceleration inside the limits, sometimes on their edges."""
    acceleration = rng.choice([0.0, 1.0, -1.0, *(rng.uniform(-1, 1) for _ in range(6))]) * limits.acceleration
    velocity = rng.choice([limits.velocity, limits.jerk, 10 * limits.jerk]) * rng.choice([0.0, 1.0, rng.uniform(-1, 1)])
    return min(max(velocity, -limits.velocity), limits.velocity), acceleration


def test_change_is_the_sum_of_what_is_let_go_of() -> None:
    assert jerk_limit.change(7.0, 2.0) == 7.0 + 5.0 + 3.0 + 1.0
    assert jerk_limit.change(6.0, 2.0) == 6.0 + 4.0 + 2.0
    assert jerk_limit.change(0.5, 2.0) == 0.5
    assert jerk_limit.change(0.0, 2.0) == 0.0


@settings(deadline=None)
@given(st.floats(0, 1e12), st.floats(1e-6, 1e12))
def test_acceleration_for_inverts_change(velocity: float, jerk: float) -> None:
    acceleration = jerk_limit.acceleration_for(velocity, jerk)
    assert jerk_limit.change(acceleration, jerk) == pytest.approx(velocity, rel=1e-9)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_stop_distance_is_the_sum_over_the_stop(seed: int) -> None:
    rng = random.Random(seed)
    limits = draw_limits(rng)
    first, second = draw_motion(rng, limits)
    turn, end = jerk_limit.stop_distance(limits, first, second)
    velocity, acceleration, position, lowest, highest = first, second, 0.0, 0.0, 0.0
    most = 10 + 4 * (abs(velocity) / limits.acceleration + limits.velocity / limits.acceleration)
    most += 4 * limits.acceleration / limits.jerk + 4 * math.sqrt(limits.velocity / limits.jerk)
    assume(most < 5000)
    num_ticks = 0
    while velocity or acceleration:
        previous = acceleration
        velocity, acceleration = jerk_limit.stop(limits, velocity, acceleration)
        assert abs(acceleration) <= limits.acceleration
        assert abs(acceleration - previous) <= limits.jerk * (1 + 1e-12)
        position += velocity
        lowest, highest = min(lowest, position), max(highest, position)
        num_ticks += 1
        assert num_ticks < most, "the stop does not end"
    size = max(highest - lowest, limits.jerk)
    assert end == pytest.approx(position, abs=1e-9 * size)
    assert min(turn, end, 0.0) == pytest.approx(lowest, abs=1e-9 * size)
    assert max(turn, end, 0.0) == pytest.approx(highest, abs=1e-9 * size)
    for edge in (Limits(lowest, 1e9, *_three(limits)), Limits(-1e9, highest, *_three(limits))):
        assert jerk_limit.stops_within(edge, 0.0, first, second)
    gap = 1e-3 * size + 1e-6
    assert not jerk_limit.stops_within(Limits(lowest + gap, highest + gap, *_three(limits)), 0.0, first, second)
    assert not jerk_limit.stops_within(Limits(lowest - gap, highest - gap, *_three(limits)), 0.0, first, second)


def _three(limits: Limits) -> tuple[float, float, float]:
    return limits.velocity, limits.acceleration, limits.jerk


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_bounds_hold_velocity_and_acceleration_for_ever(seed: int) -> None:
    """Whatever is chosen inside them, again and again; also under a velocity limit that changes."""
    rng = random.Random(seed)
    limits = draw_limits(rng)
    velocity = acceleration = 0.0
    for _ in range(100):
        share = rng.choice([1.0, 1.0, 0.1, 1e-3])
        now = Limits(limits.low, limits.high, share * limits.velocity, limits.acceleration, limits.jerk)
        low, high = jerk_limit.bounds(now, velocity, acceleration)
        assert low <= high
        chosen = rng.choice([low, high, rng.uniform(low, high)])
        assert abs(chosen) <= limits.acceleration
        assert abs(chosen - acceleration) <= limits.jerk * (1 + 1e-12)
        velocity, acceleration = velocity + chosen, chosen
        assert abs(velocity) <= limits.velocity * (1 + 1e-9)


def travel(limits: Limits, position: float, target: float, drift: float = 0.0) -> tuple[int, float]:
    """From rest to a reference that moves by `drift` per tick: ticks until it is kept, and how far it was passed."""
    velocity = acceleration = 0.0
    sign = math.copysign(1.0, target - position)
    passed, num_kept, num_ticks = 0.0, 0, 0
    while num_kept < 12:
        velocity, acceleration, lands = jerk_limit.follow(
            limits, velocity, acceleration, target - position, drift, drift, is_committed=False
        )
        position = target if lands else position + velocity
        assert not num_kept or lands, "it left the reference again"
        num_kept += lands
        passed = max(passed, sign * (position - target))
        target += drift
        num_ticks += 1
        assert num_ticks < 10_000, "it never arrives"
    return num_ticks - 12, passed


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 0.0, 0.5, -0.5]))
def test_a_step_and_a_ramp_are_reached_and_kept_and_a_step_is_never_passed(seed: int, share: float) -> None:
    rng = random.Random(seed)
    limits = draw_limits(rng, orders=1.5)
    start, target = rng.uniform(limits.low, limits.high), rng.uniform(limits.low, limits.high)
    distance, room = abs(target - start), limits.velocity * (1 - abs(share))
    ideal = distance / room + limits.velocity / limits.acceleration + limits.acceleration / limits.jerk
    ideal += (distance / limits.jerk) ** (1 / 3) + (distance / limits.acceleration) ** 0.5
    assume(ideal < 400)
    num_ticks, passed = travel(limits, start, target, share * limits.velocity)
    assert num_ticks <= 4 * ideal + 8
    if share == 0.0:  # a ramp may begin by running away from under a command that still stands
        assert passed <= 1e-5 * limits.jerk + 1e-12 * limits.high


def test_a_step_takes_about_as_long_as_it_has_to() -> None:
    """Four phases of full jerk move by 2 J t^3 in 4 t; with numbers, so that the travel cannot become timid."""
    limits = Limits(-10.0, 10.0, velocity=1e9, acceleration=1e9, jerk=1e-3)
    num_ticks, passed = travel(limits, 0.0, 2 * 1e-3 * 20**3)
    assert 80 <= num_ticks <= 84
    assert passed <= 1e-9


def test_an_odd_velocity_limit_does_not_loosen_the_others() -> None:
    """What counts as rounding is measured by the smallest limit and not by a velocity that nobody will reach."""
    limits = Limits(-1.5, 1.5, velocity=1e12, acceleration=1e-3, jerk=1e-4)
    velocity, acceleration, lands = jerk_limit.follow(limits, 0.0, 0.0, 0.5, 0.0, 0.0, is_committed=True)
    assert not lands
    assert velocity == acceleration == pytest.approx(1e-4)


def test_a_lowered_limit_and_a_counter_acceleration() -> None:
    """Slowly backwards with a strong forward acceleration, under a limit that was just lowered: only let go of it."""
    limits = Limits(-1.0, 1.0, velocity=1e-5, acceleration=1e-3, jerk=1e-4)
    low, high = jerk_limit.bounds(limits, -1e-6, 9e-4)
    assert low == high == pytest.approx(8e-4)
