"""What one arm does with bricks: take hold, carry to a bin, set down, get out of the way. Each is a `Move`."""

from collections.abc import Sequence

import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.arm_model import MAX_OPENING_M
from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.lego.bins import BIN_CENTRES_M
from cerebella.envs.workcell.lego.grasps import Grip
from cerebella.envs.workcell.lego.workpiece import LegoEpisode, bricks_now
from cerebella.envs.workcell.moves import SLOW, Move, go_to, grip, open_to, pointing_down, retreat, shift
from cerebella.envs.workcell.robot_arm import RobotArm
from cerebella.geometry import Array

TRAVEL_M = 0.16
"""Height of the tool on the way across the table: whatever it holds passes over the highest assembly."""
_DROP_M = 0.082
_BACK_OFF_M = 0.07
_FREE_PLACES_M = ((0.22, 0.17), (0.26, 0.17), (0.18, 0.20), (0.22, 0.10))
_HELD_N = 1.0
_INWARDS_RAD = 10.0
"""A camera that looks from the other arm's side counts like so much of a turn."""
_NEAR_M = 0.045


def side_sign(side: Side) -> float:
    """Of the side's half of the table along y."""
    return 1.0 if side == "left" else -1.0


def is_holding(cell: Cell, episode: LegoEpisode, side: Side, number: int) -> bool:
    """Whether an arm has a brick between its pads."""
    arm = cell.arm(side)
    offset_m = arm.T_world_tool[:3, 3] - cell.data.xpos[episode.bodies[number]]
    return arm.grip_force_n > _HELD_N and float(np.linalg.norm(offset_m)) < _NEAR_M


def turned_to(arm: RobotArm, T_world_tool: Array) -> Array | None:
    """The pose, or the same grip with the fingers swapped; None if both are out of reach.

    The camera, which is on the side of the tool's z, should look from the arm's own side, where the other hand is not; if
    that decides nothing, whichever is less of a turn.
    """
    best, least = None, np.inf
    for sign in (1.0, -1.0):
        pose = T_world_tool.copy()
        pose[:3, 1:3] *= sign
        joints_rad, is_reached = arm.joints_at(pose)
        cost = float(np.abs(joints_rad - arm.requested_rad)[3:].sum())
        cost += _INWARDS_RAD * (pose[1, 2] * side_sign(arm.side) < -0.3)
        if is_reached and cost < least:
            best, least = pose, cost
    return best


def is_reachable(arm: RobotArm, chosen: Grip) -> bool:
    """Whether the arm reaches a grip, and the pose over it where its approach begins."""
    above = chosen.backed_off(_rise_m(chosen))
    return turned_to(arm, chosen.T_world_tool) is not None and turned_to(arm, above) is not None


def take(arm: RobotArm, chosen: Grip) -> Move:
    """Up, across, straight down along the fingers, and close."""
    goal = turned_to(arm, chosen.T_world_tool)
    if goal is None:
        return
    above = goal.copy()
    above[:3, 3] = chosen.backed_off(_rise_m(chosen))[:3, 3]
    yield from rise(arm)
    yield from go_to(arm, above, chosen.opening)
    yield from go_to(arm, goal)
    yield from grip(arm, force_n=8.0, opening=chosen.closed_opening)


def rise(arm: RobotArm) -> Move:
    """Straight up to the height of travel, if it is lower."""
    yield from shift(arm, [0.0, 0.0, max(0.0, TRAVEL_M - arm.T_world_requested[2, 3])])


def let_go(arm: RobotArm) -> Move:
    """Open a little, back off along the fingers, open fully."""
    yield from open_to(arm, min(1.0, arm.opening + 2 * 0.008 / MAX_OPENING_M))
    yield from retreat(arm, _BACK_OFF_M)
    yield from open_to(arm)


def park(arm: RobotArm, side: Side) -> Move:
    """Up and to the arm's own side, out of the other's way, with whatever it holds."""
    yield from rise(arm)
    yield from go_to(arm, pointing_down([0.17, 0.32 * side_sign(side), 0.2], _yaw(arm)))


def bin_spot_m(cell: Cell, episode: LegoEpisode, number: int, rng: np.random.Generator) -> Array:
    """Where in its bin a brick should go: the place farthest from the bricks that are there. float64[2]."""
    centre = BIN_CENTRES_M[episode.bin_numbers[number]]
    spots = centre + np.array([[0.0, 0.0], [0.026, 0.0], [-0.026, 0.0], [0.0, 0.018], [0.0, -0.018]])
    others = np.delete(cell.data.xpos[episode.bodies], number, axis=0)
    inside = others[np.abs(others[:, :2] - centre).max(axis=1) < 0.06]
    if not len(inside):
        return spots[0] + rng.uniform(-0.006, 0.006, 2)
    space_m = np.linalg.norm(spots[:, None] - inside[:, :2], axis=2).min(axis=1)
    return spots[space_m.argmax()]


def deliver(cell: Cell, episode: LegoEpisode, side: Side, number: int, spot_m: Array) -> Move:
    """Carry the brick in the hand over its bin and drop it there."""
    arm = cell.arm(side)
    yield from rise(arm)
    tool = pointing_down([0.0, 0.0, 0.0], _yaw(arm))
    T_tool_world = np.linalg.inv(arm.T_world_tool)
    offset_m = tool[:3, :3] @ (T_tool_world @ [*cell.data.xpos[episode.bodies[number]], 1.0])[:3]
    tool[:3, 3] = [*(spot_m - offset_m[:2]), TRAVEL_M]
    yield from go_to(arm, tool)
    if not is_holding(cell, episode, side, number):
        yield from open_to(arm)
        return
    tool[2, 3] = _DROP_M
    yield from go_to(arm, tool)
    yield from open_to(arm, min(1.0, arm.opening + 0.3))
    yield from rise(arm)
    yield from open_to(arm)


def set_down(cell: Cell, episode: LegoEpisode, side: Side, piece: Sequence[int]) -> Move:
    """Put a piece that is still joined on a free place of the arm's own half, and let go."""
    arm = cell.arm(side)
    yield from rise(arm)
    bricks = bricks_now(cell, episode)
    others = np.delete(bricks.positions_m, list(piece), axis=0)
    places = np.array(_FREE_PLACES_M) * [1.0, side_sign(side)]
    space_m = (
        np.linalg.norm(places[:, None] - others[:, :2], axis=2).min(axis=1) if len(others) else np.ones(len(places))
    )
    hanging_m = arm.T_world_tool[2, 3] - bricks.lowest_m[list(piece)].min()
    goal = arm.T_world_requested.copy()
    goal[:2, 3] = places[space_m.argmax()]
    yield from go_to(arm, goal)
    goal = goal.copy()
    goal[2, 3] = max(hanging_m + 0.001, 0.02)
    yield from go_to(arm, goal, pace=SLOW)
    yield from let_go(arm)


def pull(arm: RobotArm, direction: Array, distance_m: float = 0.045) -> Move:
    """Slowly, away from what the other arm holds."""
    yield from shift(arm, distance_m * direction, pace=SLOW)


def _yaw(arm: RobotArm) -> float:
    """Of a gripper that points down and closes as the arm's does now, within half a turn; 0 closes along the world's y."""
    closing = arm.T_world_requested[:3, 1]
    return float(np.arctan2(-closing[0], closing[1]))


def _rise_m(chosen: Grip) -> float:
    """How far to back off a grip to be at the height of travel."""
    return max(0.03, (TRAVEL_M - chosen.T_world_tool[2, 3]) / -chosen.T_world_tool[2, 0])
