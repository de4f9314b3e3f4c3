"""Where objects may lie in the hand: per class the motions that a fingertip can feel, and no others.

A motion is four numbers in the wrist's frame: y and z in metres, roll (about x) and pitch (about y) in radians. The object
is first shifted from its nominal place, then turned about the pinch point, roll before pitch, so that a plate turns in its
own plane and then tips:

    T_wrist_object = Pitch(y) Roll(x) Shift(0, y, z)

A turn about the pinch point leaves the contacts near the middle of the arrays. Motions that nothing can feel (a rod along
its axis, a disk about its own) would be noise in the labels; see `objects`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from cerebella.geometry import Array, so3_exp
from cerebella.touch.objects import Kind, Shape

Range = tuple[float, float]
MOTIONS: tuple[str, ...] = ("y_m", "z_m", "roll_rad", "pitch_rad")
FELT: Mapping[Kind, tuple[str, ...]] = {
    "rod": ("z_m", "roll_rad"),
    "plate": ("z_m", "roll_rad", "pitch_rad"),
    "disk": ("y_m", "z_m", "pitch_rad"),
}
"""The motions of each class that change what the fingertips feel (TacRefineNet, arXiv 2509.25746v2)."""


@dataclass(frozen=True)
class PoseRanges:
    """(lowest, highest) of every motion; a motion that is felt is uniform in between.

    Plates and disks have a range of z of their own. What a fingertip feels of them is the edge, and it is felt only where it
    runs under the contact: 3.5 mm or more towards the palm (z negative) the contact lies beside it, on a face that feels the
    same everywhere; 6 mm away from the palm the thumb misses a plate.

    Args:
        y_m: metres. z_m: metres, of rods. edge_z_m: metres, z of plates and disks. roll_rad, pitch_rad: radians.

    Raises:
        ValueError: a range that is empty, beyond 20 mm or beyond 45 degrees.
    """

    y_m: Range = (-5e-3, 5e-3)
    z_m: Range = (-5e-3, 5e-3)
    edge_z_m: Range = (-3e-3, 5e-3)
    roll_rad: Range = (-math.radians(12), math.radians(12))
    pitch_rad: Range = (-math.radians(10), math.radians(10))

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            most, unit = (0.02, "m") if name.endswith("_m") else (math.pi / 4, "rad")
            low, high = getattr(self, name)
            if not -most <= low <= high <= most:
                raise ValueError(f"PoseRanges.{name} must be (low, high) in +-{most:.4g} {unit}; got ({low}, {high})")

    def limits(self, kind: Kind) -> Array:
        """float64[2, 4], lowest and highest in the order of `MOTIONS`; 0 for what `kind` does not feel."""
        chosen = {name: getattr(self, name) if name in FELT[kind] else (0.0, 0.0) for name in MOTIONS}
        if kind != "rod":
            chosen["z_m"] = self.edge_z_m
        return np.array(list(chosen.values())).T


RANGES: Mapping[str, PoseRanges] = {
    "default": PoseRanges(),
    "wide": PoseRanges(
        y_m=(-8e-3, 8e-3),
        z_m=(-7e-3, 7e-3),
        edge_z_m=(-4e-3, 6e-3),
        roll_rad=(-math.radians(20), math.radians(20)),
        pitch_rad=(-math.radians(15), math.radians(15)),
    ),
}
"""`wide` reaches the border of the arrays: some grasps are rejected there, and some can hardly be told apart."""


def middle_motion(shape: Shape, ranges: PoseRanges | None = None) -> Array:
    """The middle of the ranges of one object: float64[4], columns as in `MOTIONS`. None: the default ranges."""
    return (ranges or PoseRanges()).limits(shape.kind).mean(axis=0)


def sample_motions(shape: Shape, num: int, rng: np.random.Generator, ranges: PoseRanges | None = None) -> Array:
    """Random motions of one object: float64[num, 4], columns as in `MOTIONS`. None: the default ranges."""
    low, high = (ranges or PoseRanges()).limits(shape.kind)
    return low + (high - low) * rng.random((num, len(MOTIONS)))


def sample_poses(shape: Shape, num: int, rng: np.random.Generator, ranges: PoseRanges | None = None) -> Array:
    """Random `T_wrist_object` of one object: float64[num, 4, 4], metres. None: the default ranges."""
    return poses_of(sample_motions(shape, num, rng, ranges))


def nominal_goal(shape: Shape, ranges: PoseRanges | None = None) -> Array:
    """The fixed goal of an object, the middle of its ranges: `T_wrist_object` float64[4, 4]. None: the default ranges."""
    return poses_of(middle_motion(shape, ranges))


def poses_of(motions: Array) -> Array:
    """`T_wrist_object` of motions: float64[..., 4] (y m, z m, roll rad, pitch rad) -> float64[..., 4, 4]."""
    zero = np.zeros_like(motions[..., 0])
    roll = so3_exp(np.stack([motions[..., 2], zero, zero], axis=-1))
    pitch = so3_exp(np.stack([zero, motions[..., 3], zero], axis=-1))
    rotation = pitch @ roll
    result = np.zeros((*motions.shape[:-1], 4, 4))
    result[..., :3, :3] = rotation
    result[..., :3, 3] = (rotation @ np.stack([zero, motions[..., 0], motions[..., 1]], axis=-1)[..., None])[..., 0]
    result[..., 3, 3] = 1.0
    return result


def pose_ranges(name: str) -> PoseRanges:
    """The ranges called `name`.

    Raises:
        ValueError: there are none; lists the names.
    """
    if name not in RANGES:
        raise ValueError(f"unknown ranges {name!r}; known: {', '.join(RANGES)}")
    return RANGES[name]
