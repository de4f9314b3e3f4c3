"""Pictures of scenes: vectorised over scenes, anti-aliased, the same at every scale."""

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic import conveyor, conveyor_render
from cerebella.envs.scenes.scene import LOOKS, MAX_OBJECTS, Scenes
from cerebella.envs.scenes.shapes import HEIGHT_PX, REACH, WIDTH_PX, signed_distance
from cerebella.types import FloatArray, ImageArray

PIXEL_M = 0.0025
"""What a reference pixel covers on the belt: half of what the policy's camera sees in one."""
_NEAR = conveyor.ConveyorConfig(length_m=WIDTH_PX * PIXEL_M, width_m=HEIGHT_PX * PIXEL_M)
_MAX_OPENING = 0.25
_MAX_REACH_PX = REACH * 8.0


def render(scenes: Scenes, height: int = HEIGHT_PX) -> ImageArray:
    """uint8[N, height, 1.5 * height, 3] RGB.

    Raises:
        ValueError: fewer than 32 rows, or an odd number of them.
    """
    if height < 32 or height % 2:
        raise ValueError(f"scenes: a picture must have an even number of rows, 32 or more; got {height}")
    pictures = np.empty((len(scenes), height, height * WIDTH_PX // HEIGHT_PX, 3), dtype=np.uint8)
    for look, draw in zip(LOOKS, (_draw_table, _draw_belt), strict=True):
        chosen = np.flatnonzero(scenes.look == LOOKS.index(look))
        if chosen.size:
            pictures[chosen] = draw(scenes.take(chosen), height)
    return pictures


def _draw_belt(scenes: Scenes, height: int) -> ImageArray:
    """The conveyor's own camera, nearer; a scene is a belt that stands still."""
    count = len(scenes)
    zeros, none = np.zeros(count, dtype=np.int32), np.full(count, -1, dtype=np.int32)
    still = np.zeros(count, dtype=np.float32)
    background = scenes.background
    state = conveyor.ConveyorState(
        tick=zeros,
        gripper=scenes.gripper * np.float32(PIXEL_M),
        opening=background[:, 3] * np.float32(_MAX_OPENING),
        belt_speed=still,
        belt_offset=background[:, 2],
        part_position=scenes.centre * np.float32(PIXEL_M),
        part_is_present=scenes.is_present,
        part_colour=scenes.colour,
        part_shape=np.minimum(scenes.shape, len(conveyor.SHAPES) - 1).astype(np.int32),
        part_heading=scenes.heading,
        target=zeros,
        prompt_index=zeros,
        grasped=none,
        ticks_held=zeros,
        num_attempts=zeros,
        outcome=zeros,
        jump_tick=np.zeros((count, 0), dtype=np.int32),
        jump_speed=np.zeros((count, 0), dtype=np.float32),
        perturbation_tick=none,
        bump=np.zeros((count, 2), dtype=np.float32),
        perturbed_speed=still,
        light=_light(scenes),
        belt_grey=np.float32(45.0) + np.float32(45.0) * background[:, 1],
    )
    return conveyor_render.render(_NEAR, state, height, height * WIDTH_PX // HEIGHT_PX)


def _draw_table(scenes: Scenes, height: int) -> ImageArray:
    """A plain table top with a slope of light and a faint pattern, and the objects upon it."""
    scale = height / HEIGHT_PX
    half = int(np.ceil(_MAX_REACH_PX * scale)) + 1
    canvas = _table_top(scenes, height, half)
    light = _light(scenes)[:, None]
    for place in range(MAX_OBJECTS):
        chosen = np.flatnonzero(scenes.is_present[:, place])
        if not chosen.size:
            continue
        centre = scenes.centre[chosen, place] * np.float32(scale)
        columns, rows, du, dv = _patch(centre, half)
        size = scenes.size[chosen, place] * np.float32(scale)
        shape, heading = scenes.shape[chosen, place], scenes.heading[chosen, place]
        alpha = np.clip(0.5 - signed_distance(shape, size, heading, du, dv), 0.0, 1.0)[..., None]
        colour = np.clip(conveyor_render.COLOUR_RGB[scenes.colour[chosen, place]] * light[chosen], 0.0, 255.0)
        where = (chosen[:, None, None], rows + half, columns + half)
        below = canvas[where].astype(np.float32)
        canvas[where] = (below + (colour[:, None, None] - below) * alpha + 0.5).astype(np.uint8)
    return np.ascontiguousarray(canvas[:, half:-half, half:-half])


def _table_top(scenes: Scenes, height: int, margin: int) -> ImageArray:
    """uint8[N, height + 2 margin, width + 2 margin, 3]; the margin is only there to be drawn upon."""
    background = scenes.background
    width = height * WIDTH_PX // HEIGHT_PX
    u, v = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5 for size in (width, height))
    slope = np.float32(0.35) * (background[:, 2:4] - np.float32(0.5))
    wave = background[:, 6, None] + u * (4.0 + 8.0 * background[:, 7, None])
    stripes = 1.0 + 0.06 * np.sin(2.0 * np.pi * wave)
    tint = np.stack([0.9 + 0.2 * background[:, 4], np.ones(len(scenes)), 0.9 + 0.2 * background[:, 5]], axis=1)
    base = ((40.0 + 70.0 * background[:, 1]) * _light(scenes))[:, None] * tint
    strip = ((1.0 + slope[:, :1] * u) * stripes)[:, :, None] * base[:, None]
    strip = strip.astype(np.float32)
    canvas = np.empty((len(scenes), height + 2 * margin, width + 2 * margin, 3), dtype=np.uint8)
    for row in range(height):  # row by row stays in the processor's cache
        down = (1.0 + slope[:, 1] * v[row])[:, None, None]
        np.multiply(strip, down, out=canvas[:, margin + row, margin:-margin], casting="unsafe")
    return canvas


def _patch(centre: FloatArray, half: int) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray, FloatArray]:
    """Pixels around each of M centres: columns [M, 1, k], rows [M, k, 1], and their offsets in px, du and dv."""
    span = np.arange(-half, half + 1)
    first = np.floor(centre).astype(np.intp)
    columns, rows = first[:, 0, None] + span, first[:, 1, None] + span
    du = (columns + 0.5 - centre[:, 0, None]).astype(np.float32)
    dv = (rows + 0.5 - centre[:, 1, None]).astype(np.float32)
    return columns[:, None, :], rows[:, :, None], du[:, None, :], dv[:, :, None]


def _light(scenes: Scenes) -> FloatArray:
    """float32[N], brightness around 1."""
    return (0.85 + 0.3 * scenes.background[:, 0]).astype(np.float32)
