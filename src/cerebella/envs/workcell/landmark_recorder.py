"""Watches a demonstration and writes down where everything is in its pictures: see `landmarks`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.landmarks import Landmarks
from cerebella.envs.workcell.scene import CAMERAS
from cerebella.envs.workcell.sightings import NEAR_M, pinhole_view
from cerebella.geometry import Array
from cerebella.types import BoolArray


class LandmarkRecorder:
    """Watches one episode; call `look` once per recorded frame, before its command is applied. It sends no rays and draws
    nothing.

    Args:
        environment: at the start of an episode, with images.
    """

    def __init__(self, environment: WorkcellEnvironment[Any]) -> None:
        """See the class."""
        self._environment = environment
        self._numbers: dict[tuple[str, str, str], int] = {}  # (name, kind, colour) -> number
        self._rows: list[tuple[list[int], Array, BoolArray, list[int]]] = []

    def look(self) -> None:
        """Note where things are now.

        Raises:
            ValueError: the task names a thing that is not in the scene.
        """
        environment = self._environment
        things = environment.truth()
        numbers = [self._numbers.setdefault((t.name, t.kind, t.colour), len(self._numbers)) for t in things]
        middles_m = np.array([t.position_m for t in things]).reshape(-1, 3)
        seen = [self._seen(view, middles_m) for view in environment.embodiment.views]
        number_of = {thing.name: number for thing, number in zip(things, numbers, strict=True)}
        named = environment.task.named(environment.cell, environment.episode)
        if unknown := [name for name in named if name not in number_of]:
            raise ValueError(f"{environment.task.name} names {unknown[0]!r}, but there are {', '.join(number_of)}")
        pixel, is_inside = np.stack([p for p, _ in seen]), np.stack([i for _, i in seen])
        self._rows.append((numbers, pixel, is_inside, [number_of[name] for name in named]))

    def finish(self) -> Landmarks:
        """Everything, after the last frame."""
        views = self._environment.embodiment.views
        num_rows, num_views, num_things = len(self._rows), len(views), len(self._numbers)
        pixel = np.zeros((num_rows, num_views, num_things, 2), dtype=np.float32)
        is_inside = np.zeros((num_rows, num_views, num_things), dtype=bool)
        named, coming = np.zeros((num_rows, num_things), dtype=bool), np.full(num_rows, -1, dtype=np.int16)
        for row, (numbers, pixels, inside, wanted) in enumerate(self._rows):
            pixel[row][:, numbers], is_inside[row][:, numbers] = pixels, inside
            named[row, wanted] = True
            coming[row] = wanted[0] if wanted else -1
        names, kind, colour = (self._texts(part) for part in range(3))
        return Landmarks(views, self._environment.render_size, names, kind, colour, pixel, is_inside, named, coming)

    def _seen(self, view: str, middles_m: Array) -> tuple[Array, BoolArray]:
        """Pixels float64[n, 2] of points in the world, and whether they are inside the picture."""
        environment = self._environment
        pixels, depth = pinhole_view(environment.cell, CAMERAS[view], environment.render_size).project(middles_m)
        is_before = depth > NEAR_M
        pixels[~is_before] = 0.0
        height, width = environment.render_size
        return pixels, is_before & (pixels >= 0).all(axis=1) & (pixels < [width, height]).all(axis=1)

    def _texts(self, part: int) -> NDArray[np.str_]:
        return np.array([key[part] for key in self._numbers], dtype=np.str_)
