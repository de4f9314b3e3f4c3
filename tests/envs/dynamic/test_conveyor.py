from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.envs.dynamic.conveyor import (
    LEFT_BELT,
    MAX_PARTS,
    PICKED,
    TIME,
    WRONG_PART,
    ConveyorConfig,
    ConveyorState,
    step,
)
from cerebella.envs.dynamic.conveyor_expert import expert_command, random_style, steady_style
from cerebella.envs.dynamic.conveyor_reset import MIN_SPACING_M, reset
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.planar import MAX_SPEED, TICK_S
from cerebella.envs.dynamic.task import RUNNING, concatenate

CONFIG = ConveyorConfig()


def assert_equal(first: ConveyorState, second: ConveyorState) -> None:
    for f in fields(ConveyorState):
        np.testing.assert_array_equal(getattr(first, f.name), getattr(second, f.name), err_msg=f.name)


def random_actions(num_scenes: int, generator: np.random.Generator) -> np.ndarray:
    return (generator.random((num_scenes, 3)) * [0.48, 0.32, 1.0]).astype(np.float32)


def hovering(opening: float, target_opening: float, place: int = 0) -> tuple[ConveyorState, np.ndarray]:
    """One scene with the gripper over a part, and a command that keeps it there."""
    state = reset([3], False, CONFIG)
    part = state.part_position[:, place]
    state = replace(state, gripper=part.copy(), opening=np.array([opening], dtype=np.float32))
    return state, np.concatenate([part, [[target_opening]]], axis=1).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**62), perturbation=st.booleans())
def test_a_seed_decides_everything(seed: int, perturbation: bool) -> None:
    alone = reset([seed], perturbation, CONFIG)
    among = reset([1, seed, 2], perturbation, CONFIG)
    for action in random_actions(40, np.random.default_rng(0)):
        assert_equal(alone, among.take(np.array([1])))
        alone = step(CONFIG, alone, action[None])
        among = step(CONFIG, among, np.stack([action[::-1], action, action]).astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**62))
def test_the_twin_is_identical_until_the_perturbation(seed: int) -> None:
    disturbed, twin = reset([seed], True, CONFIG), reset([seed], False, CONFIG)
    perturbation_tick = int(disturbed.perturbation_tick[0])
    far_away = np.array([[0.0, 0.0, 1.0]], dtype=np.float32)
    for _ in range(perturbation_tick):
        assert_equal(replace(disturbed, perturbation_tick=twin.perturbation_tick), twin)
        disturbed, twin = step(CONFIG, disturbed, far_away), step(CONFIG, twin, far_away)
    is_bumped = np.abs(disturbed.target_position - twin.target_position).max() > 0.005
    is_faster_or_slower = abs(float(disturbed.belt_speed[0] - twin.belt_speed[0])) > 0.05
    assert is_bumped != is_faster_or_slower


def test_scenes_keep_their_promises() -> None:
    state = reset(range(500), True, CONFIG)
    num_parts = state.part_is_present.sum(axis=1)
    assert set(num_parts) == {3, 4, 5}
    gap = np.linalg.norm(state.part_position[:, :, None] - state.part_position[:, None], axis=-1)
    is_pair = state.part_is_present[:, :, None] & state.part_is_present[:, None] & ~np.eye(MAX_PARTS, dtype=bool)
    assert gap[is_pair].min() >= MIN_SPACING_M - 1e-6
    assert all(len(set(colours)) == MAX_PARTS for colours in state.part_colour)
    assert state.target_position[:, 0].min() >= 0.02
    assert state.target_position[:, 0].max() <= 0.26
    speeds = np.column_stack([state.belt_speed, state.jump_speed])
    assert speeds.min() >= CONFIG.min_belt_speed - 1e-6
    assert speeds.max() <= CONFIG.max_belt_speed + 1e-6
    assert np.abs(np.diff(speeds, axis=1)).min() >= 0.03 - 1e-6


def test_the_belt_never_reverses_and_stays_within_its_speeds() -> None:
    state = reset(range(200), True, CONFIG)
    for action in random_actions(120, np.random.default_rng(1)):
        after = step(CONFIG, state, np.tile(action, (200, 1)))
        assert (after.belt_offset > state.belt_offset).all()
        assert after.belt_speed.min() >= CONFIG.min_belt_speed - 1e-6
        assert after.belt_speed.max() <= CONFIG.max_belt_speed + 1e-6
        moved = np.linalg.norm(after.gripper - state.gripper, axis=1)
        assert moved.max() <= MAX_SPEED * TICK_S + 1e-6
        state = after


def test_a_closing_gripper_over_the_target_picks_it_after_three_ticks() -> None:
    state, command = hovering(opening=0.45, target_opening=0.0)
    outcomes = []
    for _ in range(3):
        state = step(CONFIG, state, command)
        outcomes.append(int(state.outcome[0]))
    assert outcomes == [RUNNING, RUNNING, PICKED]
    assert state.opening[0] == pytest.approx(CONFIG.held_opening)


