"""Every command within range, velocity, acceleration and jerk, whatever is asked; and always able to stop."""

import math
import random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cerebella.embodiment import Kind
from cerebella.geometry import so3_exp
from cerebella.runtime import turns
from cerebella.runtime.motion import MotionLimiter, MotionState, Vector

from .mixed_robot import (
    GRIPPER,
    MOVING,
    ORDINARY,
    ROTATION,
    SINGLE,
    SPEED,
    Watch,
    limits_of,
    make_robot,
    travel_ticks,
)

SEEDS = st.integers(0, 2**40)
RATES_HZ = (30.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 443.21)


def draw_robot(rng: random.Random, is_absurd: bool = False) -> MotionLimiter:
    """Limits within two orders of magnitude of each other, or anything from 1e-6 to 1e12."""

    def choose(kind: Kind) -> tuple[float, float, float, float, float]:
        half = 10 ** (rng.uniform(-3, 4) if is_absurd else rng.uniform(-1, 1))
        low, high = -half * rng.random(), half * rng.uniform(0.1, 1)
        if kind == "rotation":
            low, high = -6.0, 6.0
        if is_absurd:
            most = 1.5 if kind == "rotation" else 12  # more than half a turn per tick says nothing about the direction
            return low, high, 10 ** rng.uniform(-6, most), 10 ** rng.uniform(-6, 12), 10 ** rng.uniform(-6, 12)
        velocity = 10 ** rng.uniform(-1, 1)
        acceleration = velocity * 10 ** rng.uniform(0, 2)
        return low, high, velocity, acceleration, acceleration * 10 ** rng.uniform(0, 2)

    return MotionLimiter(embodiment := make_robot(rng.choice(RATES_HZ), choose), embodiment.control_hz)


def draw_point(rng: random.Random, limiter: MotionLimiter, on_edge: bool = False) -> Vector:
    pick = rng.choice if on_edge else lambda ends: rng.uniform(*ends)
    values = np.asarray([pick((a.low, a.high)) for a in limiter.embodiment.actions])
    axis = np.asarray([rng.gauss(0, 1) for _ in ROTATION])
    values[ROTATION] = axis / np.linalg.norm(axis) * rng.uniform(0, math.pi)
    return values


def trouble(rng: random.Random, limiter: MotionLimiter, num_ticks: int) -> None:
    """References that jump, race, tremble, stand on an edge or lie far outside, stops, promises, changes of speed."""
    embodiment = limiter.embodiment
    limiter.reset(draw_point(rng, limiter))
    watch, limits = Watch(limiter), limits_of(embodiment)
    reference, kind, speed = limiter.state.position.copy(), "jump", 1.0
    drift = np.zeros(embodiment.action_dim)
    for _ in range(num_ticks):
        if rng.random() < 0.15:
            kind = rng.choice(["jump", "edge", "ramp", "tremble", "wild", "here", "stop", "hold"])
            drift = np.zeros(embodiment.action_dim)
        if rng.random() < 0.1:
            speed = rng.choice([1.0, rng.uniform(0.01, 1.0), 1e-3])
        if kind in ("jump", "edge") and rng.random() < 0.2:
            reference = draw_point(rng, limiter, kind == "edge")
        elif kind == "ramp":
            if rng.random() < 0.1:
                drift = np.asarray([rng.uniform(-1.2, 1.2) * limit.velocity for limit in limits])
            reference = reference + drift
        elif kind == "tremble":
            reference = reference + [rng.gauss(0, 1) * min(limit.jerk, 1.0) for limit in limits]
        elif kind == "wild":
            reference = np.asarray([rng.uniform(-1, 1) * 10 ** rng.uniform(-12, 12) for _ in limits])
            reference[ROTATION] = np.clip(reference[ROTATION], -50, 50)
        elif kind == "here":
            reference = limiter.state.position.copy()
        if kind == "stop":
            watch.judge(limiter.stop())
            continue
        following = draw_point(rng, limiter) if rng.random() < 0.05 else reference + drift
        watch.judge(limiter.follow(reference, following, is_committed=rng.random() < 0.2, speed=speed), speed)
    if (most := watch.stop_ticks()) < 3000:
        watch.stop(most)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_no_reference_brings_a_command_beyond_a_limit(seed: int) -> None:
    rng = random.Random(seed)
    trouble(rng, draw_robot(rng), num_ticks=80)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_not_even_under_limits_of_very_different_size(seed: int) -> None:
    rng = random.Random(seed)
    trouble(rng, draw_robot(rng, is_absurd=True), num_ticks=80)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_a_point_is_reached_exactly_and_kept(seed: int) -> None:
    """From rest or from within a motion; no circling around it, at no rate."""
    rng = random.Random(seed)
    limiter = draw_robot(rng)
    limiter.reset(draw_point(rng, limiter))
    goal = draw_point(rng, limiter)
    for _ in range(rng.choice([0, 40])):
        if rng.random() < 0.1:
            goal = draw_point(rng, limiter)
        limiter.follow(goal, goal)
    gaps = np.abs(limiter._gap(limiter.state.position, goal))  # pyright: ignore[reportPrivateUsage]
    limits = limits_of(limiter.embodiment)
    most = max(travel_ticks(limits[j], gaps[j]) for j in (*MOVING, GRIPPER))
    most += max(limit.velocity / limit.acceleration + limit.acceleration / limit.jerk for limit in limits)
    assume(most < 1000)
    num_ticks = 0
    while not limiter.is_on_reference or num_ticks == 0:
        limiter.follow(goal, goal)
        num_ticks += 1
        assert num_ticks < 4 * most + 20
    for _ in range(40):
        limiter.follow(goal, goal)
        assert limiter.is_on_reference
    assert limiter.stands_still
    np.testing.assert_allclose(limiter.state.position[SINGLE], np.clip(goal, limiter.low, limiter.high)[SINGLE])
    assert limiter.distance(goal) < 1e-3


