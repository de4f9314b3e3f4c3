"""One bin for each colour, in a row behind the bricks; both arms reach all of them."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from cerebella.envs.workcell.lego.bricks import COLOURS
from cerebella.geometry import Array

BIN_CENTRES_M: Array = np.array([[0.405, y] for y in (0.18, 0.06, -0.06, -0.18)])
"""float64[4, 2], on the table; from the robot's left to its right."""
BIN_HALF_M = (0.055, 0.05)
"""Inside, along x and y."""
WALL_HEIGHT_M = 0.035

_WALL_HALF_M = 0.002
_FLOOR_HALF_M = 0.001
_PILE_M = 0.04
"""A brick that lies on others in its bin may stand so far above the wall."""


def walls() -> list[tuple[Array, Array]]:
    """Of all bins: middle and half sizes of each box, float64[3] each, world frame."""
    half_x, half_y = BIN_HALF_M
    high = WALL_HEIGHT_M / 2
    found: list[tuple[Array, Array]] = []
    for x, y in BIN_CENTRES_M:
        for sign in (-1.0, 1.0):
            found.append((np.array([x, y + sign * half_y, high]), np.array([half_x, _WALL_HALF_M, high])))
            found.append((np.array([x + sign * half_x, y, high]), np.array([_WALL_HALF_M, half_y, high])))
    return found


def add_bins(spec: mujoco.MjSpec) -> None:
    """Bodies `bin_0`..`bin_3`, fixed to the table: a thin floor and four walls each."""
    boxes = walls()
    for i, (x, y) in enumerate(BIN_CENTRES_M):
        body = spec.worldbody.add_body(name=f"bin_{i}", pos=[x, y, 0.0])
        floor = (np.array([x, y, _FLOOR_HALF_M]), np.array([*BIN_HALF_M, _FLOOR_HALF_M]))
        for middle, half in [floor, *boxes[4 * i : 4 * i + 4]]:
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX, size=half, pos=middle - [x, y, 0.0], friction=[0.6, 0.003, 1e-4]
            )


def paint_bins(model: mujoco.MjModel, colours: Sequence[str]) -> None:
    """Colour of each bin, in the order of `BIN_CENTRES_M`; paler than a brick's."""
    for i, colour in enumerate(colours):
        geoms = model.geom_bodyid == model.body(f"bin_{i}").id
        model.geom_rgba[geoms, :3] = 0.65 * np.array(COLOURS[colour]) + 0.25
        model.geom_rgba[geoms, 3] = 1.0


def bins_of(positions_m: Array) -> NDArray[np.int64]:
    """Which bin each point is in, -1 for none. float64[n, 3] -> int64[n]."""
    offset = np.abs(positions_m[:, None, :2] - BIN_CENTRES_M)
    is_in = (offset < BIN_HALF_M).all(axis=-1) & (positions_m[:, None, 2] < WALL_HEIGHT_M + _PILE_M)
    return np.where(is_in.any(axis=1), is_in.argmax(axis=1), -1)
