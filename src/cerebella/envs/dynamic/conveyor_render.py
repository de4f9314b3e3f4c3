"""The camera above the belt: vectorised, anti-aliased, the same picture at every scale.

Pixel i covers the lengths i .. i + 1 times the pixel size; u grows with x (to the right, downstream) and v with y (down).
Small patches around the parts and the gripper are blended into a background that is copied row by row; everything is
drawn into a canvas with a margin, so that what leaves the picture needs no special case.
"""

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.conveyor import SHAPES, ConveyorConfig, ConveyorState
from cerebella.types import FloatArray, ImageArray

COLOUR_RGB = np.array([[222, 52, 44], [44, 168, 72], [44, 96, 222], [246, 200, 40], [246, 246, 242]], dtype=np.float32)
"""In the order of `COLOURS`, at light 1."""
GRIPPER_RGB = np.array([40, 214, 214], dtype=np.float32)

_HALF_SIZE_M = np.array([[0.0125, 0.0125], [0.0105, 0.0105], [0.0150, 0.0075]], dtype=np.float32)
_PART_REACH_M = 0.0170
_RAIL_RGB = np.array([148, 154, 164], dtype=np.float32)
_CHEVRON_PERIOD_M, _CHEVRON_WIDTH_M, _CHEVRON_GAIN = 0.06, 0.010, 1.28
_CLOSED_GAP_M, _GAP_STROKE_M = 0.0045, 0.025
_FINGER_HALF_M = (0.0100, 0.0032)
_GRIPPER_REACH_M = 0.040
_DETAIL_PIXEL_M = 0.0025
_EXIT_LINE_M = 0.0015


def render(config: ConveyorConfig, state: ConveyorState, height: int = 64, width: int = 96) -> ImageArray:
    """Pictures of all scenes, uint8[N, height, width, 3] RGB, seen from above.

    Args:
        config: the constants.
        state: N scenes.
        height, width: pixels; the ratio must be that of the workspace (2 : 3), 64 x 96 for policies, larger for videos.

    Raises:
        ValueError: another ratio, or a picture of fewer than 32 rows.
    """
    if height < 32 or abs(height * config.length_m - width * config.width_m) > 1e-6:
        raise ValueError(
            f"conveyor: a picture must have 32 or more rows and the ratio 2 : 3, e.g. 64 x 96 pixels; got {height} x {width}"
        )
    pixel_m = config.length_m / width
    margin = 2 * int(np.ceil(_PART_REACH_M / pixel_m)) + 6
    margin = max(margin, int(np.ceil(_GRIPPER_REACH_M / pixel_m)) + 2)
    canvas = _background(config, state, height, width, margin)
    _draw_parts(config, state, canvas, margin, pixel_m)
    _draw_gripper(state, canvas, margin, pixel_m)
    return np.ascontiguousarray(canvas[:, margin:-margin, margin:-margin])


def pixel_position(config: ConveyorConfig, position: FloatArray, width: int = 96) -> FloatArray:
    """Metres to pixels, float32[..., 2] as (u, v): `floor` of it is the index of the pixel (column, row)."""
    return (position * (width / config.length_m)).astype(np.float32)


def _background(config: ConveyorConfig, state: ConveyorState, height: int, width: int, margin: int) -> ImageArray:
    """Belt with chevrons that travel with it, rails above and below, a line where the target counts as gone."""
    pixel_m = config.length_m / width
    count = len(state)
    canvas = np.empty((count, height + 2 * margin, width + 2 * margin, 3), dtype=np.uint8)
    strip = _belt_strip(state, pixel_m, margin, width, height)
    rail_rows = round(config.belt_margin_m / pixel_m)
    for row in range(height):
        inside = canvas[:, margin + row]
        if rail_rows <= row < height - rail_rows:
            shift = int(abs(row + 0.5 - height / 2))
            inside[:] = strip[:, shift : shift + width + 2 * margin]
        else:
            depth = (row + 0.5) / rail_rows if row < rail_rows else (height - row - 0.5) / rail_rows
            shade = 0.55 + 0.45 * np.sin(np.pi * depth)
            inside[:] = np.clip(_RAIL_RGB * shade * state.light[:, None], 0, 255).astype(np.uint8)[:, None, :]
    first = margin + int(config.exit_x_m / pixel_m)
    exit_line = canvas[
        :, margin + rail_rows : margin + height - rail_rows, first : first + max(1, round(_EXIT_LINE_M / pixel_m))
    ]
    exit_line[:] = exit_line // 2 + np.array([60, 30, 20], dtype=np.uint8)
    return canvas


