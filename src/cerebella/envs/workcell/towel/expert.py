"""How two arms fold and flatten a towel, from its state.

A corner is pinched by fingers that point down, on both sides of the corner, apart across its bisector; they close on it.
For the fold both arms take the corners of the near edge along an arc over to the far edge; on the way the hands tilt, so that
the cloth does not end with its edge turned under.
"""

from dataclasses import dataclass

import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.moves import SLOW, Move, Pace, both, go_to, open_to, retreat, shift, wait
from cerebella.envs.workcell.robot_arm import POINTING_DOWN, RobotArm
from cerebella.envs.workcell.task import ArmTarget, Plan
from cerebella.envs.workcell.towel.cloth import Cloth
from cerebella.geometry import Array, so3_exp, transform

SIDES: tuple[Side, Side] = ("left", "right")
RIGHT_LEFT: tuple[Side, Side] = ("right", "left")
"""In the order of the cloth's columns."""
OPENING = 0.4
RELEASE_OPENING = 0.35
PINCH_DEPTH_M = 0.002
"""From the corner inwards to the middle of the pads."""
LOW_M = 0.0195
"""Of the tool above the table, when the tips nearly touch it."""
HOVER_M = 0.07
LOST_M = 0.025
"""A corner farther from the tool than this isn't in its grip."""
CLOSE_TICKS = 14
ON_PLACE_M = 0.01
DRAW = Pace(0.25, 1.5, 30.0, 1.0, 6.0, 100.0)
"""With cloth in hand."""


@dataclass(frozen=True)
class FoldStyle:
    """Numbers of one fold.

    Args:
        height_share: of the arc, over its half width. num_ticks: of the arc.
        tilt_rad: by which the hands lean ahead at its end.
        short_m: how far before the far edge the corners come down; what hangs from them falls ahead.
        release_height_m: of the tool.
    """

    height_share: float = 0.8
    num_ticks: int = 60
    tilt_rad: float = 0.9
    short_m: float = 0.05
    release_height_m: float = 0.026