def test_a_held_part_moves_with_the_gripper() -> None:
    state, command = hovering(opening=0.45, target_opening=0.0)
    state = step(CONFIG, state, command)
    after = step(CONFIG, state, command + np.array([[0.05, 0.02, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(
        after.target_position - state.target_position, after.gripper - state.gripper, rtol=0, atol=1e-6
    )


def test_the_wrong_part_ends_the_episode() -> None:
    state, command = hovering(opening=0.45, target_opening=0.0, place=1)
    assert step(CONFIG, state, command).outcome[0] == WRONG_PART


def test_closing_on_nothing_needs_a_new_opening() -> None:
    state, command = hovering(opening=0.2, target_opening=0.0)
    still_closed = step(CONFIG, state, command)
    assert (still_closed.grasped[0], still_closed.num_attempts[0]) == (-1, 0)
    state, command = hovering(opening=0.45, target_opening=0.0)
    elsewhere = replace(state, gripper=state.gripper + np.float32(0.03))
    missed = step(CONFIG, elsewhere, np.concatenate([elsewhere.gripper, [[0.0]]], axis=1).astype(np.float32))
    assert (missed.grasped[0], missed.num_attempts[0]) == (-1, 1)


def test_episodes_without_a_grasp_end_by_the_belt_or_by_time() -> None:
    state = reset(range(100), False, CONFIG)
    idle = np.tile(np.array([0.0, 0.0, 1.0], dtype=np.float32), (100, 1))
    for _ in range(CONFIG.max_ticks):
        state = step(CONFIG, state, idle)
    assert set(state.outcome) == {LEFT_BELT, TIME}


@pytest.mark.parametrize("perturbation", [False, True])
def test_the_expert_picks_the_named_part(perturbation: bool) -> None:
    state = reset(range(200), perturbation, CONFIG)
    style = random_style(200, np.random.default_rng(0))
    for _ in range(CONFIG.max_ticks):
        state = step(CONFIG, state, expert_command(CONFIG, state, style))
    assert (state.outcome == PICKED).mean() >= 0.95


def test_the_expert_recovers_from_a_closed_empty_gripper() -> None:
    state = reset(range(100), False, CONFIG)
    state = replace(state, opening=np.zeros(100, dtype=np.float32))
    for _ in range(CONFIG.max_ticks):
        state = step(CONFIG, state, expert_command(CONFIG, state, steady_style(100)))
    assert (state.outcome == PICKED).mean() >= 0.95


def test_styles_bow_to_both_sides() -> None:
    state = reset(range(50), False, CONFIG)
    left = expert_command(CONFIG, state, steady_style(50, bow_rad=0.4))[:, :2]
    right = expert_command(CONFIG, state, steady_style(50, bow_rad=-0.4))[:, :2]
    is_far = np.linalg.norm(state.target_position - state.gripper, axis=1) > 0.1
    assert (np.linalg.norm(left - right, axis=1)[is_far] > 0.003).all()


def test_a_plan_is_the_law_on_a_steady_belt() -> None:
    state = reset(range(20), True, CONFIG)
    style = random_style(20, np.random.default_rng(2))
    plan = ConveyorTask().expert_plan(state, style, 12)
    for i in range(12):
        np.testing.assert_array_equal(plan[:, i], expert_command(CONFIG, state, style))
        state = step(CONFIG, state, plan[:, i], with_events=False)


def test_a_plan_continues_its_prefix() -> None:
    state = reset(range(8), False, CONFIG)
    style = steady_style(8)
    prefix = np.tile(np.array([0.1, 0.2, 1.0], dtype=np.float32), (8, 4, 1))
    plan = ConveyorTask().expert_plan(state, style, 10, prefix)
    np.testing.assert_array_equal(plan[:, :4], prefix)
    for i in range(4):
        state = step(CONFIG, state, prefix[:, i], with_events=False)
    np.testing.assert_array_equal(plan[:, 4:], ConveyorTask().expert_plan(state, style, 6))


def test_joined_scenes_come_apart_again() -> None:
    first, second = reset([1, 2], False, CONFIG), reset([3], True, CONFIG)
    joined = concatenate([first, second])
    assert_equal(joined.take(slice(0, 2)), first)
    assert_equal(joined.with_scenes(np.array([0]), second).take(slice(0, 1)), second)


def test_bad_plans_are_refused() -> None:
    state = reset([0], False, CONFIG)
    with pytest.raises(ValueError, match="horizon"):
        ConveyorTask().expert_plan(state, steady_style(1), 0)
    with pytest.raises(ValueError, match="prefix"):
        ConveyorTask().expert_plan(state, steady_style(1), 4, np.zeros((1, 5, 3), dtype=np.float32))
