"""Bricks two studs wide, one and a half times as large as the usual toy: shape, colour, model.

Brick frame: x along its length, y across, z up through the studs, the origin in the middle. Boxes collide; studs are only
seen, so that bricks which no joint holds any more slide over each other.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from collections.abc import Mapping

import mujoco
import numpy as np

from cerebella.geometry import Array

STUD_M = 0.012
"""From stud to stud."""
WIDTH_M = 2 * STUD_M
HEIGHT_M = 0.0144
"""From layer to layer."""
COLOURS: Mapping[str, tuple[float, float, float]] = {
    "red": (0.80, 0.12, 0.10),
    "blue": (0.10, 0.25, 0.75),
    "yellow": (0.93, 0.76, 0.10),
    "green": (0.12, 0.55, 0.22),
}
"""Name -> RGB, 0..1. There is one bin for each."""

_GAP_M = 1e-4
"""A collision box is so much smaller on each side: neighbours in an assembly do not touch."""
_STUD_RADIUS_M, _STUD_HEIGHT_M = 0.0036, 0.0026
_MASS_PER_STUD_KG = 0.001
"""8 g for a brick of 2 x 4 studs."""


def brick_name(number: int) -> str:
    """Name of a brick's body; its box has the same name."""
    return f"brick_{number}"


def half_sizes_m(length_studs: int) -> Array:
    """Of the collision box, float64[3]."""
    return np.array([length_studs * STUD_M, WIDTH_M, HEIGHT_M]) / 2 - _GAP_M


def add_brick(spec: mujoco.MjSpec, number: int, length_studs: int) -> None:
    """A free body, its box, and 2 x `length_studs` studs, which come right after the box in the model's list of geoms."""
    name = brick_name(number)
    body = spec.worldbody.add_body(name=name, pos=[0.25, 0.0, 0.1 + 0.03 * number])
    body.add_freejoint()
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=half_sizes_m(length_studs),
        mass=2 * length_studs * _MASS_PER_STUD_KG,
        friction=[0.6, 0.003, 1e-4],
        condim=4,
    )
    for i in range(length_studs):
        for y in (-STUD_M / 2, STUD_M / 2):
            x = (i - (length_studs - 1) / 2) * STUD_M
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_CYLINDER,
                size=[_STUD_RADIUS_M, _STUD_HEIGHT_M / 2, 0],
                pos=[x, y, HEIGHT_M / 2 + _STUD_HEIGHT_M / 2],
                mass=0,
                contype=0,
                conaffinity=0,
            )


def paint(model: mujoco.MjModel, number: int, colour: str) -> None:
    """Give a brick and its studs a colour of `COLOURS`."""
    geoms = model.geom_bodyid == model.body(brick_name(number)).id
    model.geom_rgba[geoms, :3] = COLOURS[colour]
    model.geom_rgba[geoms, 3] = 1.0
