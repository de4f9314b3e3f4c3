from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from cerebella.envs.dynamic.environment import DynamicEnvironment, DynamicExpert
from cerebella.envs.dynamic.mode_switch import HIT, REACHED, ModeSwitch
from cerebella.envs.dynamic.mode_switch_expert import CLEARANCE_M, CONTACT_M, MAX_PREFERENCE_M, STEADY_SPEED
from cerebella.envs.dynamic.mode_switch_state import NUM_GOALS, ModeSwitchState
from cerebella.envs.dynamic.task import LAST_PERTURBATION_TICK
from cerebella.evaluation.rollout import rollout_virtual
from cerebella.evaluation.suites import executor_config
from cerebella.interfaces import Environment
from cerebella.types import FloatArray

TASK = ModeSwitch()
NUM = 200


def scene(obstacle: tuple[float, float] | None, goal: tuple[float, float] = (0.44, 0.16)) -> ModeSwitchState:
    """The gripper at the left edge in the middle, and nothing that would happen by itself."""
    drawn = TASK.reset([0], perturbation=False)
    return replace(
        drawn,
        gripper=np.array([[0.04, 0.16]], dtype=np.float32),
        goals=np.array([[goal, (0.04, 0.16)]], dtype=np.float32),
        obstacle=np.array([obstacle or (0.0, 0.0)], dtype=np.float32),
        is_present=np.array([obstacle is not None]),
        has_jumped=np.ones_like(drawn.has_jumped),
    )


def style(preference_m: float) -> FloatArray:
    return np.array([[STEADY_SPEED, preference_m]], dtype=np.float32)


def run(state: ModeSwitchState, styles: FloatArray, num_ticks: int = TASK.max_ticks) -> list[ModeSwitchState]:
    states = [state]
    for _ in range(num_ticks):
        states.append(TASK.step(states[-1], TASK.expert_command(states[-1], styles)))
    return states


@pytest.mark.parametrize("perturbation", [False, True])
def test_whoever_reacts_at_once_gets_past(perturbation: bool) -> None:
    start = TASK.reset(np.arange(NUM), perturbation)
    for styles in (TASK.steady_style(NUM), TASK.random_style(NUM, np.random.default_rng(0))):
        states = run(start, styles)
        assert (states[-1].outcome == REACHED).mean() >= 0.97
        num_ticks = np.argmax([~state.is_running for state in states], axis=0)
        assert 60 <= num_ticks.min() <= num_ticks.max() < TASK.max_ticks
        assert 80 < num_ticks.mean() < 140


@pytest.mark.parametrize("offset_m", [-0.01, 0.0, 0.01])
def test_both_sides_are_right_and_their_mean_is_a_hit(offset_m: float) -> None:
    start = scene((0.20, 0.16 + offset_m))
    plans = []
    for preference_m, side in ((MAX_PREFERENCE_M, -1.0), (-MAX_PREFERENCE_M, 1.0)):
        states = run(start, style(preference_m))
        on_way = [state for state in states if state.num_reached[0] == 0]
        beside = min(on_way, key=lambda state: abs(float(state.gripper[0, 0]) - 0.20))
        assert side * (beside.gripper[0, 1] - beside.obstacle[0, 1]) > CONTACT_M  # y runs down: left is above
        assert states[-1].outcome[0] == REACHED
        plans.append(TASK.expert_plan(start, style(preference_m), 60))
    state = start
    for row in np.mean(plans, axis=0).swapaxes(0, 1):
        state = TASK.step(state, row)
    assert state.outcome[0] == HIT


def test_who_has_turned_to_a_side_keeps_to_it() -> None:
    state = scene((0.20, 0.16))
    turned = run(state, style(MAX_PREFERENCE_M), 16)[-1]  # left
    assert (turned.gripper[0, 1] - state.gripper[0, 1]) < -0.02
    stays, other = TASK.expert_plan(turned, style(0.0), 20), TASK.expert_plan(turned, style(MAX_PREFERENCE_M), 20)
    np.testing.assert_array_equal(stays, other)


def test_the_middle_is_a_hit_and_the_way_around_keeps_its_distance() -> None:
    start = scene((0.20, 0.165))
    state = start
    while state.is_running[0] and state.gripper[0, 0] < 0.30:
        state = TASK.step(state, state.gripper + np.array([[0.02, 0.0]], dtype=np.float32))
    assert state.outcome[0] == HIT
    assert state.gripper[0, 0] < 0.20 - 0.5 * CONTACT_M
    around = run(start, TASK.steady_style(1), 60)
    assert around[-1].nearest_m[0] == pytest.approx(CLEARANCE_M, abs=5e-4)
    # A move that jumps from one side of the obstacle to the other passes through it.
    near = replace(start, gripper=np.array([[0.20, 0.165 - CONTACT_M - 0.001]], dtype=np.float32))
    far = near
    for _ in range(8):
        far = TASK.step(far, np.array([[0.20, 0.30]], dtype=np.float32))
    assert far.outcome[0] == HIT
    absent = run(replace(start, is_present=np.array([False])), TASK.steady_style(1), 30)[-1]
    assert absent.nearest_m[0] > 0.4
    np.testing.assert_allclose(absent.gripper[0, 1], 0.16, atol=1e-5)