def smooth(limiter: MotionLimiter, duration_s: float) -> Vector:
    """From rest to rest, half as steep as every limit allows: float64[num_ticks, action_dim]."""
    time = np.arange(0.0, 1.0, 1.0 / (duration_s * limiter.embodiment.control_hz))
    shape = (time * (1 - time)) ** 4 * 4**4 * np.sin(math.tau * time)
    columns = []
    for action in limiter.embodiment.actions:
        steepest = [np.abs(np.gradient(shape, time)).max() / duration_s]
        for _ in range(2):
            steepest.append(50 * steepest[-1] / duration_s)
        limits = action.max_velocity, action.max_acceleration, action.max_jerk
        size = min(action.high / 2, *(limit / slope for limit, slope in zip(limits, steepest, strict=True)))
        columns.append(0.5 * size * shape)
    return np.stack(columns, axis=1)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_what_can_be_done_is_done_bit_for_bit(seed: int) -> None:
    """The commands of one limiter, whatever it was asked, are a reference that another one repeats."""
    rng = random.Random(seed)
    limiter = draw_robot(rng)
    limiter.reset(start := draw_point(rng, limiter))
    wanted = []
    goal = start
    for _ in range(100):
        if rng.random() < 0.05:
            goal = draw_point(rng, limiter)
        limiter.follow(goal, goal)
        wanted.append(limiter.state.position)
    other = MotionLimiter(limiter.embodiment, limiter.embodiment.control_hz)
    other.reset(start)
    for k in range(len(wanted) - 1):
        sent = other.follow(wanted[k], wanted[k + 1], is_committed=True)
        assert other.is_on_reference
        assert other.state.position.tobytes() == wanted[k].tobytes()
        assert sent.tobytes() == wanted[k].astype(np.float32).tobytes()


@pytest.mark.parametrize("control_hz", RATES_HZ)
def test_a_smooth_reference_is_followed_bit_for_bit_without_a_promise(control_hz: float) -> None:
    limiter = MotionLimiter(make_robot(control_hz), control_hz)
    wanted = smooth(limiter, 2.0)
    limiter.reset(wanted[0])
    watch = Watch(limiter)
    for k in range(1, len(wanted) - 1):
        watch.judge(limiter.follow(wanted[k], wanted[k + 1]))
        assert limiter.is_on_reference, k
        assert limiter.state.position.tobytes() == wanted[k].tobytes()
    assert np.ptp(wanted, axis=0).min() > 1e-2, "it did not even move"


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_steady_turn_and_ramp_are_caught_and_kept(seed: int) -> None:
    rng = random.Random(seed)
    hz = rng.choice(RATES_HZ)
    limiter = MotionLimiter(make_robot(hz, lambda kind: (-1e3, 1e3, *ORDINARY)), hz)
    limiter.reset(np.zeros(9))
    reference = np.asarray([rng.uniform(-0.5, 0.5) for _ in range(9)])
    pace = np.asarray([rng.uniform(-0.5, 0.5) * limit.velocity for limit in limits_of(limiter.embodiment)])

    def after(values: Vector) -> Vector:
        following = values + pace
        following[ROTATION] = turns.turned(values[ROTATION].tolist(), pace[ROTATION].tolist())
        return following

    num_off = 0
    for k in range(round(4 * hz)):
        following = after(reference)
        limiter.follow(reference, following)
        assert limiter.is_on_reference or num_off == k, "it lost the reference again"
        num_off += not limiter.is_on_reference
        reference = following
    assert num_off < 2.5 * hz


