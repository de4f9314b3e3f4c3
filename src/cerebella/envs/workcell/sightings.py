"""What a camera of the cell sees of each object: a box in the picture, and how much of it nothing hides."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import mujoco
import numpy as np

from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.episode_truth import Sighting
from cerebella.envs.workcell.task import SceneObject
from cerebella.geometry import Array

NEAR_M = 0.01
"""What is nearer to a camera is not in its picture."""
_SKIN_M = 0.003
_CORNERS = np.array(list(product((-0.5, 0.5), repeat=3)))
_FACES = np.concatenate([np.eye(3), -np.eye(3)]) * 0.5
_LOOKED_AT = 0.9 * np.concatenate([np.zeros((1, 3)), _CORNERS, _FACES])
"""Points of an object that rays are sent to, as shares of its edge lengths from its middle, float64[15, 3]."""
_DRAWN_GROUPS = np.array([1, 1, 1, 0, 0, 0], dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class PinholeView:
    """A camera at one moment. Its frame has x to the right, y up and z backwards, as in OpenGL.

    Args:
        T_world_camera: float64[4, 4]. focal_px: of both axes, pixels. size_px: (height, width) of the picture.
    """

    T_world_camera: Array
    focal_px: float
    size_px: tuple[int, int]

    def project(self, points_m: Array) -> tuple[Array, Array]:
        """Points in the world (m) to pixels.

        Args:
            points_m: float64[n, 3].

        Returns:
            (u to the right, v down) float64[n, 2], the picture's upper left corner at (0, 0), and the depth (m) float64[n] in
            front of the camera; pixels of points with a depth of 0 or less mean nothing.
        """
        x, y, z = ((points_m - self.T_world_camera[:3, 3]) @ self.T_world_camera[:3, :3]).T
        depth = np.where(np.abs(z) > 1e-9, -z, 1e-9)
        height, width = self.size_px
        pixels = np.stack([width / 2 + self.focal_px * x / depth, height / 2 - self.focal_px * y / depth], axis=1)
        return pixels, -z


def pinhole_view(cell: Cell, camera: str, size_px: tuple[int, int]) -> PinholeView:
    """Where a camera is now and what it maps to where.

    Args:
        camera: name in the model. size_px: (height, width) of its pictures.
    """
    seen, model = cell.data.camera(camera), cell.model.camera(camera)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = seen.xmat.reshape(3, 3), seen.xpos
    focal_px = size_px[0] / 2 / np.tan(np.radians(float(model.fovy[0])) / 2)
    return PinholeView(pose, float(focal_px), size_px)


def sightings(cell: Cell, view: PinholeView, objects: Sequence[SceneObject]) -> tuple[Sighting, ...]:
    """Every object in the order given.

    The box is that around the object's box (`SceneObject.size_m`) as the camera sees it, cut at the picture's edge. What
    hides an object is found with rays to 15 of its points; cloth hides nothing.
    """
    return tuple(_sighting(cell, view, each) for each in objects)


def _sighting(cell: Cell, view: PinholeView, seen: SceneObject) -> Sighting:
    pixels, depth = view.project(seen.position_m + _CORNERS * seen.size_m)
    box = None
    if depth.min() > NEAR_M:
        limit = np.array([view.size_px[1], view.size_px[0]], dtype=np.float64)
        low, high = np.clip(pixels.min(axis=0), 0, limit), np.clip(pixels.max(axis=0), 0, limit)
        if (high > low).all():
            box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    x, y, z = (float(value) for value in seen.position_m)
    share = 0.0 if box is None else _seen_share(cell, view, seen)
    return Sighting(seen.name, seen.kind, seen.colour, (x, y, z), box, share)


def _seen_share(cell: Cell, view: PinholeView, seen: SceneObject) -> float:
    """A point counts if it lies in the picture, and if its ray first hits something inside the object's own box, or nothing
    before the point.
    """
    points = seen.position_m + _LOOKED_AT * seen.size_m
    pixels, _ = view.project(points)
    is_inside = ((pixels >= 0) & (pixels <= [view.size_px[1], view.size_px[0]])).all(axis=1)
    start = view.T_world_camera[:3, 3]
    num_seen = 0
    for point in points[is_inside]:
        way = point - start
        length_m = float(np.linalg.norm(way))
        geom = np.zeros(1, dtype=np.int32)
        hit_m = mujoco.mj_ray(cell.model, cell.data, start, way / length_m, _DRAWN_GROUPS, True, -1, geom)
        place = start + way / length_m * hit_m
        is_own = (np.abs(place - seen.position_m) <= seen.size_m / 2 + _SKIN_M).all()
        num_seen += bool(hit_m < 0 or hit_m >= length_m or is_own)
    return num_seen / len(points)
