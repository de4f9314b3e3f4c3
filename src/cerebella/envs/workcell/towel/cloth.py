"""A rectangular cloth that changes its size, weight, stiffness and colour without being compiled again.

A grid of point masses, joined by edges of fixed length (an equality of MuJoCo's flex). Its vertices are numbered along y
first: vertex `i * num_y + j` is column j of row i. Rows run along the cloth's x, columns along its y. It resists bending by
forces that are linear in the vertices' positions, the gradient of

    E = D / 2 * (area of a cell) * sum over vertices of |second difference along x|^2 / hx^4 + the same along y

with the flexural rigidity D in N m and the grid's spacing h in m.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from dataclasses import dataclass

import mujoco
import numpy as np

from cerebella.envs.workcell.arm_model import HITS, pad_names
from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.scene import TABLE_CENTRE_M
from cerebella.geometry import Array

NAME = "towel"
RADIUS_M = 0.003
"""Half the thickness, for contacts."""
DRAG_PER_S = 1.5
"""Of air, as a share of a vertex's mass."""
BENDING_DAMPING_S = 0.02
TABLE_FRICTION = 0.6
"""Of a cloth as compiled on the table."""
_BIT = 8
_COMPILED_SIZE_M = 0.24
_COMPILED_MASS_KG = 0.05


@dataclass(frozen=True)
class Towel:
    """What one towel is like.

    Args:
        colour: as people call it. rgb: its colour, 0..1.
        length_m, width_m: along its x and y, flat. mass_kg: of all of it.
        rigidity_nm: flexural rigidity D, N m. Soft cotton has about 1e-5, thick terry 1e-4.
        friction: on the table.
    """

    colour: str
    rgb: tuple[float, float, float]
    length_m: float
    width_m: float
    mass_kg: float
    rigidity_nm: float
    friction: float = 0.6

    @property
    def area_m2(self) -> float:
        """Flat."""
        return self.length_m * self.width_m


class Cloth:
    """The grid of a cell, and how it is read and placed.

    Args:
        cell: whose model was made with `add_cloth`. num_x, num_y: as given there.

    Attributes:
        vertices: int64[num_x, num_y], the number of each vertex.
    """

    def __init__(self, cell: Cell, num_x: int, num_y: int) -> None:
        """See the class."""
        self.num_x, self.num_y = num_x, num_y
        self.vertices = np.arange(num_x * num_y).reshape(num_x, num_y)
        model = cell.model
        bodies = model.flex_vertbodyid[: num_x * num_y]
        self._bodies = bodies
        self._rest_m = model.body_pos[bodies].copy()
        first = model.body_jntadr[bodies[0]]
        count = 3 * num_x * num_y
        self._qpos = slice(model.jnt_qposadr[first], model.jnt_qposadr[first] + count)
        self._dofs = slice(model.jnt_dofadr[first], model.jnt_dofadr[first] + count)
        self._friction = TABLE_FRICTION
        self._stiffness = np.zeros((num_x * num_y, num_x * num_y))

    def become(self, cell: Cell, towel: Towel) -> None:
        """Take on a towel's size, weight, stiffness, friction and colour. Call it before `place`."""
        model = cell.model
        hx, hy = towel.length_m / (self.num_x - 1), towel.width_m / (self.num_y - 1)
        flat = flat_grid(towel.length_m, towel.width_m, self.num_x, self.num_y)
        ends = flat[model.flex_edge]
        model.flexedge_length0[:] = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        mass = towel.mass_kg / len(flat)
        heavier = mass / model.body_mass[self._bodies[0]]
        model.body_mass[self._bodies] = model.body_subtreemass[self._bodies] = mass
        model.body_invweight0[self._bodies, 0] = 1.0 / mass
        model.dof_invweight0[self._dofs] /= heavier
        model.flexedge_invweight0[:] /= heavier
        model.dof_damping[self._dofs] = DRAG_PER_S * mass
        model.flex_rgba[0] = (*towel.rgb, 1.0)
        model.geom("under_cloth").friction[0] *= towel.friction / self._friction
        self._friction = towel.friction
        along_x = np.kron(_second_difference(self.num_x), np.eye(self.num_y)) / hx**2
        along_y = np.kron(np.eye(self.num_x), _second_difference(self.num_y)) / hy**2
        self._stiffness = towel.rigidity_nm * hx * hy * (along_x.T @ along_x + along_y.T @ along_y)

    def place(self, cell: Cell, positions_m: Array) -> None:
        """Put every vertex somewhere, at rest. float64[num_x * num_y, 3], world frame."""
        cell.data.qpos[self._qpos] = (positions_m - self._rest_m).ravel()
        cell.data.qvel[self._dofs] = 0.0
        cell.data.qfrc_applied[self._dofs] = 0.0

    def positions_m(self, cell: Cell) -> Array:
        """Of every vertex, world frame, float64[num_x * num_y, 3]."""
        return self._rest_m + cell.data.qpos[self._qpos].reshape(-1, 3)

    def velocities_m_s(self, cell: Cell) -> Array:
        """Of every vertex, float64[num_x * num_y, 3]."""
        return cell.data.qvel[self._dofs].reshape(-1, 3).copy()

    def stretch(self, cell: Cell) -> float:
        """Of the edge that is stretched most: its length over its flat length, minus 1."""
        return float((cell.data.flexedge_length / cell.model.flexedge_length0).max()) - 1.0

    def resist_bending(self, cell: Cell) -> None:
        """Set the forces of bending for the next physics step."""
        moved = self.positions_m(cell) + BENDING_DAMPING_S * self.velocities_m_s(cell)
        cell.data.qfrc_applied[self._dofs] = -(self._stiffness @ moved).ravel()

    def pull(self, cell: Cell, vertex: int, force_n: Array) -> None:
        """Add a force on one vertex, float64[3], to those of `resist_bending`, for the next physics step."""
        first = self._dofs.start + 3 * vertex
        cell.data.qfrc_applied[first : first + 3] += force_n


