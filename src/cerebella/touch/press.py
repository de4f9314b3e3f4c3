"""One fingertip, pressed with a known force: the check of both tactile worlds against a formula.

The tip is fixed. An indenter slides towards it along x of the tip frame (see `fingertip`), nothing else, pushed by a
constant force until it rests.

What should come out. A skin of independent springs (a Winkler foundation) carries per area the pressure p = K d, with K
the stiffness of a taxel over the square of the pitch, and d how deep the indenter is in the undeformed skin, along x.
Let g(y, z) be the gap between tip and indenter along x when they just touch; moved in by s, d = max(0, s - g), and the
load is

    F = K * integral of max(0, s - g) over the array.

The footprint is where g < s; the centre of pressure is the mean place weighted by s - g. Close to its lowest point a
gap is g = (a y^2 + b z^2) / 2, with a and b the sums of the curvatures of tip and indenter: (x / y^2, x / z^2) from the
tip's semi-axes, and 1 / R from a sphere. Then the footprint is an ellipse, half full: F = K s A / 2 with A = 2 pi s /
sqrt(a b), so

    A = sqrt(4 pi F / (K sqrt(a b))).

`expected` takes the exact gaps of ellipsoid, plane, strip and sphere instead, and integrates on a fine grid. An edge is
a strip of the plane: no depth beside it.

Where the worlds differ from it. A taxel is a point here, so that a counted area is off by up to a row. A sphere feels
an edge one radius beside it. The elastic skin moves as a whole towards a contact that is measured as a distance, and
not as a depth along x.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from dataclasses import dataclass
from typing import Literal, get_args

import mujoco
import numpy as np

from cerebella.geometry import Array
from cerebella.touch.fingertip import TIP_SEMI_AXES_M, taxel_positions
from cerebella.touch.grasp import NUM_COLUMNS, NUM_ROWS, PITCH_M
from cerebella.touch.hand_model import CONTACT_DISTANCE_M, TOUCHING
from cerebella.touch.skin import press_in
from cerebella.touch.sphere_pad import (
    TIMESTEP_S,
    SphereParameters,
    add_pad,
    set_options,
    spring_addresses,
    spring_forces,
)

IndenterKind = Literal["flat", "edge", "sphere"]
World = Literal["skin", "spheres"]

FELT_N = 1e-3
"""A taxel with less is not part of a footprint."""

_FINGER = "index"
_GAP_M = 5e-4
_HALF_SIZE_M = 20e-3
_MASS_KG, _DAMPING_N_S_PER_M = 0.05, 20.0
_FINE = 11
"""Cells per pitch of the integrals."""


@dataclass(frozen=True)
class Indenter:
    """What presses.

    Args:
        kind: a plane; the edge of a plate (a face as wide as the plate is thick, along y); a sphere.
        size_m: the plate's thickness or the sphere's radius; not read for a plane.
        y_m, z_m: the indenter's middle in the tip frame. A plane has none, an edge has no y.
        tilt_rad: of a plane, about y: positive leans it towards the finger's end, where it touches first.

    Raises:
        ValueError: an unknown kind, a size that is not positive, a tilted edge or sphere, a tilt above 0.2 rad.
    """

    kind: IndenterKind
    size_m: float = 0.0
    y_m: float = 0.0
    z_m: float = 0.0
    tilt_rad: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(IndenterKind):
            raise ValueError(f"unknown indenter {self.kind!r}; known: {', '.join(get_args(IndenterKind))}")
        if self.kind != "flat" and not self.size_m > 0.0:
            raise ValueError(f"size_m of an {self.kind} must be positive; got {self.size_m} m")
        if abs(self.tilt_rad) > (0.2 if self.kind == "flat" else 0.0):
            raise ValueError(f"only a plane tilts, by 0.2 rad at most; got {self.kind} with {self.tilt_rad} rad")

    def height(self, y: Array, z: Array) -> Array:
        """x of the surface that faces the tip, with the indenter's reference at x = 0; infinite where there is none."""
        if self.kind == "flat":
            return -np.tan(self.tilt_rad) * z
        if self.kind == "edge":
            return np.where(np.abs(z - self.z_m) <= self.size_m / 2, 0.0, np.inf)
        beside = self.size_m**2 - (y - self.y_m) ** 2 - (z - self.z_m) ** 2
        return np.where(beside > 0.0, self.size_m - np.sqrt(np.maximum(beside, 0.0)), np.inf)

    def signed_distance(self, points: Array, x_m: float) -> Array:
        """Distance of points [..., 3] in the tip frame when the reference is at `x_m`; metres, negative inside."""
        x, y, z = points[..., 0] - x_m, points[..., 1], points[..., 2]
        if self.kind == "flat":
            return -np.cos(self.tilt_rad) * (x + np.tan(self.tilt_rad) * z)
        if self.kind == "edge":
            beside, below = np.abs(z - self.z_m) - self.size_m / 2, -x
            return np.hypot(np.maximum(beside, 0.0), np.maximum(below, 0.0)) + np.minimum(
                np.maximum(beside, below), 0.0
            )
        return np.linalg.norm(np.stack([x - self.size_m, y - self.y_m, z - self.z_m], axis=-1), axis=-1) - self.size_m


