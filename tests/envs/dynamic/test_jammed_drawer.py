from dataclasses import replace

import numpy as np
import pytest

from cerebella.envs.dynamic.jammed_drawer import JammedDrawer
from cerebella.envs.dynamic.jammed_drawer_physics import (
    BROKEN,
    FREE,
    GRIND_SPEED,
    MAX_JAMS,
    NEVER_M,
    OPEN,
    PLAY_M,
    RELEASE_ASIDE_M,
    RELEASE_M,
    SPRING_N_PER_M,
    TIME,
    JammedDrawerState,
)
from cerebella.envs.dynamic.planar import TICK_S

TASK = JammedDrawer()


def scene(
    opening_m: float = 0.1, jam_side: int = 0, share: float = 0.5, next_jam_m: float = NEVER_M
) -> JammedDrawerState:
    """One scene without a perturbation, jammed where it is if a side is given."""
    state = TASK.reset([3], False)
    places = np.full((1, MAX_JAMS), NEVER_M, dtype=np.float32)
    places[0, 0] = next_jam_m
    return replace(
        state,
        gripper=np.array([[state.closed_x[0] + opening_m, state.axis_y[0]]], dtype=np.float32),
        scheduled_opening=places,
        jammed_at=np.array([opening_m if jam_side else FREE], dtype=np.float32),
        jam_side=np.array([jam_side], dtype=np.int32),
        release_share=np.array([share], dtype=np.float32),
    )


def pushed(state: JammedDrawerState, x_m: float, y_m: float, with_events: bool = True) -> JammedDrawerState:
    """A tick with the command so far ahead of the gripper."""
    return TASK.step(state, state.gripper + np.array([[x_m, y_m]], dtype=np.float32), with_events)


def pull_on(state: JammedDrawerState, num_ticks: int, speed: float = 0.3) -> JammedDrawerState:
    """What a plan from before the jam goes on with: the command keeps running ahead."""
    command = state.gripper.copy()
    for _ in range(num_ticks):
        command[:, 0] += np.float32(speed * TICK_S)
        state = TASK.step(state, command)
    return state


def free_it(state: JammedDrawerState) -> tuple[JammedDrawerState, int]:
    """The expert's ticks until nothing is jammed."""
    for tick in range(1, 40):
        state = TASK.step(state, TASK.expert_command(state, TASK.steady_style(len(state))))
        if not state.is_jammed.any():
            return state, tick
    raise AssertionError("still jammed")


def test_a_free_drawer_follows_the_hand_and_the_wrist_feels_the_spring() -> None:
    state = scene()
    after = pushed(state, 0.02, 0.0)
    assert after.opening[0] > state.opening[0]
    assert after.force[0] == pytest.approx(
        SPRING_N_PER_M * (state.gripper[0, 0] + 0.02 - after.gripper[0, 0]), abs=0.01
    )
    assert after.strain[0] == 0.0


def test_a_jam_stops_the_drawer_where_it_is_and_only_outwards() -> None:
    state = scene(next_jam_m=0.105)
    after = pushed(state, 0.02, 0.0)
    assert after.opening[0] == pytest.approx(0.105, abs=1e-6)
    assert after.jam_side[0] == after.scheduled_side[0, 0]
    stuck = pull_on(after, 5)
    assert stuck.opening[0] == pytest.approx(0.105, abs=1e-6)
    assert pushed(stuck, -0.02, 0.0).opening[0] < 0.105


def test_nothing_before_the_jam_tells_of_it() -> None:
    with_jam, without = scene(next_jam_m=0.2), scene()
    while not with_jam.is_jammed[0]:
        np.testing.assert_array_equal(TASK.observed(with_jam, False), TASK.observed(without, False))
        np.testing.assert_array_equal(TASK.render(with_jam), TASK.render(without))
        with_jam, without = pushed(with_jam, 0.02, 0.0), pushed(without, 0.02, 0.0)
    assert (TASK.observed(with_jam, False) != TASK.observed(without, False)).any()
    assert (TASK.render(with_jam) != TASK.render(without)).any()


def test_pulling_on_breaks_the_handle_and_giving_way_relaxes_it() -> None:
    state = scene(jam_side=1)
    strains = [float(pull_on(state, num_ticks).strain[0]) for num_ticks in range(20)]
    assert strains == sorted(strains)
    assert strains[3] < 1e-3
    assert 0.2 < strains[12] < 0.8
    assert pull_on(state, 20).outcome[0] == BROKEN
    strained = pull_on(state, 12)
    assert pushed(strained, -0.01, 0.0).strain[0] < strained.strain[0]


