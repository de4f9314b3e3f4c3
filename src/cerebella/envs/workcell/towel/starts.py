"""How a towel lies when an episode, or the next towel, begins."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from typing import Literal

import mujoco
import numpy as np

from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.towel.cloth import RADIUS_M, Cloth, Towel, flat_grid
from cerebella.geometry import Array, so3_exp

Start = Literal["flat", "moved", "heap"]
CENTRE_M = (0.285, 0.0)
"""Where a towel lies, on average."""
MOVED_M, TURNED_RAD = 0.015, 0.12
_NUM_LIFTS, _LIFT_S, _FALL_S = 2, 0.9, 0.7
_LIFT_N_PER_M, _LIFT_NS_PER_M = 15.0, 0.05


def flat_at(towel: Towel, cloth: Cloth, centre_m: Array, yaw_rad: float = 0.0) -> Array:
    """Vertices of a flat towel on the table, float64[num_x * num_y, 3]."""
    flat = flat_grid(towel.length_m, towel.width_m, cloth.num_x, cloth.num_y)
    return flat @ so3_exp([0.0, 0.0, yaw_rad]).T + [*centre_m, RADIUS_M]


def lay(cell: Cell, cloth: Cloth, towel: Towel, start: Start, rng: np.random.Generator) -> None:
    """Put a towel down at rest. A heap takes 3.2 s of physics, so only in a reset."""
    offset = rng.uniform(-1.0, 1.0, 3) * [MOVED_M, MOVED_M, TURNED_RAD]
    if start == "flat":
        offset[:] = 0.0
    cloth.place(cell, flat_at(towel, cloth, np.array(CENTRE_M) + offset[:2], float(offset[2])))
    if start == "heap":
        for _ in range(_NUM_LIFTS):
            _lift_and_drop(cell, cloth, rng)
        cloth.place(cell, cloth.positions_m(cell))
        cell.data.time = 0.0


def _lift_and_drop(cell: Cell, cloth: Cloth, rng: np.random.Generator) -> None:
    """Pull a random vertex to above the middle, and let it fall."""
    vertex = int(rng.integers(cloth.vertices.size))
    goal = np.array([*(np.array(CENTRE_M) + rng.uniform(-0.04, 0.04, 2)), rng.uniform(0.15, 0.22)])
    timestep = cell.model.opt.timestep
    start = cloth.positions_m(cell)[vertex]
    for step in range(int((_LIFT_S + _FALL_S) / timestep)):
        cloth.resist_bending(cell)
        share = step * timestep / _LIFT_S
        if share < 1.0:
            wanted = start + share * (goal - start)
            position, velocity = cloth.positions_m(cell)[vertex], cloth.velocities_m_s(cell)[vertex]
            cloth.pull(cell, vertex, _LIFT_N_PER_M * (wanted - position) - _LIFT_NS_PER_M * velocity)
        mujoco.mj_step(cell.model, cell.data)