@dataclass(frozen=True)
class Footprint:
    """Of one press, in the tip frame.

    Args:
        force_n: that all taxels carry.
        area_m2: of the taxels that feel something.
        y_m, z_m: the centre of pressure.
    """

    force_n: float
    area_m2: float
    y_m: float
    z_m: float


def footprint_of(forces: Array) -> Footprint:
    """What an array feels. The area is counted: the square of the pitch for every taxel above `FELT_N`.

    Counting is coarse: the width of a 3 mm edge is 2 or 3 taxels, depending on where it lies.

    Args:
        forces: [11, 9] newtons.
    """
    points, _ = taxel_positions(_FINGER)
    return _footprint(forces, points[..., 1], points[..., 2], PITCH_M, FELT_N)


def gap(indenter: Indenter, y: Array, z: Array) -> Array:
    """g of the formula, up to a constant: indenter above tip along x, metres; infinite where there is no indenter."""
    return indenter.height(y, z) - _tip_height(y, z)


def shift(indenter: Indenter, load_n: float, *, stiffness_n_per_m: float) -> float:
    """s of the formula for an array of 9.9 mm x 12.1 mm, up to the constant of `gap`; pressed is where `gap < shift`.

    Raises:
        ValueError: a load that is not positive.
    """
    _check_load(load_n)
    cell_m = PITCH_M / _FINE
    gaps = gap(indenter, *_fine_grid())
    low, high = gaps.min(), gaps.min() + load_n / stiffness_n_per_m + 10e-3
    for _ in range(60):
        middle = (low + high) / 2
        carried_n = stiffness_n_per_m * (cell_m / PITCH_M) ** 2 * np.maximum(middle - gaps, 0.0).sum()
        low, high = (middle, high) if carried_n < load_n else (low, middle)
    return float(high)


def expected(indenter: Indenter, load_n: float, *, stiffness_n_per_m: float) -> Footprint:
    """What the formula says, by `shift`."""
    cell_m = PITCH_M / _FINE
    y, z = _fine_grid()
    depth_m = np.maximum(shift(indenter, load_n, stiffness_n_per_m=stiffness_n_per_m) - gap(indenter, y, z), 0.0)
    return _footprint(stiffness_n_per_m * (cell_m / PITCH_M) ** 2 * depth_m, y, z, cell_m, 0.0)


