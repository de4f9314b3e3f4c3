from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.envs.dynamic.intercept import CAUGHT, TIME, Intercept
from cerebella.envs.dynamic.intercept_physics import (
    CATCH_RADIUS_M,
    CATCH_TICKS,
    HIGH_M,
    LOW_M,
    MAX_HIT_RAD,
    MAX_PUCK_SPEED,
    MIN_HIT_RAD,
    MIN_PUCK_SPEED,
    InterceptState,
    mirrored,
)
from cerebella.envs.dynamic.planar import TICK_S

from .stale_plans import share_solved

TASK = Intercept()


def scene(puck: tuple[float, float], velocity: tuple[float, float], seed: int = 3) -> InterceptState:
    """One scene without a perturbation."""
    return replace(
        TASK.reset([seed], False),
        puck=np.array([puck], dtype=np.float32),
        puck_velocity=np.array([velocity], dtype=np.float32),
    )


def stay(state: InterceptState, with_events: bool = True) -> InterceptState:
    return TASK.step(state, state.gripper, with_events)


def speed(state: InterceptState) -> np.ndarray:
    return np.linalg.norm(state.puck_velocity, axis=1)


def turned_by(before: InterceptState, after: InterceptState) -> np.ndarray:
    """Angle between the velocities, 0..pi rad."""
    cosine = (before.puck_velocity * after.puck_velocity).sum(axis=1) / (speed(before) * speed(after))
    return np.arccos(np.clip(cosine, -1.0, 1.0))


@settings(max_examples=60, deadline=None)
@given(x=st.floats(-1.0, 1.5), y=st.floats(-1.0, 1.5))
def test_mirrors_keep_the_puck_inside(x: float, y: float) -> None:
    point = mirrored(np.array([[x, y]]))
    assert (point >= LOW_M - 1e-6).all()
    assert (point <= HIGH_M + 1e-6).all()
    np.testing.assert_allclose(mirrored(point), point, atol=1e-6)


def test_without_events_a_wall_is_a_mirror() -> None:
    state = scene((float(HIGH_M[0]) - 0.004, 0.16), (0.3, 0.1))
    after = stay(state, with_events=False)
    np.testing.assert_allclose(after.puck_velocity, [[-0.3, 0.1]], atol=1e-7)
    np.testing.assert_allclose(after.puck, [[HIGH_M[0] + 0.004 - 0.01, 0.16 + 0.1 * TICK_S]], atol=1e-6)


def test_mirrors_alone_are_what_the_expert_foresees() -> None:
    first = state = TASK.reset(range(100), False)
    for num_ticks in range(1, 41):
        state = stay(state, with_events=False)
        foreseen = mirrored(first.puck + first.puck_velocity * (num_ticks * TICK_S))
        np.testing.assert_allclose(state.puck, foreseen, atol=1e-5)


def test_a_bounce_turns_the_puck_away_from_its_mirror_image_and_off_the_wall() -> None:
    state = TASK.reset(range(400), False)
    num_bounces, unlike, speeds = 0, [], []
    for _ in range(TASK.max_ticks):
        after, foreseen = stay(state), stay(state, with_events=False)
        assert (after.puck >= LOW_M - 1e-6).all()
        assert (after.puck <= HIGH_M + 1e-6).all()
        bounced = after.num_bounces > state.num_bounces
        np.testing.assert_array_equal(after.puck_velocity[~bounced], state.puck_velocity[~bounced])
        unlike.extend(turned_by(foreseen, after)[bounced])
        speeds.extend(speed(after)[bounced])
        free = state.puck + state.puck_velocity * np.float32(TICK_S)
        assert (after.puck_velocity[free < LOW_M] > 0.0).all()
        assert (after.puck_velocity[free > HIGH_M] < 0.0).all()
        num_bounces += int(bounced.sum())
        state = after
    assert num_bounces / 400 > 3.0
    assert np.mean(np.array(unlike) > np.deg2rad(15.0)) > 0.6
    assert min(speeds) >= MIN_PUCK_SPEED - 1e-6
    assert max(speeds) <= MAX_PUCK_SPEED + 1e-6
    assert np.ptp(speeds) > 0.1


