from dataclasses import replace

import numpy as np
import pytest

from cerebella.envs.dynamic.insert_moving import InsertMoving
from cerebella.envs.dynamic.insert_moving_physics import (
    CHAMFER_M,
    HOLD_TICKS,
    HOLE_DEPTH_M,
    INSERTED,
    INSERTED_M,
    INSERTION_SPEED,
    JAM_LOAD_N,
    JAMMED,
    LEFT_WALL_M,
    MAX_SPEED,
    MIN_SPEED,
    PLAY_M,
    RIGHT_WALL_M,
    RUNNING,
    TIME,
    InsertMovingState,
)
from cerebella.envs.dynamic.insert_moving_picture import GAUGE_RGB, PEG_RGB
from cerebella.envs.dynamic.planar import LENGTH_M, TICK_S
from cerebella.types import FloatArray

TASK = InsertMoving()


def scene(error_m: float, depth_m: float, velocity: float = 0.06, load_n: float = 0.0) -> InsertMovingState:
    """The hole in the middle, the tip `error_m` to the left of its axis and `depth_m` below the surface."""
    state = TASK.reset([0], False)
    surface_m = np.array([0.2], dtype=np.float32)
    return replace(
        state,
        hole_x=np.array([0.24], dtype=np.float32),
        hole_velocity=np.array([velocity], dtype=np.float32),
        surface_m=surface_m,
        gripper=np.array([[0.24 - error_m, surface_m[0] + np.float32(depth_m)]], dtype=np.float32),
        force=np.array([[load_n, 0.0]], dtype=np.float32),
    )


def run(state: InsertMovingState, dx_m: float, dy_m: float, num_ticks: int) -> InsertMovingState:
    """Aim so far from the tip, anew at every tick, in a world without surprises."""
    for _ in range(num_ticks):
        action = state.gripper + np.array([[dx_m, dy_m]], dtype=np.float32)
        state = TASK.step(state, action.astype(np.float32), with_events=False)
    return state


def error_m(state: InsertMovingState) -> float:
    return float(state.hole_x[0] - state.gripper[0, 0])


def test_beside_the_hole_the_tip_rests_on_the_surface_and_rides_on_the_block() -> None:
    state = run(scene(0.02, -0.001), 0.0, 0.01, 2)
    assert state.depth_m[0] == 0.0
    assert state.force[0, 1] > 1.0
    later = run(state, 0.0, 0.01, 10)
    assert later.depth_m[0] == 0.0
    assert later.hole_x[0] > state.hole_x[0] + 0.015
    assert error_m(later) == pytest.approx(error_m(state), abs=1e-5)


def test_beside_the_block_it_rests_on_the_table() -> None:
    state = run(scene(0.06, -0.001), 0.0, 0.01, 2)
    later = run(state, 0.0, 0.01, 10)
    assert later.gripper[0, 0] == pytest.approx(state.gripper[0, 0], abs=1e-5)


def test_a_pressed_tip_must_lift_to_move() -> None:
    pressed = run(scene(0.03, 0.0), 0.008, 0.010, 5)
    assert error_m(pressed) == pytest.approx(0.03, abs=1e-5)
    lifted = run(scene(0.03, 0.0), 0.008, -0.002, 5)
    assert error_m(lifted) < 0.03 - 0.008


def test_the_rim_guides_a_tip_that_is_nearly_right() -> None:
    near = run(scene(PLAY_M + 0.7 * CHAMFER_M, 0.0), 0.0, 0.01, 6)
    assert near.depth_m[0] > 0.002
    far = run(scene(PLAY_M + 1.3 * CHAMFER_M, 0.0), 0.0, 0.01, 6)
    assert far.depth_m[0] == 0.0


