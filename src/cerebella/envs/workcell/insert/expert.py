"""The left arm holds the block, the right arm brings the peg over the hole, looks how it sits in the gripper, and corrects."""

import numpy as np

from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.insert.joint import HANDLE_IN_BLOCK_M, PEG_SIZE_M, T_world_hole, measure_fit
from cerebella.envs.workcell.moves import (
    NORMAL,
    SLOW,
    Move,
    Pace,
    both,
    go_to,
    grip,
    open_to,
    pointing_down,
    shift,
    wait,
)
from cerebella.envs.workcell.task import Plan
from cerebella.geometry import Array, inverse, so3_exp, transform

_ABOVE_M, _NEAR_M = 0.06, 0.004
"""Of the peg's lower end over the block."""
_BESIDE_M = 0.06
"""To its right of the hole, the right arm waits until the left arm is in place."""
_OFF_M, _TILT_RAD, _MAX_CORRECTIONS = 0.00025, 0.01, 5
_IN_M = 0.028
_STEPS = 4


def expert_plan(cell: Cell, rng: np.random.Generator) -> Plan:
    """Works from the measured poses of peg and block, seen in relation to the newest command: servo errors drop out."""
    height = _ABOVE_M + rng.uniform(-0.01, 0.02)
    beside = _T_world_tool(cell, -height)
    beside[1, 3] -= _BESIDE_M
    yield from both(cell, _hold_block(cell), go_to(cell.right, beside))
    yield from both(cell, right=_insert(cell, height))


def _hold_block(cell: Cell) -> Move:
    T_world_block = cell.T_world_body("block")
    x, y, z = (T_world_block @ [*HANDLE_IN_BLOCK_M, 1.0])[:3]
    yaw = float(np.arctan2(T_world_block[1, 0], T_world_block[0, 0])) + np.pi / 2
    yield from go_to(cell.left, pointing_down([x, y, z + 0.10], yaw), opening=0.85)
    yield from go_to(cell.left, pointing_down([x, y, z + 0.005], yaw))
    yield from grip(cell.left, force_n=8.0, opening=0.5)


def _bring(cell: Cell, height_m: float, pace: Pace) -> Move:
    """The peg's lower end to so far above the block, as it sits in the gripper now."""
    yield from go_to(cell.right, _T_world_tool(cell, -height_m), pace=pace)


def _insert(cell: Cell, height_m: float) -> Move:
    yield from _bring(cell, height_m, NORMAL)
    yield from _bring(cell, 0.02, NORMAL)
    for _ in range(_MAX_CORRECTIONS):
        yield from _bring(cell, _NEAR_M, SLOW)
        yield from wait(cell.right, 0.2)
        fit = measure_fit(cell)
        if fit.off_m < _OFF_M and fit.tilt_rad < _TILT_RAD:
            break
    for step in range(1, _STEPS + 1):
        yield from _bring(cell, -_IN_M * step / _STEPS, SLOW)
    yield from open_to(cell.right, 0.5)
    yield from shift(cell.right, [0.0, 0.0, 0.08])
    yield from wait(cell.right, 0.5)


def _T_world_tool(cell: Cell, depth_m: float) -> Array:
    """Where to ask the right tool to be, so that the peg stands upright in the hole's axis, its lower end so deep.

    The peg is square: of its four turns about its axis, the one nearest to how it is now.
    """
    T_asked_peg = inverse(cell.right.T_world_requested) @ cell.T_world_body("peg")
    T_world_goal = T_world_hole(cell) @ transform(np.eye(3), [0.0, 0.0, PEG_SIZE_M[2] / 2 - depth_m])
    R_goal_peg = T_world_goal[:3, :3].T @ cell.T_world_body("peg")[:3, :3]
    quarter_turns = np.round(np.arctan2(R_goal_peg[1, 0], R_goal_peg[0, 0]) / (np.pi / 2))
    turned = transform(so3_exp([0.0, 0.0, quarter_turns * np.pi / 2]), np.zeros(3))
    return T_world_goal @ turned @ inverse(T_asked_peg)