def flat_grid(length_m: float, width_m: float, num_x: int, num_y: int) -> Array:
    """A flat cloth about its own middle, float64[num_x * num_y, 3]."""
    x = np.linspace(-length_m / 2, length_m / 2, num_x)
    y = np.linspace(-width_m / 2, width_m / 2, num_y)
    return np.stack([*np.meshgrid(x, y, indexing="ij"), np.zeros((num_x, num_y))], axis=-1).reshape(-1, 3)


def add_cloth(spec: mujoco.MjSpec, num_x: int, num_y: int) -> None:
    """Add the grid and the physics options that suit it: Newton, and pads that are hard to a mass of half a gram.

    It collides with itself (without friction), both arms, and an invisible plane in the table's top, which is several times
    faster than the table's box.
    """
    points = flat_grid(_COMPILED_SIZE_M, _COMPILED_SIZE_M, num_x, num_y)
    part = mujoco.MjSpec.from_string(
        f"""<mujoco><worldbody>
        <flexcomp name="{NAME}" type="direct" dim="2" mass="{_COMPILED_MASS_KG}" radius="{RADIUS_M}"
            point="{_text(points)}" element="{_text(_triangles(num_x, num_y))}">
          <contact selfcollide="auto" condim="1" solref="0.01 1"
              contype="{_BIT}" conaffinity="{_BIT | HITS["left"] | HITS["right"]}"/>
          <edge equality="true" solref="0.01 1"/>
        </flexcomp></worldbody></mujoco>"""
    )
    spec.attach(part, prefix="cloth_", frame=spec.worldbody.add_frame(pos=[0.3, 0.0, 0.5]))
    spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    for side in HITS:
        for pad in pad_names(side):
            geom = spec.geom(pad)
            geom.solref, geom.solimp = [0.0085, 1.0], [0.99, 0.9998, 0.001, 0.5, 2.0]
    spec.worldbody.add_geom(
        name="under_cloth",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0.45, 0.65, 0.1],
        pos=[*TABLE_CENTRE_M, 0.0],
        rgba=[0.0] * 4,
        contype=_BIT,
        conaffinity=_BIT,
        condim=3,
        priority=1,
        friction=[TABLE_FRICTION, 0.005, 1e-4],
        solref=[0.01, 1.0],
    )


def _second_difference(count: int) -> Array:
    """float64[count - 2, count]: of neighbours in a row; nothing at the free ends."""
    return np.diff(np.eye(count), n=2, axis=0)


def _triangles(num_x: int, num_y: int) -> Array:
    """Numbers of their vertices, int64[number, 3]. Each cell's diagonal points from the nearest corner to the middle, so that
    all corners are alike.
    """
    number = np.arange(num_x * num_y).reshape(num_x, num_y)
    found: list[tuple[int, int, int]] = []
    for i in range(num_x - 1):
        for j in range(num_y - 1):
            a, b, c, d = number[i, j], number[i + 1, j], number[i + 1, j + 1], number[i, j + 1]
            is_a_to_c = (2 * i + 1 < num_x - 1) != (2 * j + 1 < num_y - 1)
            found += [(a, b, c), (a, c, d)] if is_a_to_c else [(a, b, d), (b, c, d)]
    return np.array(found)


def _text(numbers: Array) -> str:
    return " ".join(f"{number:.6g}" for number in numbers.ravel().tolist())