def test_a_lowered_speed_is_reached_within_the_other_limits() -> None:
    limiter = MotionLimiter(make_robot(100.0), 100.0)
    limiter.reset(np.zeros(9))
    watch = Watch(limiter)
    for _ in range(40):
        watch.judge(limiter.follow(np.full(9, 1.4), np.full(9, 1.4)))
    fast = limiter.state.velocity[0]
    assert fast > 0.5 * watch.limits[0].velocity
    for _ in range(30):
        watch.judge(limiter.follow(np.full(9, 1.4), np.full(9, 1.4), speed=0.1), speed=0.1)
    assert limiter.state.velocity[0] == pytest.approx(0.1 * watch.limits[0].velocity)
    for _ in range(40):
        watch.judge(limiter.follow(np.full(9, 1.4), np.full(9, 1.4)))
    assert limiter.state.velocity[0] > 0.15 * watch.limits[0].velocity, "the full speed is there again"


def test_rest_at_the_edge_of_the_range_is_no_trap() -> None:
    """All the way to an end, exactly, and back; ends that float32 and float64 cannot both hold."""
    for high in (0.1, 0.3, 1.1, 480.74496276769054):
        limiter = MotionLimiter(
            make_robot(100.0, lambda kind, high=high: (-high, high, 2 * high, 15 * high, 300 * high)), 100.0
        )
        limiter.reset(np.zeros(9))
        watch = Watch(limiter)
        for goal in (high, -high, high):
            for _ in range(180):
                sent = limiter.follow(np.full(9, goal), np.full(9, goal))
                watch.judge(sent)
                if sent[0] == np.float32(goal) and limiter.stands_still:
                    break
            else:
                pytest.fail(f"{goal} not reached: {limiter.state.position}")


# Grippers and velocities


def test_grippers_go_straight_to_their_target_at_their_speed() -> None:
    limiter = MotionLimiter(make_robot(100.0, lambda kind: (0.0, 1.0, 20.0, 1e-3, 1e-3)), 100.0)
    limiter.reset(np.zeros(9))
    goal = np.full(9, 3.0)
    sent = [limiter.follow(goal, goal)[GRIPPER] for _ in range(7)]
    np.testing.assert_allclose(sent, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0], rtol=1e-6)
    assert limiter.stop()[GRIPPER] == 1.0


def test_a_velocity_stops_at_zero_inside_its_range() -> None:
    for low, high in ((-1.5, 1.5), (0.0, 1.5), (-1.5, 0.0)):
        limiter = MotionLimiter(
            make_robot(100.0, lambda kind, low=low, high=high: (low, high, 2.0, 15.0, 300.0)), 100.0
        )
        limiter.reset(np.full(9, (low + high) / 2))
        watch = Watch(limiter)
        for _ in range(25):
            watch.judge(limiter.follow(np.full(9, high), np.full(9, high)))
        assert not limiter.is_at_rest
        watch.stop(300)
        assert limiter.state.position[SPEED] == 0.0
        assert limiter.state.position[0] != 0.0
        for _ in range(5):
            before = limiter.state.position.tobytes()
            watch.judge(limiter.stop())
            assert limiter.state.position.tobytes() == before


def test_a_velocity_whose_range_leaves_zero_out_stops_at_the_nearest() -> None:
    limiter = MotionLimiter(make_robot(100.0, lambda kind: (0.5, 1.5, 2.0, 15.0, 300.0)), 100.0)
    limiter.reset(np.full(9, 1.0))
    Watch(limiter).stop(300)
    assert limiter.state.position[SPEED] == 0.5


# Rotations


def test_a_rotation_goes_through_half_a_turn_without_a_jump() -> None:
    """Twice around about one axis; the wanted numbers jump at pi, the commands do not."""
    limiter = MotionLimiter(make_robot(100.0), 100.0)
    limiter.reset(np.zeros(9))
    watch = Watch(limiter)
    axis = np.asarray([0.6, 0.0, 0.8])
    angle, speed, sent = 0.0, 0.0, []

    def wanted(angle: float) -> Vector:
        values = np.zeros(9)
        values[ROTATION] = axis * math.remainder(angle, math.tau)
        return values

    for _ in range(900):
        speed = min(speed + 2e-4, 0.016)
        watch.judge(limiter.follow(wanted(angle), wanted(angle + speed)))
        sent.append(limiter.state.position[ROTATION] @ axis)
        angle += speed
    assert np.abs(np.diff(sent)).max() < 0.02
    assert sent[-1] > 12.0
    np.testing.assert_allclose(so3_exp(limiter.state.position[ROTATION]), so3_exp(axis * (angle - speed)), atol=1e-9)


