"""The camera beside the table: the block with its hole and a bar for its velocity, the peg, and what holds it."""

import numpy as np
from numpy.typing import ArrayLike

from cerebella.envs.dynamic.insert_moving_physics import (
    BLOCK_HALF_M,
    CHAMFER_M,
    HOLE_DEPTH_M,
    PLAY_M,
    InsertMovingState,
)
from cerebella.envs.dynamic.picture import GRIPPER_RGB, Picture
from cerebella.envs.dynamic.planar import LENGTH_M, WIDTH_M
from cerebella.types import ImageArray

PEG_RGB = (222, 52, 60)
GAUGE_RGB = (70, 230, 90)
_PEG_HALF_M, _PEG_LENGTH_M = 0.0055, 0.075
_WALL_RGB, _TABLE_RGB, _TABLE_TOP_RGB, _HOLE_RGB = (226, 230, 234), (72, 80, 94), (120, 130, 146), (24, 20, 22)
GAUGE_S = 0.25
"""A bar on the block shows its velocity: so many seconds of way, from the middle to where it goes."""
GAUGE_BELOW_M = 0.057
"""The bar, below the surface."""
_FINGER_HALF_M = (0.0045, 0.0150)


def render(state: InsertMovingState, height: int, width: int) -> ImageArray:
    """Pictures from the side, uint8[N, height, width, 3]; the ratio is 2 : 3."""
    picture = Picture(len(state), height, width, _WALL_RGB)
    surface, hole, gauge_m = state.surface_m, state.hole_x, state.hole_velocity * GAUGE_S
    tip_x, tip_y = state.gripper[:, 0], state.gripper[:, 1]
    middle_x = np.full(len(state), LENGTH_M / 2)

    def box(x: ArrayLike, y: ArrayLike, half_x: ArrayLike, half_y: float, colour: ArrayLike) -> None:
        half_m = np.column_stack([np.broadcast_to(half_x, len(state)), np.full(len(state), half_y)])
        picture.box(np.column_stack([x, y]).astype(np.float32), half_m, colour)

    box(middle_x, surface + WIDTH_M / 2, LENGTH_M, WIDTH_M / 2, _TABLE_RGB)
    box(middle_x, surface + 0.002, LENGTH_M, 0.002, _TABLE_TOP_RGB)
    box(hole, surface + 0.034, BLOCK_HALF_M, 0.034, state.block_rgb)
    box(hole, surface + 0.002, BLOCK_HALF_M, 0.002, state.block_rgb * 1.15)
    box(hole + gauge_m / 2, surface + GAUGE_BELOW_M, np.abs(gauge_m) / 2, 0.005, GAUGE_RGB)
    hole_half_m = _PEG_HALF_M + PLAY_M
    box(hole, surface + HOLE_DEPTH_M / 2, hole_half_m, HOLE_DEPTH_M / 2, _HOLE_RGB)
    box(hole, surface + 0.002, hole_half_m + CHAMFER_M, 0.002, _HOLE_RGB)
    box(tip_x, tip_y - _PEG_LENGTH_M / 2, _PEG_HALF_M, _PEG_LENGTH_M / 2, PEG_RGB)
    grip_y = tip_y - _PEG_LENGTH_M + 0.010
    for side in (-1.0, 1.0):
        box(tip_x + side * (_PEG_HALF_M + _FINGER_HALF_M[0]), grip_y, *_FINGER_HALF_M, GRIPPER_RGB)
    box(tip_x, grip_y - 0.016, 0.020, 0.007, GRIPPER_RGB)
    return picture.finish(state.light)
