"""The objects: plates, disks and rods, as signed distances.

Frame O of every shape. Plate: x is the normal of its faces, the origin lies in the middle between the faces and of the edge
that is next to the palm (the plate extends from z = 0 to z = height, out of the hand), y along that edge. Disk: x is its
axis, the origin lies in the middle between the faces, `RIM_INSET_M` inside the rim point with the smallest z. Rod: y is its
axis, the origin its centre.

So in the nominal grasp (`T_wrist_object` = identity) the edge of a plate and the line of a rod cross the middle of the taxel
arrays. The rim of a disk is curved: it crosses the thumb's array 3 mm below the middle, those of the middle and ring finger
2 mm below, and those of the index and little finger 2 to 5 mm above. Disks of less than 90 mm would miss the outer two. Sliding a rod along its axis, turning it about its axis, sliding a plate along its edge and
spinning a disk change nothing that can be felt, which is why `sampling` leaves these motions out.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cerebella.geometry import Array

Kind = Literal["plate", "disk", "rod"]
KINDS: tuple[str, ...] = get_args(Kind)

RIM_INSET_M = 3e-3
"""From the origin of a disk to the rim, so that the rim crosses all five arrays; the centre is at z = radius - 3 mm."""


@dataclass(frozen=True)
class Shape:
    """One rigid object.

    Args:
        name: unique, e.g. `plate_4x60x40`.
        kind: of `KINDS`.
        thickness_m: between the faces of a plate or disk; the diameter of a rod.
        width_m: a plate's edge (y), a disk's diameter, a rod's length.
        height_m: a plate's other side (z); of others the same as `width_m` or `thickness_m` and not read.

    Raises:
        ValueError: an unknown kind, or a size outside 1..200 mm.
    """

    name: str
    kind: Kind
    thickness_m: float
    width_m: float
    height_m: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r} of object; known: {', '.join(KINDS)}")
        for name in ("thickness_m", "width_m", "height_m"):
            if not 1e-3 <= getattr(self, name) <= 0.2:
                raise ValueError(f"{self.name}: {name} must be in 0.001..0.2 m; got {getattr(self, name)}")

    @property
    def centre_z_m(self) -> float:
        """The centre of the shape in frame O is (0, 0, this)."""
        if self.kind == "plate":
            return self.height_m / 2
        return self.width_m / 2 - RIM_INSET_M if self.kind == "disk" else 0.0

    def signed_distance(self, points: Array) -> Array:
        """Distance of points in frame O to the surface, metres, negative inside. [..., 3] -> [...]. Exact."""
        if self.kind == "plate":
            half = np.array([self.thickness_m, self.width_m, self.height_m]) / 2
            outside = np.abs(points - np.array([0.0, 0.0, self.centre_z_m])) - half
            return _of_box(outside)
        if self.kind == "disk":
            radial = np.hypot(points[..., 1], points[..., 2] - self.centre_z_m) - self.width_m / 2
            return _of_box(np.stack([np.abs(points[..., 0]) - self.thickness_m / 2, radial], axis=-1))
        radial = np.hypot(points[..., 0], points[..., 2]) - self.thickness_m / 2
        return _of_box(np.stack([radial, np.abs(points[..., 1]) - self.width_m / 2], axis=-1))


def _of_box(outside: Array) -> Array:
    """Distance from how far a point lies beyond each pair of faces (negative between them)."""
    return np.linalg.norm(np.maximum(outside, 0.0), axis=-1) + np.minimum(outside.max(axis=-1), 0.0)


def plate(thickness_mm: float, width_mm: float, height_mm: float) -> Shape:
    """A plate, sizes in millimetres."""
    name = f"plate_{thickness_mm:g}x{width_mm:g}x{height_mm:g}"
    return Shape(name, "plate", thickness_mm / 1e3, width_mm / 1e3, height_mm / 1e3)


def disk(thickness_mm: float, diameter_mm: float) -> Shape:
    """A disk, sizes in millimetres."""
    diameter = diameter_mm / 1e3
    return Shape(f"disk_{thickness_mm:g}x{diameter_mm:g}", "disk", thickness_mm / 1e3, diameter, diameter)


def rod(diameter_mm: float, length_mm: float) -> Shape:
    """A rod with flat ends, sizes in millimetres."""
    diameter = diameter_mm / 1e3
    return Shape(f"rod_{diameter_mm:g}x{length_mm:g}", "rod", diameter, length_mm / 1e3, diameter)


SEEN: tuple[Shape, ...] = (
    *(plate(3, 120, 60), plate(5, 110, 50), plate(7, 120, 70), plate(9, 100, 50), plate(12, 120, 60)),
    *(disk(4, 90), disk(6, 100), disk(8, 110), disk(10, 120), disk(12, 130)),
    *(rod(6, 120), rod(8, 120), rod(10, 140), rod(13, 120), rod(16, 140)),
)
"""The fifteen objects that refiners are trained on."""
UNSEEN: tuple[Shape, ...] = (
    *(plate(4, 110, 60), plate(10, 120, 50)),
    *(disk(5, 95), disk(9, 115)),
    *(rod(7, 120), rod(12, 140)),
)
"""Sizes that no training set holds, between the trained ones."""


def shape_of(name: str) -> Shape:
    """The shape called `name`.

    Raises:
        ValueError: there is none; lists the names.
    """
    known = {shape.name: shape for shape in (*SEEN, *UNSEEN)}
    if name not in known:
        raise ValueError(f"unknown object {name!r}; known objects: {', '.join(known)}")
    return known[name]