def test_inside_the_descent_is_slow_and_ends_at_the_bottom() -> None:
    state = run(scene(0.0, 0.010, velocity=MIN_SPEED), 0.0, 0.05, 5)
    assert state.depth_m[0] == pytest.approx(0.010 + 5 * INSERTION_SPEED * TICK_S, abs=1e-5)
    loaded = run(scene(0.0, 0.010, velocity=MIN_SPEED, load_n=0.9 * JAM_LOAD_N), 0.0, 0.05, 5)
    assert loaded.depth_m[0] < state.depth_m[0] - 0.001
    bottom = run(scene(0.0, HOLE_DEPTH_M - 0.0005), 0.0, 0.05, 4)
    assert bottom.depth_m[0] == pytest.approx(HOLE_DEPTH_M, abs=1e-6)
    out = run(scene(0.0, 0.010), 0.0, -0.05, 2)
    assert out.depth_m[0] < 0.0


def test_the_walls_carry_the_tip_and_a_command_elsewhere_jams_it() -> None:
    state = scene(0.0, 0.010, velocity=-0.15)
    away = np.array([[0.30, 0.2 + 0.012]], dtype=np.float32)
    loads = []
    for _ in range(20):
        state = TASK.step(state, away, with_events=False)
        loads.append(float(state.force[0, 0]))
        assert abs(error_m(state)) <= PLAY_M + 1e-5
        if state.outcome[0] != RUNNING:
            break
    assert state.outcome[0] == JAMMED
    assert 6 <= len(loads) <= 10
    assert np.all(np.diff(loads) > 0.0)


def test_a_short_deviation_is_forgiven() -> None:
    state = scene(0.0, 0.010, velocity=-0.15)
    for _ in range(4):
        state = TASK.step(state, np.array([[0.30, 0.212]], dtype=np.float32), with_events=False)
    style = TASK.steady_style(1)
    while state.is_running[0]:
        state = TASK.step(state, TASK.expert_command(state, style), with_events=False)
    assert state.outcome[0] == INSERTED


def test_depth_must_be_held() -> None:
    state = run(scene(0.0, INSERTED_M - 0.0005), 0.002, 0.01, HOLD_TICKS - 1)
    assert state.outcome[0] == RUNNING
    assert run(state, 0.002, 0.01, 1).outcome[0] == INSERTED
    assert run(state, 0.002, -0.03, 1).ticks_held[0] == 0


def test_an_idle_robot_runs_out_of_time() -> None:
    state = run(scene(0.1, -0.05), 0.0, 0.0, TASK.max_ticks)
    assert state.outcome[0] == TIME


def test_without_events_the_block_only_turns_at_the_walls() -> None:
    state = TASK.reset(range(50), True)
    speed = np.abs(state.hole_velocity)
    for _ in range(100):
        after = TASK.step(state, state.gripper, with_events=False)
        turned = np.sign(after.hole_velocity) != np.sign(state.hole_velocity)
        to_wall_m = np.minimum(state.hole_x - LEFT_WALL_M, RIGHT_WALL_M - state.hole_x)
        assert np.all(to_wall_m[turned] <= MAX_SPEED * TICK_S + 1e-6)
        np.testing.assert_allclose(np.abs(after.hole_velocity), speed)
        state = after


def test_the_block_changes_its_velocity_about_once_a_second_and_stays_in_range() -> None:
    state = TASK.reset(range(400), True)
    num_changes = 0
    for tick in range(90):
        foreseen = TASK.step(state, state.gripper, with_events=False)
        state = TASK.step(state, state.gripper)
        is_scheduled = (state.change_tick == tick + 1).any(axis=1) & (state.perturbation_tick != tick + 1)
        change = np.abs(state.hole_velocity - foreseen.hole_velocity)
        num_changes += int(is_scheduled.sum())
        assert np.all(change[is_scheduled] > 0.03)
        assert np.all((state.hole_x >= LEFT_WALL_M - 1e-6) & (state.hole_x <= RIGHT_WALL_M + 1e-6))
        assert np.all(
            (np.abs(state.hole_velocity) > MIN_SPEED - 1e-6) & (np.abs(state.hole_velocity) < MAX_SPEED + 1e-6)
        )
    assert 1.0 < num_changes / (400 * 3.0) < 2.0