@pytest.mark.parametrize("side", [-1, 1])
def test_a_jam_needs_both_the_way_back_and_its_side(side: int) -> None:
    enough_back, enough_aside = -0.55 * RELEASE_M, 0.55 * RELEASE_ASIDE_M * side
    for back, aside, is_free in (
        (enough_back, enough_aside, True),
        (enough_back, -enough_aside, False),
        (enough_back, 0.0, False),
        (0.0, enough_aside, False),
    ):
        state = scene(jam_side=side, share=0.5)
        moved = replace(state, gripper=state.gripper + np.array([[back, aside]], dtype=np.float32))
        after = pushed(moved, 0.0, 0.0)
        assert (not after.is_jammed[0]) == is_free, (back, aside)
        assert pushed(moved, 0.0, 0.0, with_events=False).is_jammed[0]


def test_a_shut_drawer_is_back_far_enough() -> None:
    state, _ = free_it(scene(opening_m=0.004, jam_side=1, share=0.8))
    assert state.opening[0] >= 0.0
    assert state.jammed_at[0] == np.float32(FREE)


def test_a_jam_that_takes_more_takes_longer_and_a_plan_expects_all_of_it() -> None:
    num_ticks = [free_it(scene(jam_side=-1, share=share))[1] for share in (0.4, 0.6, 0.8, 1.0)]
    assert num_ticks == sorted(set(num_ticks))
    state = scene(jam_side=-1, share=0.4)
    style = TASK.steady_style(1)
    plan = TASK.expert_plan(state, style, 20)
    for i in range(num_ticks[-1]):
        assert plan[0, i, 0] < state.gripper[0, 0] + 1e-3
        state = TASK.step(state, plan[:, i], with_events=False)
    assert not state.is_jammed[0]


def test_a_jammed_drawer_gives_slowly() -> None:
    state = scene(jam_side=1)
    after = pushed(state, -0.2, 0.2)
    np.testing.assert_allclose(np.abs(after.gripper - state.gripper), GRIND_SPEED * TICK_S, atol=1e-6)


def test_the_handle_has_little_play_to_the_side() -> None:
    state = scene()
    for _ in range(20):
        state = pushed(state, 0.0, 0.1)
    assert state.gripper[0, 1] - state.axis_y[0] == pytest.approx(PLAY_M, abs=1e-6)


def test_a_perturbation_jams_a_free_drawer_and_turns_a_jam_round() -> None:
    for side, expected in ((0, 1), (1, -1), (-1, 1)):
        state = scene(jam_side=side)
        state = replace(state, perturbation_tick=state.tick + 1, perturbed_side=np.array([1], dtype=np.int32))
        after = pushed(state, 0.01, 0.0)
        assert after.jam_side[0] == expected
        assert after.opening[0] == pytest.approx(float(after.jammed_at[0]), abs=1e-6)
        assert pushed(state, 0.01, 0.0, with_events=False).jam_side[0] == side


def test_jams_are_two_to_four_and_apart() -> None:
    state = TASK.reset(range(500), False)
    is_used = state.scheduled_opening < NEVER_M
    assert set(is_used.sum(axis=1)) == {2, 3, 4}
    assert state.scheduled_opening.min() >= 0.03
    last = np.where(is_used, state.scheduled_opening, 0.0).max(axis=1)
    assert (last <= state.goal_opening - 0.03 + 1e-6).all()
    gaps = np.diff(np.where(is_used, state.scheduled_opening, NEVER_M + np.arange(MAX_JAMS)), axis=1)
    assert gaps.min() >= 0.035 - 1e-6
    assert set(np.unique(state.scheduled_side)) == {-1, 1}


def test_what_a_jam_calls_for_does_not_depend_on_the_style() -> None:
    state = pull_on(scene(jam_side=-1), 1)
    same = state.take(np.zeros(32, dtype=np.int64))
    plans = TASK.expert_plan(same, TASK.random_style(32, np.random.default_rng(0)), 5)
    assert np.ptp(plans[..., 0], axis=0).max() < 1e-6
    assert (plans[:, 1:, 0] < state.gripper[0, 0]).all()
    assert (plans[..., 1] < state.axis_y[0]).all()


def stale_outcomes(delay: int, num_episodes: int = 64) -> JammedDrawerState:
    """Ends of episodes in which every 8 ticks the expert's plan from `delay` ticks ago takes over, its old rows skipped."""
    states = [TASK.reset(range(num_episodes), False)]
    style = TASK.steady_style(num_episodes)
    while len(states) <= TASK.max_ticks:
        age = min(delay, len(states) - 1)
        plan = TASK.expert_plan(states[-1 - age], style, age + 8)
        for command in plan[:, age:].swapaxes(0, 1):
            states.append(TASK.step(states[-1], np.ascontiguousarray(command)))
    assert set(states[-1].outcome) <= {OPEN, BROKEN, TIME}
    return states[-1]


def test_staleness_hurts() -> None:
    fresh, stale = stale_outcomes(0), stale_outcomes(6)
    assert (fresh.outcome == OPEN).mean() >= 0.95
    assert (stale.outcome == OPEN).mean() <= 0.4
    assert stale.ticks_jammed.sum() / stale.num_jams.sum() > 2 * fresh.ticks_jammed.sum() / fresh.num_jams.sum()