def press(
    world: World,
    indenter: Indenter,
    load_n: float,
    *,
    parameters: SphereParameters | None = None,
    duration_s: float = 0.6,
) -> Array:
    """Press, wait until it rests, read.

    Args:
        world: `skin`: the rigid tip's contact force, spread by `skin.press_in`. `spheres`: the forces of the springs.
        parameters: of the skin. `skin` reads stiffness and friction of them.
        duration_s: of the press; nothing moves after 0.5 s.

    Returns:
        float64[11, 9] newtons. The same arguments give the same numbers.

    Raises:
        ValueError: an unknown world, a load that is not positive.
    """
    if world not in get_args(World):
        raise ValueError(f"unknown world {world!r}; known: {', '.join(get_args(World))}")
    _check_load(load_n)
    parameters = parameters or SphereParameters()
    spec = mujoco.MjSpec()
    set_options(spec)
    spec.option.gravity = [0.0, 0.0, 0.0]
    tip = spec.worldbody.add_body(name=f"{_FINGER}_tip")
    points, _ = taxel_positions(_FINGER)
    start_m = float(np.max(_tip_height(points[..., 1], points[..., 2]))) + _GAP_M
    _add_indenter(spec, indenter, start_m, parameters.friction)
    if world == "spheres":
        add_pad(spec, _FINGER, parameters, touching=TOUCHING)
    else:
        geom = tip.add_geom(type=mujoco.mjtGeom.mjGEOM_ELLIPSOID, size=TIP_SEMI_AXES_M, margin=CONTACT_DISTANCE_M)
        geom.contype, geom.conaffinity = TOUCHING, 0
    model = spec.compile()
    data = mujoco.MjData(model)
    slide = model.joint("object").dofadr[0]
    data.qfrc_applied[slide] = -load_n
    mujoco.mj_step(model, data, round(duration_s / model.opt.timestep))
    if world == "spheres":
        return spring_forces(data, spring_addresses(model, _FINGER), parameters.stiffness_n_per_m)
    mujoco.mj_forward(model, data)
    force_n = data.efc_force[data.contact.efc_address].sum()  # the first row of an elliptic cone is its normal
    x_m = start_m + data.qpos[slide]

    def distance_at(shift_m: Array) -> Array:
        return indenter.signed_distance(points + np.array([shift_m, 0.0, 0.0]), x_m)

    return press_in(distance_at, force_n, parameters.stiffness_n_per_m)


def _add_indenter(spec: mujoco.MjSpec, indenter: Indenter, x_m: float, friction: float) -> None:
    body = spec.worldbody.add_body(name="object", pos=[x_m, 0.0, 0.0])
    body.add_joint(name="object", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[1.0, 0.0, 0.0], damping=_DAMPING_N_S_PER_M)
    half = _HALF_SIZE_M
    if indenter.kind == "sphere":
        geom = body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[indenter.size_m, 0.0, 0.0])
        geom.pos = [indenter.size_m, indenter.y_m, indenter.z_m]
    elif indenter.kind == "edge":
        geom = body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[half, half, indenter.size_m / 2])
        geom.pos = [half, 0.0, indenter.z_m]
    else:
        turn = -indenter.tilt_rad  # about y; the face goes through the reference
        geom = body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[half, half, half])
        geom.quat = [np.cos(turn / 2), 0.0, np.sin(turn / 2), 0.0]
        geom.pos = [half * np.cos(turn), 0.0, -half * np.sin(turn)]
    geom.name, geom.mass = "object", _MASS_KG
    geom.contype, geom.conaffinity = 0, TOUCHING
    geom.friction = [friction, 0.005, 0.0001]
    geom.priority = 1
    geom.solref, geom.solimp = [2 * TIMESTEP_S, 1.0], [0.999, 0.999, 0.001, 0.5, 2.0]


def _fine_grid() -> tuple[Array, Array]:
    """y and z of the cells of the integrals, float64[rows, columns] metres."""
    cell_m = PITCH_M / _FINE
    z, y = np.mgrid[: NUM_ROWS * _FINE, : NUM_COLUMNS * _FINE].astype(np.float64)
    return cell_m * (y - y.max() / 2), cell_m * (z - z.max() / 2)


def _tip_height(y: Array, z: Array) -> Array:
    semi_x, semi_y, semi_z = TIP_SEMI_AXES_M
    return semi_x * np.sqrt(1.0 - (y / semi_y) ** 2 - (z / semi_z) ** 2)


def _footprint(forces: Array, y: Array, z: Array, cell_m: float, felt_n: float) -> Footprint:
    total_n = float(forces.sum())
    weight = forces / total_n if total_n > 0.0 else np.full(forces.shape, np.nan)
    area_m2 = float((forces > felt_n).sum()) * cell_m**2
    return Footprint(total_n, area_m2, float((weight * y).sum()), float((weight * z).sum()))


def _check_load(load_n: float) -> None:
    if not load_n > 0.0:
        raise ValueError(f"the load must be positive, newtons; got {load_n}")
