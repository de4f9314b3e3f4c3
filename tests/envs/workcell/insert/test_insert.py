"""The peg, the hole, what counts as in, and the expert."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import expert_ticks, run_expert
from cerebella.envs.workcell.insert.joint import (
    BLOCK_SIZE_M,
    HOLE_IN_BLOCK_M,
    PEG_SIZE_M,
    T_world_hole,
    measure_fit,
)
from cerebella.envs.workcell.insert.task import PROMPTS, Insert, T_tool_peg
from cerebella.geometry import inverse, transform
from cerebella.types import Action

ENVIRONMENT = WorkcellEnvironment(Insert(), with_images=False)


def place_peg(offset_m: float, depth_m: float) -> None:
    """Upright over the hole's axis or beside it, its lower end so deep; the right gripper open."""
    cell = ENVIRONMENT.cell
    cell.right.place(cell.right.home_rad, 1.0)
    middle = [offset_m, 0.0, PEG_SIZE_M[2] / 2 - depth_m]
    cell.place_body("peg", T_world_hole(cell) @ transform(np.eye(3), middle))
    cell.settle()


def hold_still() -> Action:
    """What the arms were last asked for, apart from small differences by the servos."""
    return next(expert_ticks(ENVIRONMENT, 0))


@pytest.mark.parametrize("seed", [0, 3])
def test_the_expert_seats_the_peg(seed: int) -> None:
    status = run_expert(ENVIRONMENT, seed)
    assert status.is_success, status
    assert status.reason == "seated"
    assert status.metrics["depth_mm"] > 25.0
    assert status.metrics["unreachable"] == 0


def test_the_peg_is_held_askew_from_the_start() -> None:
    ENVIRONMENT.reset(1)
    cell, episode = ENVIRONMENT.cell, ENVIRONMENT.episode
    for _ in range(30):
        cell.step()
    T_tool_peg = inverse(cell.right.T_world_tool) @ cell.T_world_body("peg")
    assert cell.right.grip_force_n > 5.0
    assert T_tool_peg[2, 3] == pytest.approx(episode.aside_m, abs=5e-4)
    assert T_tool_peg[1, 3] == pytest.approx(0.0, abs=2e-4)
    assert np.arctan2(T_tool_peg[2, 2], -T_tool_peg[0, 2]) == pytest.approx(episode.tilt_rad, abs=0.02)


def test_depth_counts_only_in_the_hole() -> None:
    ENVIRONMENT.reset(0)
    place_peg(0.0, 0.03)
    assert measure_fit(ENVIRONMENT.cell).is_seated
    assert measure_fit(ENVIRONMENT.cell).off_m == pytest.approx(0.0, abs=1e-9)
    place_peg(0.0, 0.02)
    assert not measure_fit(ENVIRONMENT.cell).is_seated
    place_peg(0.05, 0.03)
    assert not measure_fit(ENVIRONMENT.cell).is_seated


def test_a_free_peg_in_the_hole_is_a_success_and_on_the_table_a_failure() -> None:
    action = hold_still()
    for offset, reason in ((0.0, "seated"), (0.08, "")):
        ENVIRONMENT.reset(0)
        place_peg(offset, 0.03)
        for tick in range(12):
            if not ENVIRONMENT.status().is_done:
                ENVIRONMENT.apply(Action(values=action.values, tick=tick))
        assert ENVIRONMENT.status().reason == reason
    lying = transform(np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]), [0.45, 0.1, 0.01])
    ENVIRONMENT.cell.place_body("peg", lying)
    ENVIRONMENT.cell.refresh()
    ENVIRONMENT.apply(Action(values=action.values, tick=12))
    assert (ENVIRONMENT.status().is_success, ENVIRONMENT.status().reason) == (False, "dropped")


@pytest.mark.parametrize(("aside_m", "tilt_rad", "is_in"), [(0.0, 0.0, True), (0.003, 0.0, False), (0.0, 0.06, False)])
def test_pushing_straight_down_works_only_if_the_peg_sits_right(aside_m: float, tilt_rad: float, is_in: bool) -> None:
    """The block is put exactly under the gripper."""
    ENVIRONMENT.reset(0)
    cell = ENVIRONMENT.cell
    goal = cell.right.T_world_requested.copy()
    cell.place_body("peg", goal @ T_tool_peg(0.0, aside_m, tilt_rad))
    hole = transform(np.eye(3), [goal[0, 3], goal[1, 3], BLOCK_SIZE_M[2]])
    cell.place_body("block", hole @ inverse(transform(np.eye(3), HOLE_IN_BLOCK_M)))
    cell.settle()
    while goal[2, 3] > BLOCK_SIZE_M[2] + 0.045:
        goal[2, 3] -= 0.004
        cell.command("right", cell.right.joints_at(goal)[0], cell.right.requested_opening)
        cell.step()
    depth_m = measure_fit(cell).depth_m
    assert (depth_m > 0.006) == is_in
    assert depth_m > 0.006 or depth_m < 0.0015


def test_a_seed_decides_everything() -> None:
    def trace(seed: int) -> np.ndarray:
        rows = []
        for number, _ in enumerate(expert_ticks(ENVIRONMENT, seed)):
            rows.append(ENVIRONMENT.cell.data.qpos.copy())
            if number == 60:
                break
        return np.stack(rows)

    first = trace(5)
    np.testing.assert_array_equal(trace(5), first)
    assert np.abs(trace(6)[0] - first[0]).max() > 1e-3
    assert ENVIRONMENT.episode.prompt in PROMPTS
    assert [thing.name for thing in ENVIRONMENT.truth()] == ["peg", "block"]
