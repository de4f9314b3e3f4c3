"""Pictures of planar scenes from above: discs, rings and boxes, anti-aliased, one array program for N scenes.

Pixel i covers the lengths i .. i + 1 times the pixel size; u grows with x (to the right) and v with y (down). Every shape is
a signed distance, blended over what is there, in the part of each picture that the shape can reach.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cerebella.envs.dynamic.planar import LENGTH_M, WIDTH_M
from cerebella.types import BoolArray, FloatArray, ImageArray

GRIPPER_RGB = (40, 214, 214)
_Where = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
_CLOSED_GAP_M, _GAP_STROKE_M, _FINGER_HALF_M = 0.0045, 0.025, (0.0100, 0.0032)


class Picture:
    """N pictures while they are drawn.

    Args:
        num_scenes: N. height, width: pixels, 2 : 3. background: RGB, 0..255, float[3] or float[N, 3].

    Raises:
        ValueError: another ratio, or fewer than 32 rows.
    """

    def __init__(self, num_scenes: int, height: int, width: int, background: ArrayLike) -> None:
        if height < 32 or abs(height * LENGTH_M - width * WIDTH_M) > 1e-6:
            raise ValueError(
                f"a picture must have 32 or more rows and the ratio 2 : 3, e.g. 64 x 96 pixels; got {height} x {width}"
            )
        self._pixel_m = np.float32(LENGTH_M / width)
        self._x_m = (np.arange(width, dtype=np.float32) + 0.5) * self._pixel_m
        self._y_m = (np.arange(height, dtype=np.float32) + 0.5) * self._pixel_m
        colour = np.broadcast_to(np.asarray(background, dtype=np.float32), (num_scenes, 3))
        self._rgb = np.repeat(np.repeat(colour[:, None, None], height, axis=1), width, axis=2)

    def disc(
        self, centre: FloatArray, radius_m: ArrayLike, colour: ArrayLike, is_visible: BoolArray | None = None
    ) -> None:
        """centre: float[N, 2] metres. radius_m: float or float[N]. colour: RGB, float[3] or float[N, 3]."""
        where, dx, dy = self._patch(centre, np.max(radius_m), np.max(radius_m))
        self._blend(where, np.sqrt(dx**2 + dy**2) - _column(radius_m), colour, is_visible)

    def ring(
        self,
        centre: FloatArray,
        radius_m: ArrayLike,
        line_m: float,
        colour: ArrayLike,
        is_visible: BoolArray | None = None,
    ) -> None:
        """A circle drawn with a line of `line_m`."""
        half_m = np.float32(line_m / 2)
        reach_m = np.max(radius_m) + line_m / 2
        where, dx, dy = self._patch(centre, reach_m, reach_m)
        self._blend(where, np.abs(np.sqrt(dx**2 + dy**2) - _column(radius_m)) - half_m, colour, is_visible)

    def box(
        self,
        centre: FloatArray,
        half_size_m: ArrayLike,
        colour: ArrayLike,
        heading_rad: ArrayLike = 0.0,
        is_visible: BoolArray | None = None,
    ) -> None:
        """half_size_m: float[2] or float[N, 2], along and across the heading. heading_rad: float or float[N], from x to y."""
        half = np.broadcast_to(np.asarray(half_size_m, dtype=np.float32), (len(centre), 2))
        cosine, sine = np.cos(_column(heading_rad)), np.sin(_column(heading_rad))
        sides = np.abs(np.stack([cosine, sine], axis=-1)).reshape(-1, 2)
        where, dx, dy = self._patch(
            centre, np.max((sides * half).sum(axis=1)), np.max((sides[:, ::-1] * half).sum(axis=1))
        )
        along = np.abs(cosine * dx + sine * dy) - half[:, 0, None, None]
        across = np.abs(cosine * dy - sine * dx) - half[:, 1, None, None]
        self._blend(where, np.maximum(along, across), colour, is_visible)

    def gripper(self, centre: FloatArray, opening: ArrayLike = 1.0) -> None:
        """Two fingers, above and below the tool centre, whose gap shows the opening (0 closed .. 1 open)."""
        where, dx, dy = self._patch(centre, _FINGER_HALF_M[0], _CLOSED_GAP_M + _GAP_STROKE_M + 2 * _FINGER_HALF_M[1])
        gap = _column(_CLOSED_GAP_M + _GAP_STROKE_M * np.asarray(opening) + _FINGER_HALF_M[1])
        distance = np.maximum(np.abs(dx) - _FINGER_HALF_M[0], np.abs(np.abs(dy) - gap) - _FINGER_HALF_M[1])
        cross = np.minimum(
            np.maximum(np.abs(dx) - 0.0045, np.abs(dy) - 0.0008), np.maximum(np.abs(dx) - 0.0008, np.abs(dy) - 0.0045)
        )
        self._blend(where, np.minimum(distance, cross), GRIPPER_RGB, None)

    def finish(self, light: ArrayLike = 1.0) -> ImageArray:
        """uint8[N, height, width, 3]; `light` is a brightness around 1, float or float[N]."""
        factor = np.asarray(light, dtype=np.float32).reshape(-1, 1, 1, 1)
        return np.clip(self._rgb * factor + 0.5, 0, 255).astype(np.uint8)

    def _patch(self, centre: FloatArray, reach_x_m: float, reach_y_m: float) -> tuple[_Where, FloatArray, FloatArray]:
        """The part of every picture that a shape can reach.

        Returns:
            Indices into the pictures, and the offsets of the pixel centres from `centre` in metres: dx [N, 1, w], dy
            [N, h, 1]. A shape beyond the border gets the part that is nearest to it.
        """
        columns = self._span(centre[:, 0], reach_x_m, self._x_m)
        rows = self._span(centre[:, 1], reach_y_m, self._y_m)
        where = (np.arange(len(centre))[:, None, None], rows[:, :, None], columns[:, None, :])
        dx = self._x_m[columns] - centre[:, 0, None]
        dy = self._y_m[rows] - centre[:, 1, None]
        return where, dx[:, None, :], dy[:, :, None]

    def _span(self, middle_m: FloatArray, reach_m: float, pixel_centres_m: FloatArray) -> NDArray[np.intp]:
        """Pixel indices along one axis, int[N, k], inside the picture."""
        half = int(np.ceil(reach_m / self._pixel_m)) + 1
        num_pixels = len(pixel_centres_m)
        length = min(2 * half + 1, num_pixels)
        middle = np.clip(middle_m / self._pixel_m, -num_pixels, 2 * num_pixels)
        first = np.clip(np.floor(middle).astype(np.intp) - half, 0, num_pixels - length)
        return first[:, None] + np.arange(length)

    def _blend(self, where: _Where, distance_m: FloatArray, colour: ArrayLike, is_visible: BoolArray | None) -> None:
        share = np.clip(0.5 - distance_m / self._pixel_m, 0.0, 1.0)
        if is_visible is not None:
            share = share * is_visible[:, None, None]
        rgb = np.asarray(colour, dtype=np.float32).reshape(-1, 1, 1, 3)
        there = self._rgb[where]
        self._rgb[where] = there + (rgb - there) * share[..., None]


def _column(values: ArrayLike) -> FloatArray:
    """A number or float[N] that broadcasts against [N, h, w]."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)