def test_a_plan_from_before_a_bounce_is_wrong_after_it() -> None:
    state = TASK.reset(range(400), False)
    foreseen = actual = state
    for _ in range(16):
        foreseen, actual = stay(foreseen, with_events=False), stay(actual)
    miss_m = np.linalg.norm(foreseen.puck - actual.puck, axis=1)
    has_bounced = actual.num_bounces > 0
    assert has_bounced.mean() > 0.3
    assert miss_m[~has_bounced].max() < 1e-6
    assert np.median(miss_m[has_bounced]) > 2 * CATCH_RADIUS_M


def test_the_perturbation_turns_the_puck_and_keeps_its_speed() -> None:
    state = TASK.reset(range(300), True)
    angles = []
    for _ in range(31):
        after = stay(state)
        is_hit = (state.perturbation_tick == after.tick) & (after.num_bounces == state.num_bounces)
        angles.extend(turned_by(state, after)[is_hit])
        np.testing.assert_allclose(speed(after)[is_hit], speed(state)[is_hit], rtol=1e-5)
        state = after
    assert len(angles) > 200
    assert min(angles) >= MIN_HIT_RAD - 1e-3
    assert max(angles) <= MAX_HIT_RAD + 1e-3


def test_staying_at_the_puck_catches_it() -> None:
    state = scene((0.2, 0.15), (0.0, 0.0))
    state = replace(state, gripper=state.puck + np.array([[0.9 * CATCH_RADIUS_M, 0.0]], dtype=np.float32))
    for tick in range(1, CATCH_TICKS + 1):
        assert state.outcome[0] == 0
        state = stay(state)
        assert state.ticks_near[0] == tick
    assert state.outcome[0] == CAUGHT


def test_leaving_the_puck_starts_the_count_again() -> None:
    state = scene((0.2, 0.15), (0.0, 0.0))
    state = stay(replace(state, gripper=state.puck.copy(), ticks_near=np.array([CATCH_TICKS - 2], dtype=np.int32)))
    assert state.ticks_near[0] == CATCH_TICKS - 1
    state = stay(replace(state, gripper=state.puck + np.float32(CATCH_RADIUS_M)))
    assert (state.ticks_near[0], state.outcome[0]) == (0, 0)


def test_waiting_in_a_corner_catches_nothing() -> None:
    state = TASK.reset(range(20), False)
    for _ in range(TASK.max_ticks):
        state = TASK.step(state, np.zeros((20, 2), dtype=np.float32))
    assert (state.outcome == TIME).all()


def test_demonstrators_of_every_style_catch_it() -> None:
    state = TASK.reset(range(200), True)
    style = TASK.random_style(200, np.random.default_rng(0))
    for _ in range(TASK.max_ticks):
        state = TASK.step(state, TASK.expert_command(state, style))
    assert (state.outcome == CAUGHT).mean() >= 0.95


def test_swings_go_to_either_side() -> None:
    state = scene((0.40, 0.16), (0.0, 0.0))
    state = replace(state, gripper=np.array([[0.10, 0.16]], dtype=np.float32)).take(np.zeros(2, dtype=np.int32))
    style = np.array([[0.4, 0.4], [0.4, -0.4]], dtype=np.float32)
    for _ in range(8):
        state = TASK.step(state, TASK.expert_command(state, style))
    assert state.gripper[0, 1] > 0.17
    assert state.gripper[1, 1] < 0.15


@pytest.mark.parametrize("perturbation", [False, True])
def test_stale_plans_lose_the_puck(perturbation: bool) -> None:
    assert share_solved(TASK, 0, perturbation) >= 0.95
    assert share_solved(TASK, 8, perturbation) <= 0.7