def test_the_smallest_turns_are_turns() -> None:
    """1e-7 rad per tick, a thousand times per second: measured like any other motion, not taken for rest."""
    limiter = MotionLimiter(make_robot(1000.0, lambda kind: (-6.0, 6.0, 1e-3, 1e-2, 1e-1)), 1000.0)
    limiter.reset(np.zeros(9))
    watch = Watch(limiter)
    goal = np.zeros(9)
    goal[ROTATION] = 1e-6, -2e-6, 5e-7
    for _ in range(150):
        watch.judge(limiter.follow(goal, goal))
    np.testing.assert_allclose(limiter.state.position[ROTATION], goal[ROTATION], rtol=1e-9)


@settings(deadline=None)
@given(SEEDS, st.sampled_from([1.0, 1e-3, 1e-7, 1e-12]))
def test_turns_agree_with_geometry(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    start, step = rng.uniform(-4, 4, 3), rng.normal(size=3)
    step *= size * rng.uniform(0, 3.1) / np.linalg.norm(step)
    reached = np.asarray(turns.turned(start.tolist(), step.tolist()))
    np.testing.assert_allclose(so3_exp(reached), so3_exp(start) @ so3_exp(step), rtol=0, atol=1e-12)
    np.testing.assert_allclose(turns.between(start.tolist(), reached.tolist()), step, rtol=0, atol=1e-14)
    assert turns.between(start.tolist(), start.tolist()) == (0.0, 0.0, 0.0)
    others = [reached * (1 + k * math.tau / np.linalg.norm(reached)) for k in (-2, -1, 1, 2)]
    assert all(np.linalg.norm(reached - start) <= np.linalg.norm(other - start) + 1e-9 for other in others)


def test_the_nearest_numbers_of_no_rotation_are_whole_turns_of_the_reference() -> None:
    assert turns.nearest((0.0, 0.0, 0.0), (0.0, 0.0, 6.0)) == pytest.approx((0.0, 0.0, math.tau))
    assert turns.nearest((0.0, 0.0, 0.0), (0.0, 0.0, 1.0)) == (0.0, 0.0, 0.0)
    assert turns.nearest((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)) == (0.0, 0.0, 0.0)
    assert turns.nearest((0.1, 0.2, 0.3), (0.0, 0.0, 0.0)) == (0.1, 0.2, 0.3)


# Distances and states


def test_distances_count_ticks_at_full_velocity() -> None:
    limiter = MotionLimiter(make_robot(100.0), 100.0)
    limiter.reset(np.zeros(9))
    values = np.zeros(9)
    values[0] = 0.5
    assert limiter.distance(values) == pytest.approx(0.5 / (2.0 / 100.0))
    values[ROTATION] = 0.0, 0.0, 1.0
    assert limiter.distance(values) == pytest.approx(1.0 / (2.0 / 100.0))
    values[ROTATION] = 0.0, 0.0, math.tau + 0.1
    assert limiter.gap(np.zeros(9), values) == pytest.approx(25.0)
    assert limiter.gap(values, values) == 0.0


def test_a_lag_counts_what_is_measured_and_follows() -> None:
    limiter = MotionLimiter(make_robot(100.0), 100.0)
    limiter.reset(np.zeros(9))
    state = np.zeros(9, dtype=np.float32)
    assert limiter.lag_s(state) == 0.0
    state[[GRIPPER, SPEED]] = 1.0
    assert limiter.lag_s(state) == 0.0, "a gripper may hold something; a velocity is no place"
    state[6] = 1.0
    assert limiter.lag_s(state) == pytest.approx(0.5)
    state[ROTATION] = 0.0, 0.0, 1.4
    assert limiter.lag_s(state) == pytest.approx(0.7)


def test_a_state_can_be_set_back() -> None:
    limiter = MotionLimiter(make_robot(100.0), 100.0)
    limiter.reset(np.zeros(9))
    goal = np.full(9, 0.7)
    limiter.follow(goal, goal)
    state: MotionState = limiter.state
    first = [limiter.follow(goal, goal).tobytes() for _ in range(20)]
    limiter.state = state
    assert [limiter.follow(goal, goal).tobytes() for _ in range(20)] == first
