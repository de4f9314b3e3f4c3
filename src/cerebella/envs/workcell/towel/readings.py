"""What is true about the cloth of a cell: whether it rests, whether a gripper is near, and what a picture shows of it."""

import numpy as np

from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.task import SceneObject
from cerebella.envs.workcell.towel.cloth import Cloth, Towel
from cerebella.envs.workcell.towel.shape import shape_of

MAX_REST_SPEED_M_S = 0.03
CLEAR_M = 0.035
"""From a tool's origin to the nearest vertex."""
MAX_STRETCH = 1.0
"""Of any edge, i.e. twice its flat length: a towel beyond it counts as torn. Where a gripper holds it, an edge reaches 0.30 when an
expert folds, and 0.61 when it flattens; two hands that pull apart pass any limit within a third of a second.
"""
CORNERS = (("near_left", 0, -1), ("near_right", 0, 0), ("far_left", -1, -1), ("far_right", -1, 0))
"""Name, row, column."""


def rests(cell: Cell, cloth: Cloth) -> bool:
    """Whether no vertex moves."""
    return bool(np.abs(cloth.velocities_m_s(cell)).max() < MAX_REST_SPEED_M_S)


def is_clear(cell: Cell, cloth: Cloth) -> bool:
    """Whether both grippers are away from the cloth."""
    positions = cloth.positions_m(cell)
    tools = (cell.left.T_world_tool[:3, 3], cell.right.T_world_tool[:3, 3])
    return all(np.linalg.norm(positions - tool, axis=1).min() > CLEAR_M for tool in tools)


def towel_truth(cell: Cell, cloth: Cloth, towel: Towel) -> tuple[SceneObject, ...]:
    """The towel, and its corners."""
    grid = cloth.positions_m(cell)[cloth.vertices]
    points = grid.reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    kind = f"{shape_of(grid, towel).phase} towel"
    found = [SceneObject("towel", kind, towel.colour, (low + high) / 2, high - low)]
    for name, i, j in CORNERS:
        found.append(SceneObject(name, "corner of the towel", towel.colour, grid[i, j].copy(), np.full(3, 0.02)))
    return tuple(found)
