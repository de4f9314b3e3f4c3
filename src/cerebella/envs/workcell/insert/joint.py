"""The peg and the block with the hole, and how far the one is in the other.

Peg frame: origin in its middle, z along it; it is pushed in with -z first. Hole frame: origin in the middle of the hole at
the top of the block, axes parallel to the block's, z up.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from dataclasses import dataclass

import mujoco
import numpy as np

from cerebella.envs.workcell.cell import Cell
from cerebella.geometry import Array, inverse, transform

PEG_SIZE_M = (0.016, 0.016, 0.070)
CLEARANCE_M = 0.001
"""The hole is wider than the peg by this: half of it on each side if the peg is in the middle."""
BLOCK_SIZE_M = (0.050, 0.150, 0.036)
HOLE_IN_BLOCK_M = (0.0, -0.052, BLOCK_SIZE_M[2] / 2)
HANDLE_IN_BLOCK_M = (0.0, 0.046, 0.002)
"""Where the other gripper holds the block."""
SEATED_DEPTH_M = 0.025


@dataclass(frozen=True)
class Fit:
    """Of the peg in the hole.

    Args:
        depth_m: how far the lower end is below the block's top, above 0 only over the hole.
        off_m: of the lower end from the axis of the hole, sideways.
        tilt_rad: between the two axes.
    """

    depth_m: float
    off_m: float
    tilt_rad: float

    @property
    def is_seated(self) -> bool:
        """To depth, and in the hole."""
        return self.depth_m >= SEATED_DEPTH_M


def add_joint_parts(spec: mujoco.MjSpec) -> None:
    """Free bodies `peg` and `block`; geoms `peg` and `block_0` .. `block_3`."""
    peg = spec.worldbody.add_body(name="peg", pos=[0.0, 0.0, 0.3])
    peg.add_freejoint()
    half = np.array(PEG_SIZE_M) / 2
    peg.add_geom(name="peg", type=_BOX, size=half, mass=0.04, rgba=[0.85, 0.30, 0.10, 1.0], **_SMOOTH)
    block = spec.worldbody.add_body(name="block", pos=[0.3, 0.0, BLOCK_SIZE_M[2] / 2])
    block.add_freejoint()
    hole = (PEG_SIZE_M[0] + CLEARANCE_M) / 2
    x, y, z = np.array(BLOCK_SIZE_M) / 2
    middle = HOLE_IN_BLOCK_M[1]
    walls = [
        ([-x, -hole], [-y, y]),
        ([hole, x], [-y, y]),
        ([-hole, hole], [-y, middle - hole]),
        ([-hole, hole], [middle + hole, y]),
    ]
    for number, ((x_low, x_high), (y_low, y_high)) in enumerate(walls):
        block.add_geom(
            name=f"block_{number}",
            type=_BOX,
            size=[(x_high - x_low) / 2, (y_high - y_low) / 2, z],
            pos=[(x_high + x_low) / 2, (y_high + y_low) / 2, 0.0],
            density=1500.0,
            rgba=[0.20, 0.35, 0.62, 1.0],
            **_SMOOTH,
        )


def T_world_hole(cell: Cell) -> Array:
    """float64[4, 4]."""
    return cell.T_world_body("block") @ transform(np.eye(3), HOLE_IN_BLOCK_M)


def measure_fit(cell: Cell) -> Fit:
    """The fit now."""
    T_hole_peg = inverse(T_world_hole(cell)) @ cell.T_world_body("peg")
    x, y, z = (T_hole_peg @ [0.0, 0.0, -PEG_SIZE_M[2] / 2, 1.0])[:3]
    off = float(np.hypot(x, y))
    is_over = max(abs(x), abs(y)) < PEG_SIZE_M[0] / 2
    tilt = float(np.arccos(np.clip(T_hole_peg[2, 2], -1.0, 1.0)))
    return Fit(float(-z) if is_over else min(0.0, float(-z)), off, tilt)


_BOX = mujoco.mjtGeom.mjGEOM_BOX
_SMOOTH = {
    "friction": [0.3, 0.003, 1e-4],
    "condim": 4,
    "solref": [0.006, 1.0],
    "solimp": [0.99, 0.999, 0.0005, 0.5, 2.0],
    "solmix": 100.0,
}
"""Hard contacts, also with the pads: with the usual soft ones, a light peg is pushed some millimetres into a wall."""