class Hands:
    """Both arms at work on one cloth. It reads the cell whenever a move begins."""

    def __init__(self, cell: Cell, cloth: Cloth) -> None:
        """See the class."""
        self._cell = cell
        self._cloth = cloth

    def fold(self, style: FoldStyle) -> Plan:
        """Row 0 over to the last row, and let go. Gives up after three failed pinches."""
        for _ in range(3):
            yield from both(self._cell, self.pinch("left", 0), self.pinch("right", 0))
            yield from both(self._cell, *[shift(arm, [0.0, 0.0, 0.02], pace=SLOW) for arm in self._arms()])
            if all(self._holds(side, 0) for side in SIDES):
                break
            yield from self._let_go()
        else:
            return
        ahead = self._ahead()
        yield from both(self._cell, *[self._arc(arm, ahead, style) for arm in self._arms()])
        yield from both(self._cell, *[wait(arm, 0.2) for arm in self._arms()])
        yield from self._let_go()

    def pull_corners(self, goals_m: Array) -> Plan:
        """Each arm takes the corner of its side that is farther from its goal, lifts it, and brings it there.

        Args:
            goals_m: float64[2, 2, 3]: first and last row, right and left.
        """
        moves: dict[Side, Move | None] = {"left": None, "right": None}
        for column, side in enumerate(RIGHT_LEFT):
            away = [float(np.linalg.norm((self._corner(side, row)[0] - goals_m[row, column])[:2])) for row in (0, -1)]
            row = 0 if away[0] >= away[1] else -1
            if max(away) > ON_PLACE_M:
                moves[side] = self._pull(side, row, goals_m[row, column])
        yield from both(self._cell, moves["left"], moves["right"])
        yield from self._let_go()

    def draw_back(self, distance_m: float) -> Plan:
        """Draw the folded towel towards the robot by the corners of its crease, low over the table, and let go."""
        row = self._cloth.num_x // 2
        yield from both(self._cell, self.pinch("left", row), self.pinch("right", row))
        yield from both(self._cell, *[shift(arm, [0.0, 0.0, 0.015], pace=SLOW) for arm in self._arms()])
        yield from both(self._cell, *[shift(arm, [-distance_m, 0.0, 0.0], pace=DRAW) for arm in self._arms()])
        yield from both(self._cell, *[shift(arm, [0.0, 0.0, -0.01], pace=SLOW) for arm in self._arms()])
        yield from self._let_go()

    def _pull(self, side: Side, row: int, goal_m: Array) -> Move:
        arm = self._cell.arm(side)
        yield from self.pinch(side, row)
        yield from shift(arm, [0.0, 0.0, 0.06], pace=DRAW)
        offset = self._corner(side, row)[0] - arm.T_world_tool[:3, 3]
        if float(np.linalg.norm(offset)) > 2 * LOST_M:
            return
        T_world_tool = arm.T_world_requested
        T_world_tool[:2, 3] = goal_m[:2] - offset[:2]
        yield from go_to(arm, T_world_tool, pace=DRAW)
        T_world_tool[2, 3] = LOW_M + 0.006
        yield from go_to(arm, T_world_tool, pace=SLOW)

    def pinch(self, side: Side, row: int) -> Move:
        """Close the fingers around a corner: of row 0, -1, or the crease in the middle of a folded towel."""
        arm = self._cell.arm(side)
        corner, inward = self._corner(side, row)
        yaw = float((np.arctan2(inward[1], inward[0]) + np.pi / 2) % np.pi - np.pi / 2)
        height = max(LOW_M, corner[2] + LOW_M - 0.006)
        T_world_tool = transform(
            so3_exp([0.0, 0.0, yaw]) @ POINTING_DOWN, [*(corner[:2] + PINCH_DEPTH_M * inward), height]
        )
        above = T_world_tool.copy()
        above[2, 3] += HOVER_M
        yield from go_to(arm, above, OPENING)
        yield from go_to(arm, T_world_tool)
        yield from _close(arm)

    def _arc(self, arm: RobotArm, ahead: Array, style: FoldStyle) -> Move:
        """Half a circle, flattened, from here to the far corner, as the hand tilts about the axis of the fold."""
        T_start, opening = arm.T_world_requested, arm.requested_opening
        held, _ = self._corner(arm.side, 0)
        far, _ = self._corner(arm.side, -1)
        T = arm.T_world_tool
        in_tool = T[:3, :3].T @ (held - T[:3, 3])
        axis = np.array([-ahead[1], ahead[0], 0.0])
        goal = far - style.short_m * np.array([*ahead, 0.0])
        goal -= so3_exp(style.tilt_rad * axis) @ T_start[:3, :3] @ in_tool
        goal[2] = style.release_height_m
        way = goal - T_start[:3, 3]
        height = style.height_share * float(np.linalg.norm(far[:2] - held[:2])) / 2
        for i in range(1, style.num_ticks + 1):
            u = i / style.num_ticks
            share = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
            across, up = (1.0 - np.cos(np.pi * share)) / 2, np.sin(np.pi * share)
            position = T_start[:3, 3] + way * [across, across, share] + [0.0, 0.0, height * up]
            turn = so3_exp(share * style.tilt_rad * axis)
            yield ArmTarget(transform(turn @ T_start[:3, :3], position), opening)

    def _let_go(self) -> Plan:
        yield from both(self._cell, *[open_to(arm, RELEASE_OPENING) for arm in self._arms()])
        yield from both(self._cell, *[retreat(arm, 0.06) for arm in self._arms()])

    def _arms(self) -> tuple[RobotArm, RobotArm]:
        return self._cell.left, self._cell.right

    def _corner(self, side: Side, row: int) -> tuple[Array, Array]:
        """Where a corner is, float64[3], and the unit vector from it to the inside, seen from above, float64[2]."""
        grid = self._cloth.positions_m(self._cell)[self._cloth.vertices]
        column = -1 if side == "left" else 0
        inside = grid[-2 if row == -1 else row + 1, -2 if side == "left" else 1]
        inward = (inside - grid[row, column])[:2]
        return grid[row, column], inward / max(1e-6, float(np.linalg.norm(inward)))

    def _ahead(self) -> Array:
        """Unit vector from the first to the last row, seen from above, float64[2]."""
        grid = self._cloth.positions_m(self._cell)[self._cloth.vertices]
        way = (grid[-1].mean(axis=0) - grid[self._cloth.num_x // 2].mean(axis=0))[:2]
        return way / float(np.linalg.norm(way))

    def _holds(self, side: Side, row: int) -> bool:
        corner, _ = self._corner(side, row)
        arm = self._cell.arm(side)
        return float(np.linalg.norm(corner - arm.T_world_tool[:3, 3])) < LOST_M and arm.grip_force_n > 1.0


def _close(arm: RobotArm) -> Move:
    T_world_tool, opening = arm.T_world_requested, arm.requested_opening
    for i in range(CLOSE_TICKS + 6):
        yield ArmTarget(T_world_tool, max(0.0, opening * (1.0 - (i + 1) / CLOSE_TICKS)))