def _belt_strip(state: ConveyorState, pixel_m: float, margin: int, width: int, height: int) -> ImageArray:
    """One long row of belt, uint8[N, width + 2 margin + height / 2, 3]; a row of the picture is a piece of it."""
    pixels = np.arange(width + 2 * margin + height // 2 + 1, dtype=np.float32) + 0.5 - margin
    phase = (pixels * np.float32(pixel_m) - state.belt_offset[:, None]) % _CHEVRON_PERIOD_M
    from_centre = np.abs(phase - _CHEVRON_PERIOD_M / 2) / np.sqrt(2.0)
    stripe = np.clip(0.5 - (from_centre - _CHEVRON_WIDTH_M / 2) / pixel_m, 0.0, 1.0)
    grey = (state.belt_grey * state.light)[:, None] * (1.0 + (_CHEVRON_GAIN - 1.0) * stripe)
    return np.clip(grey[:, :, None] * np.array([0.94, 1.0, 1.08]), 0, 255).astype(np.uint8)


def _patch(
    centre: FloatArray, canvas: ImageArray, margin: int, pixel_m: float, reach_m: float
) -> tuple[NDArray[np.intp], FloatArray, FloatArray]:
    """Pixels around each centre.

    Args:
        centre: float32[M, 2], (u, v) in pixels. canvas: [N, ...], M a multiple of N (scenes outermost).

    Returns:
        Flat pixel indices [M, k, k] into the canvas, and the offsets of the pixel centres in metres: dx [M, 1, k] and
        dy [M, k, 1].
    """
    half = int(np.ceil(reach_m / pixel_m))
    _, rows, columns, _ = canvas.shape
    span = np.arange(-half, half + 1)
    first = np.floor(centre).astype(np.intp)
    u = first[:, 0, None] + span
    v = first[:, 1, None] + span
    scene = np.repeat(np.arange(len(canvas)), len(centre) // len(canvas))
    flat = ((scene[:, None] * rows + v + margin) * columns)[:, :, None] + (u + margin)[:, None, :]
    dx = ((u + 0.5 - centre[:, 0, None]) * pixel_m).astype(np.float32)[:, None, :]
    dy = ((v + 0.5 - centre[:, 1, None]) * pixel_m).astype(np.float32)[:, :, None]
    return flat, dx, dy


def _blend(canvas: ImageArray, flat: NDArray[np.intp], alpha: FloatArray, colour: FloatArray) -> None:
    """Mix `colour` (float32, broadcast to [M, k, k, 3]) into the canvas where `alpha` is above zero."""
    chosen = alpha > 0.0
    pixels = canvas.reshape(-1, 3)
    where = flat[chosen]
    old = pixels[where].astype(np.float32)
    new = np.broadcast_to(colour, (*alpha.shape, 3))[chosen]
    pixels[where] = (old + (new - old) * alpha[chosen][:, None] + 0.5).astype(np.uint8)


def _draw_parts(config: ConveyorConfig, state: ConveyorState, canvas: ImageArray, margin: int, pixel_m: float) -> None:
    height, width = canvas.shape[1] - 2 * margin, canvas.shape[2] - 2 * margin
    reach = int(np.ceil(_PART_REACH_M / pixel_m)) + 2
    centre = pixel_position(config, state.part_position, width).reshape(-1, 2)
    centre = np.clip(centre, -reach, np.array([width + reach, height + reach], dtype=np.float32))
    is_present = state.part_is_present.reshape(-1, 1, 1)
    shape = state.part_shape.reshape(-1)
    heading = state.part_heading.reshape(-1)
    colour = COLOUR_RGB[state.part_colour] * state.light[:, None, None]
    colour = np.clip(colour, 0, 255).reshape(-1, 1, 1, 3).astype(np.float32)
    has_detail = pixel_m < _DETAIL_PIXEL_M
    flat, dx, dy = _patch(centre, canvas, margin, pixel_m, _PART_REACH_M + (0.003 if has_detail else 0.0))
    if has_detail:
        shadow = np.clip(0.5 - _part_distance(dx - 0.002, dy - 0.0025, shape, heading) / 0.004, 0.0, 1.0)
        _blend(canvas, flat, 0.45 * shadow * is_present, np.zeros(3, dtype=np.float32))
    distance = _part_distance(dx, dy, shape, heading)
    alpha = (np.clip(0.5 - distance / pixel_m, 0.0, 1.0) * is_present).astype(np.float32)
    if has_detail:
        shade = 1.0 - 0.30 * np.clip((distance + 0.0022) / 0.0012, 0.0, 1.0)
        shade += 0.10 * np.clip(-(dx + dy) / 0.02, -1.0, 1.0)
        colour = np.clip(colour * shade[..., None], 0, 255).astype(np.float32)
    _blend(canvas, flat, alpha, colour)


def _part_distance(dx: FloatArray, dy: FloatArray, shape: NDArray[np.int32], heading: FloatArray) -> FloatArray:
    """Signed distance to the outline of each part in metres, negative inside, float32[M, k, k]."""
    half = _HALF_SIZE_M[shape]
    cosine, sine = np.cos(heading)[:, None, None], np.sin(heading)[:, None, None]
    along = np.abs(cosine * dx + sine * dy) - half[:, 0, None, None]
    across = np.abs(cosine * dy - sine * dx) - half[:, 1, None, None]
    distance = np.maximum(along, across)
    is_disc = shape == SHAPES.index("disc")
    distance[is_disc] = np.sqrt(dx[is_disc] ** 2 + dy[is_disc] ** 2) - half[is_disc, 0, None, None]
    return distance


def _draw_gripper(state: ConveyorState, canvas: ImageArray, margin: int, pixel_m: float) -> None:
    """Two fingers whose gap shows the opening, and a small cross at the tool centre."""
    centre = state.gripper / np.float32(pixel_m)
    flat, dx, dy = _patch(centre, canvas, margin, pixel_m, _GRIPPER_REACH_M)
    gap = (_CLOSED_GAP_M + _GAP_STROKE_M * state.opening + _FINGER_HALF_M[1])[:, None, None]
    has_detail = pixel_m < _DETAIL_PIXEL_M
    finger = _finger_distance(dx, dy, gap)
    cross = np.minimum(
        np.maximum(np.abs(dx) - 0.0045, np.abs(dy) - 0.0006), np.maximum(np.abs(dx) - 0.0006, np.abs(dy) - 0.0045)
    )
    cross_strength = 0.95 if has_detail else 0.6
    alpha = np.maximum(
        np.clip(0.5 - finger / pixel_m, 0.0, 1.0), cross_strength * np.clip(0.5 - cross / pixel_m, 0.0, 1.0)
    )
    colour = np.clip(GRIPPER_RGB * state.light[:, None], 0, 255)[:, None, None, :].astype(np.float32)
    if has_detail:
        shadow = np.clip(0.5 - _finger_distance(dx - 0.003, dy - 0.004, gap) / 0.005, 0.0, 1.0)
        _blend(canvas, flat, 0.5 * shadow, np.zeros(3, dtype=np.float32))
        shade = 1.0 - 0.4 * np.clip((np.minimum(finger, cross + 1.0) + 0.0016) / 0.0008, 0.0, 1.0)
        colour = (colour * shade[..., None]).astype(np.float32)
    _blend(canvas, flat, alpha, colour)


def _finger_distance(dx: FloatArray, dy: FloatArray, gap: FloatArray) -> FloatArray:
    """Signed distance to the nearer finger in metres, float32[N, k, k]."""
    return np.maximum(np.abs(dx) - _FINGER_HALF_M[0], np.abs(np.abs(dy) - gap) - _FINGER_HALF_M[1])