def test_the_goals_follow_one_another() -> None:
    states = run(scene(None), TASK.steady_style(1))
    reached = [int(state.num_reached[0]) for state in states]
    assert sorted(set(reached)) == [0, 1, NUM_GOALS]
    first = states[reached.index(1)]
    assert np.linalg.norm(first.gripper[0] - first.goals[0, 0]) < 0.01
    np.testing.assert_array_equal(first.goal, first.goals[:, 1])
    np.testing.assert_allclose(TASK.scene_numbers(first)[0, :2], [0.04, 0.16], atol=1e-6)
    # Without events nobody knows of the second one: a plan stays at the first.
    plan = TASK.expert_plan(states[0], TASK.steady_style(1), 100)
    np.testing.assert_allclose(plan[0, -1], [0.44, 0.16], atol=1e-3)


def test_jumps_land_on_the_way_with_room_around() -> None:
    steady = TASK.steady_style(NUM)
    states = run(TASK.reset(np.arange(NUM), perturbation=False), steady)
    num_jumps, num_stale_hits = 0, 0
    for before, after in pairwise(states):
        scenes = np.flatnonzero((before.obstacle != after.obstacle).any(axis=1) & before.is_running)
        if not len(scenes):
            continue
        jumped = after.take(scenes)
        to_gripper, to_goal = (np.linalg.norm(jumped.obstacle - x, axis=1) for x in (jumped.gripper, jumped.goal))
        assert jumped.is_present.all()
        assert to_gripper.min() > CLEARANCE_M
        assert to_goal.min() > CLEARANCE_M
        # Whoever keeps to the plan from before the jump hits the obstacle.
        stale = TASK.expert_plan(before.take(scenes), steady[scenes], 40)
        for row in stale.swapaxes(0, 1)[1:]:
            jumped = TASK.step(jumped, row, with_events=False)
        num_jumps += len(scenes)
        num_stale_hits += int((jumped.outcome == HIT).sum())
    assert num_jumps == 3 * NUM
    assert num_stale_hits > 0.9 * num_jumps


def test_the_perturbation_calls_for_another_command_at_once() -> None:
    plain, disturbed = (TASK.reset(np.arange(NUM), perturbation) for perturbation in (False, True))
    steady = TASK.steady_style(NUM)
    turn_deg = np.zeros(NUM)
    for tick in range(LAST_PERTURBATION_TICK + 1):
        commands = [TASK.expert_command(state, steady) for state in (plain, disturbed)]
        moves = [command - state.gripper for command, state in zip(commands, (plain, disturbed), strict=True)]
        angle = np.arctan2(moves[1][:, 1], moves[1][:, 0]) - np.arctan2(moves[0][:, 1], moves[0][:, 0])
        is_now = disturbed.perturbation_tick == tick
        turn_deg[is_now] = np.degrees(np.abs(angle))[is_now]
        plain, disturbed = (TASK.step(s, c) for s, c in zip((plain, disturbed), commands, strict=True))
    assert turn_deg.min() > 8.0
    assert np.quantile(turn_deg, 0.05) > 15.0


def expert(environment: Environment) -> DynamicExpert[ModeSwitchState]:
    assert isinstance(environment, DynamicEnvironment)
    return DynamicExpert(environment, 16)


def test_staleness_hurts() -> None:
    def success(delay: int) -> float:
        episodes = rollout_virtual(
            expert,
            lambda: DynamicEnvironment(TASK, with_images=False, perturbation=True),
            executor_config("naive", 8),
            delay,
            range(16),
        )
        return float(np.mean([episode.status.is_success for episode in episodes]))

    assert success(0) >= 0.85
    assert success(8) < 0.7


def test_the_picture_shows_goal_gripper_and_obstacle() -> None:
    state = scene((0.20, 0.16))
    with_it, without = TASK.render(state), TASK.render(replace(state, is_present=np.array([False])))
    row, column = 32, 40  # 0.16 m and 0.20 m at 5 mm a pixel
    assert with_it[0, row, column, 0] > 180 > without[0, row, column, 0]
    is_changed = (with_it != without).any(axis=(0, 3))
    assert is_changed.sum() == pytest.approx(np.pi * 5.6**2, rel=0.25)
    moved = TASK.render(replace(state, gripper=np.array([[0.10, 0.16]], dtype=np.float32)))
    assert (moved != with_it).any()
    further = TASK.render(replace(state, num_reached=np.array([1], dtype=np.int32)))
    assert (further != with_it)[0, :, 80:].any()
