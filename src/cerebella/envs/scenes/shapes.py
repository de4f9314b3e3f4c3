"""The outlines of flat objects: distance, bounding box, and what a grounding answer is compared with.

Lengths are pixels of the 96 x 64 reference picture, u to the right and v down, as everywhere. `size` is the radius of a
disc; the other shapes are cut to cover about the same area.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cerebella.data.grounding import Box, Point, to_relative_1000
from cerebella.envs.dynamic import conveyor
from cerebella.types import BoolArray, FloatArray

WIDTH_PX, HEIGHT_PX = 96, 64
"""The reference picture, in which positions and sizes are told; pictures may be larger, of the same ratio."""
SHAPES = (*conveyor.SHAPES, "triangle", "ring")
"""The first three are those of the conveyor's parts."""
REACH = 1.345
"""No outline reaches farther from its centre than this times its size (the corner of a bar)."""

_HALF = np.array([[1.0, 1.0], [0.84, 0.84], [1.2, 0.6], [0.0, 0.0], [1.0, 1.0]], dtype=np.float32)
_DISC = 0
_SQUARE, _BAR, _TRIANGLE, _RING = 1, 2, 3, 4
_TRIANGLE_RADIUS = 1.25
_RING_MIDDLE, _RING_HALF_WIDTH = 0.70, 0.30
_TRIANGLE_ANGLES_RAD = np.deg2rad([90.0, 210.0, 330.0]).astype(np.float32)


def signed_distance(
    shape: NDArray[np.int32], size: FloatArray, heading: FloatArray, du: FloatArray, dv: FloatArray
) -> FloatArray:
    """Distance to the outlines of M objects, px, negative inside, float32[M, k, k].

    Args:
        shape: int32[M] into `SHAPES`. size: float32[M], px. heading: float32[M], rad.
        du, dv: offsets from the centres, px, broadcast to [M, k, k].
    """
    cosine, sine = np.cos(heading)[:, None, None], np.sin(heading)[:, None, None]
    radius = size[:, None, None]
    half = _HALF[shape][:, :, None, None] * radius[:, None]
    from_centre = np.sqrt(du**2 + dv**2)
    distance = from_centre - radius
    boxes = (shape == _SQUARE) | (shape == _BAR)
    along, across = cosine * du + sine * dv, cosine * dv - sine * du
    distance[boxes] = np.maximum(np.abs(along) - half[:, 0], np.abs(across) - half[:, 1])[boxes]
    triangles = shape == _TRIANGLE
    sides = [-(np.cos(angle) * along[triangles] + np.sin(angle) * across[triangles]) for angle in _TRIANGLE_ANGLES_RAD]
    distance[triangles] = np.max(sides, axis=0) - _TRIANGLE_RADIUS / 2 * radius[triangles]
    rings = shape == _RING
    middle = np.abs(from_centre[rings] - _RING_MIDDLE * radius[rings])
    distance[rings] = middle - _RING_HALF_WIDTH * radius[rings]
    return distance.astype(np.float32)


def bounds(shape: int, size: float, heading: float) -> tuple[float, float, float, float]:
    """(u low, v low, u high, v high) of one outline, px from its centre."""
    cosine, sine = float(np.cos(heading)), float(np.sin(heading))
    if shape in (_SQUARE, _BAR):
        along, across = (float(half) * size for half in _HALF[shape])
        u, v = abs(cosine) * along + abs(sine) * across, abs(sine) * along + abs(cosine) * across
        return -u, -v, u, v
    if shape == _TRIANGLE:
        corners_u = _TRIANGLE_RADIUS * size * np.cos(_TRIANGLE_ANGLES_RAD + heading)
        corners_v = _TRIANGLE_RADIUS * size * np.sin(_TRIANGLE_ANGLES_RAD + heading)
        return float(corners_u.min()), float(corners_v.min()), float(corners_u.max()), float(corners_v.max())
    return -size, -size, size, size


@dataclass(frozen=True)
class Outline:
    """One object as grounding sees it. Coordinates of answers are integers 0..1000 of the width and of the height."""

    shape: int
    u: float
    v: float
    size: float
    heading: float

    def box(self, label: str) -> Box:
        """The tight bounding box."""
        low_u, low_v, high_u, high_v = bounds(self.shape, self.size, self.heading)
        corners = [[self.u + low_u, self.v + low_v], [self.u + high_u, self.v + high_v]]
        (left, top), (right, bottom) = to_relative_1000(corners, WIDTH_PX, HEIGHT_PX).tolist()
        return Box(label, left, top, right, bottom)

    def point(self, label: str) -> Point:
        """The centre."""
        u, v = to_relative_1000([self.u, self.v], WIDTH_PX, HEIGHT_PX).tolist()
        return Point(label, u, v)

    def contains(self, x: ArrayLike, y: ArrayLike) -> BoolArray:
        """Whether points (0..1000 each) lie inside the outer edge, bool of their shape; a ring's hole counts as inside."""
        du, dv = np.broadcast_arrays(
            np.asarray(x, dtype=np.float32) * (WIDTH_PX / 1000) - self.u,
            np.asarray(y, dtype=np.float32) * (HEIGHT_PX / 1000) - self.v,
        )
        distance = signed_distance(
            np.array([_DISC if self.shape == _RING else self.shape], dtype=np.int32),
            np.array([self.size], dtype=np.float32),
            np.array([self.heading], dtype=np.float32),
            du.reshape(1, 1, -1),
            dv.reshape(1, 1, -1),
        )
        return (distance <= 0.0).reshape(du.shape)
