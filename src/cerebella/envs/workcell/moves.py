"""Pieces of motion for experts: each is a generator that yields one target per tick and looks at the cell in between.

    def expert(self, cell, episode, rng):
        yield from both(cell, left=go_to(cell.left, pointing_down([0.3, 0.1, 0.1])))
        yield from both(cell, left=grip(cell.left), right=go_to(cell.right, ...))

A `Move` is for one arm, `both` makes a `Plan` for two. A motion starts where the newest command brings the arm, when its
first target is asked for; so moves can be listed before any of them begins. `yield from` puts them one after the other.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cerebella.envs.workcell.cell import CONTROL_HZ, MAX_STEP_OPENING, Cell
from cerebella.envs.workcell.robot_arm import POINTING_DOWN, RobotArm
from cerebella.envs.workcell.task import ArmTarget, Plan, Targets
from cerebella.geometry import Array, so3_exp, so3_log, transform

Move = Generator[ArmTarget, None, None]
"""One arm at work, one target per tick."""


@dataclass(frozen=True)
class Pace:
    """Limits of a motion along its straight line, and of the rotation on the way: m/s, m/s^2, m/s^3, and the same in rad."""

    speed_m_s: float
    acceleration_m_s2: float
    jerk_m_s3: float
    turn_rad_s: float
    turn_rad_s2: float
    turn_rad_s3: float


NORMAL = Pace(0.5, 3.0, 60.0, 2.0, 12.0, 240.0)
SLOW = Pace(0.12, 1.0, 20.0, 0.8, 5.0, 100.0)
"""Near contact."""


def pointing_down(position_m: ArrayLike, yaw_rad: float = 0.0) -> Array:
    """`T_world_tool` of a gripper that points down, float64[4, 4]. At yaw 0 the fingers are apart along the world's y; the
    yaw turns them anticlockwise, seen from above.
    """
    return transform(so3_exp([0.0, 0.0, yaw_rad]) @ POINTING_DOWN, position_m)


def go_to(arm: RobotArm, T_world_tool: Array, opening: float | None = None, pace: Pace = NORMAL) -> Move:
    """Along a straight line, turning about one axis, smoothly from rest to rest.

    The share of the way is `10 u^3 - 15 u^4 + 6 u^5` of the share u of the duration, the shortest that keeps `pace`.

    Args:
        opening: reached on the way, as fast as the gripper can; as it is if not given.
    """
    T_start, now = arm.T_world_requested, arm.requested_opening
    opening = now if opening is None else opening
    way = T_world_tool[:3, 3] - T_start[:3, 3]
    turn = so3_log(T_start[:3, :3].T @ T_world_tool[:3, :3])
    num_ticks = num_ticks_of(float(np.linalg.norm(way)), float(np.linalg.norm(turn)), pace)
    for i in range(1, num_ticks + 1):
        u = i / num_ticks
        share = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
        now = _towards(now, opening)
        yield ArmTarget(transform(T_start[:3, :3] @ so3_exp(share * turn), T_start[:3, 3] + share * way), now)


def shift(arm: RobotArm, offset_m: ArrayLike, opening: float | None = None, pace: Pace = NORMAL) -> Move:
    """Along a straight line by an offset in the world frame (m), without turning."""
    goal = arm.T_world_requested.copy()
    goal[:3, 3] += np.asarray(offset_m)
    yield from go_to(arm, goal, opening, pace)


def retreat(arm: RobotArm, distance_m: float, pace: Pace = NORMAL) -> Move:
    """Backwards along the direction in which the fingers point."""
    yield from shift(arm, -distance_m * arm.T_world_requested[:3, 0], pace=pace)


def over(
    arm: RobotArm, T_world_tool: Array, height_m: float, opening: float | None = None, down: Pace = NORMAL
) -> Move:
    """Straight up until the tool is `height_m` above the table (unless it is higher), across, and straight down to a pose.

    Args:
        opening: reached on the way across. down: the pace of the last part.
    """
    start, above = arm.T_world_requested.copy(), T_world_tool.copy()
    start[2, 3] = max(height_m, start[2, 3])
    above[2, 3] = max(height_m, above[2, 3])
    yield from go_to(arm, start)
    yield from go_to(arm, above, opening)
    yield from go_to(arm, T_world_tool, pace=down)


def open_to(arm: RobotArm, opening: float = 1.0) -> Move:
    """Move the fingers to an opening (0 closed .. 1 open), and wait until they should be there."""
    T_world_tool, now = arm.T_world_requested, arm.requested_opening
    for _ in range(int(np.ceil(abs(opening - now) / MAX_STEP_OPENING)) + 2):
        now = _towards(now, opening)
        yield ArmTarget(T_world_tool, now)


def grip(arm: RobotArm, force_n: float = 5.0, opening: float = 0.0, timeout_s: float = 1.5) -> Move:
    """Close until both pads feel `force_n` in three ticks one after the other, or the time is over.

    The fingers go on pressing afterwards, as hard as the target `opening` makes them; see `arm.grip_force_n` for what came
    of it.
    """
    T_world_tool, now, num_felt = arm.T_world_requested, arm.requested_opening, 0
    for _ in range(int(np.ceil(timeout_s * CONTROL_HZ))):
        now = _towards(now, opening)
        yield ArmTarget(T_world_tool, now)
        num_felt = num_felt + 1 if arm.grip_force_n >= force_n else 0
        if num_felt >= 3 and now == opening:
            return


def wait(arm: RobotArm, duration_s: float) -> Move:
    """Stay."""
    target = ArmTarget(arm.T_world_requested, arm.requested_opening)
    for _ in range(int(np.ceil(duration_s * CONTROL_HZ))):
        yield target


def both(cell: Cell, left: Move | None = None, right: Move | None = None) -> Plan:
    """Two moves at the same time, until both are over; an arm without one, or whose move is over, stays."""
    now = [ArmTarget(arm.T_world_requested, arm.requested_opening) for arm in (cell.left, cell.right)]
    moves: list[Generator[ArmTarget, Any, Any] | None] = [left, right]
    while True:
        for i, move in enumerate(moves):
            target = None if move is None else next(move, None)
            if target is None:
                moves[i] = None
            else:
                now[i] = target
        if moves == [None, None]:
            return
        yield Targets(*now)


def num_ticks_of(distance_m: float, angle_rad: float, pace: Pace) -> int:
    """The shortest duration of a `go_to`, in ticks, 1 or more. The profile's peaks: 15/8 d/T, 5.7735 d/T^2, 60 d/T^3."""
    limits = (
        (distance_m, pace.speed_m_s, pace.acceleration_m_s2, pace.jerk_m_s3),
        (angle_rad, pace.turn_rad_s, pace.turn_rad_s2, pace.turn_rad_s3),
    )
    duration_s = max(
        max(15 / 8 * d / v, np.sqrt(10 / np.sqrt(3) * d / a), np.cbrt(60 * d / j)) for d, v, a, j in limits
    )
    return max(1, int(np.ceil(duration_s * CONTROL_HZ - 1e-9)))


def _towards(now: float, goal: float) -> float:
    return float(np.clip(goal, now - MAX_STEP_OPENING, now + MAX_STEP_OPENING))