def test_a_perturbation_calls_for_another_command_at_once() -> None:
    seeds = range(600)
    state, twin, style = TASK.reset(seeds, True), TASK.reset(seeds, False), TASK.steady_style(600)
    difference_m = np.full(600, np.nan)
    for tick in range(31):
        is_now = state.perturbation_tick == tick
        command, other = TASK.expert_command(state, style), TASK.expert_command(twin, style)
        difference_m[is_now] = np.abs(command - other).max(axis=1)[is_now]
        state, twin = TASK.step(state, command), TASK.step(twin, other)
    assert np.min(difference_m) > 0.005
    assert np.isfinite(difference_m).all()


def rolled(perturbation: bool, num_rows: int, delay: int, style: FloatArray) -> tuple[float, float]:
    """Chunks of so many rows, each `delay` ticks late (a multiple of `num_rows`) and begun at its row `delay`.

    Returns:
        The share inserted, and the share in which the block changed its velocity around the tip.
    """
    state = TASK.reset(range(1000, 1000 + len(style)), perturbation)
    saw_change = np.zeros(len(state), dtype=bool)
    held = np.repeat(state.gripper[:, None], num_rows, axis=1)
    waiting = [held] * (delay // num_rows)
    while state.is_running.any():
        waiting.append(TASK.expert_plan(state, style, delay + num_rows)[:, delay:])
        for row in waiting.pop(0).swapaxes(0, 1):
            after = TASK.step(state, np.ascontiguousarray(row))
            is_changed = after.hole_velocity != state.hole_velocity
            saw_change |= is_changed & (state.depth_m > 0.0) & state.is_running
            state = after
    return float(np.mean(state.outcome == INSERTED)), float(np.mean(saw_change))


@pytest.mark.parametrize("perturbation", [False, True])
def test_the_expert_inserts_and_stale_plans_do_not(perturbation: bool) -> None:
    steady, random = TASK.steady_style(200), TASK.random_style(200, np.random.default_rng(0))
    success, saw_change = rolled(perturbation, 1, 0, steady)
    assert success >= 0.97
    assert saw_change >= 0.8
    assert rolled(perturbation, 1, 0, random)[0] >= 0.97
    assert rolled(perturbation, 8, 0, steady)[0] >= 0.85
    assert rolled(perturbation, 8, 8, steady)[0] <= 0.6


def test_the_picture_shows_tip_hole_and_velocity() -> None:
    state = TASK.reset(range(8), False)
    state = replace(state, light=np.ones(8, dtype=np.float32))
    pixel_m = LENGTH_M / 576
    pictures = TASK.render(state, 384, 576).astype(int)
    for i in range(8):
        is_peg = np.abs(pictures[i] - PEG_RGB).sum(axis=-1) < 6
        v, u = np.nonzero(is_peg)
        assert (u.mean() + 0.5) * pixel_m == pytest.approx(state.gripper[i, 0], abs=0.001)
        assert (v.max() + 1) * pixel_m == pytest.approx(state.gripper[i, 1], abs=0.001)
        hole = pictures[i, int((state.surface_m[i] + 0.02) / pixel_m), int(state.hole_x[i] / pixel_m)]
        assert hole.max() < 40
        u_gauge = np.nonzero((np.abs(pictures[i] - GAUGE_RGB).sum(axis=-1) < 6).any(axis=0))[0]
        to_the_right_m = (u_gauge.mean() + 0.5) * pixel_m - state.hole_x[i]
        assert np.sign(to_the_right_m) == np.sign(state.hole_velocity[i])
        assert abs(to_the_right_m) == pytest.approx(0.125 * abs(state.hole_velocity[i]), abs=0.001)
