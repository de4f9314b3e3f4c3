"""Pictures of the jammed drawer from above: the cabinet at the left edge, the drawer slides out of it to the right.

Jammed: a red lamp and an arrow on the side to which the handle must go, a red line where the drawer is stuck, a white one
where it must go back to. The handle turns from steel to red as it is strained.
"""

import numpy as np
from numpy.typing import ArrayLike

from cerebella.envs.dynamic.jammed_drawer_physics import RELEASE_ASIDE_M, RELEASE_M, JammedDrawerState
from cerebella.envs.dynamic.landmarks import Landmarks, one_of_each
from cerebella.envs.dynamic.picture import Picture
from cerebella.types import BoolArray, FloatArray, ImageArray

_FLOOR_RGB, _CABINET_RGB, _EDGE_RGB = (58, 62, 70), (112, 76, 48), (78, 52, 34)
_DRAWER_RGB, _INSIDE_RGB, _FRONT_RGB = (196, 150, 96), (150, 108, 66), (222, 180, 124)
_GOAL_RGB, _STUCK_RGB, _RELEASE_RGB, _LAMP_OFF_RGB = (70, 220, 100), (240, 44, 40), (246, 246, 242), (84, 30, 28)
_STEEL_RGB, _HOT_RGB, _BROKEN_RGB = (190, 196, 204), (255, 190, 30), (255, 30, 60)

_HALF_WIDTH_M = 0.07
_HANDLE_REACH_M = 0.014
"""From the drawer's front to the handle."""
_DEPTH_M = 0.40
_LAMP_X_M, _LAMP_ASIDE_M = 0.026, 0.075
_ARROW_AHEAD_M, _ARROW_ASIDE_M = 0.034, 0.020

LANDMARKS = ("handle", "goal", "way out", "arrow", "lamp")
"""`way out`: where the handle of a jammed drawer must go, from the white line and the arrow's side."""


def render(state: JammedDrawerState, height: int = 64, width: int = 96) -> ImageArray:
    """uint8[N, height, width, 3] RGB; pixel i covers the lengths i .. i + 1 times the pixel size.

    Raises:
        ValueError: another ratio than 2 : 3, or fewer than 32 rows.
    """
    picture = Picture(len(state), height, width, _FLOOR_RGB)
    _draw_goal(picture, state)
    _draw_drawer(picture, state)
    _draw_cabinet(picture, state)
    _draw_jam(picture, state)
    _draw_handle(picture, state)
    picture.gripper(state.gripper, 0.42)
    return picture.finish(state.light)


def landmarks(state: JammedDrawerState) -> Landmarks:
    """See `LANDMARKS`; the target is the goal, or the way out of a jam."""
    side, is_jammed = state.jam_side, state.is_jammed
    positions = (
        state.gripper,
        _points(state.closed_x + state.goal_opening, state.axis_y),
        _points(_release_x(state), state.axis_y + side * RELEASE_ASIDE_M),
        _points(state.gripper[:, 0] + _ARROW_AHEAD_M, state.axis_y + side * _ARROW_ASIDE_M),
        _points(np.full(len(state), _LAMP_X_M), state.axis_y + side * _LAMP_ASIDE_M),
    )
    return one_of_each(positions, np.where(is_jammed, 2, 1), (True, True, is_jammed, is_jammed, is_jammed))


def _release_x(state: JammedDrawerState) -> FloatArray:
    return state.closed_x + np.maximum(state.jammed_at - RELEASE_M, 0.0)


def _points(x: ArrayLike, y: ArrayLike) -> FloatArray:
    return np.column_stack([x, y]).astype(np.float32)


def _draw_goal(picture: Picture, state: JammedDrawerState) -> None:
    for side in (-1, 1):
        at = _points(state.closed_x + state.goal_opening, state.axis_y + side * 0.052)
        picture.box(at, (0.0025, 0.030), _GOAL_RGB)


def _draw_drawer(picture: Picture, state: JammedDrawerState) -> None:
    """A box whose front follows the handle, turned by its play in the rails."""
    x, y = state.gripper[:, 0] - _HANDLE_REACH_M, state.gripper[:, 1]
    heading = np.arctan2(y - state.axis_y, _DEPTH_M)
    cosine, sine = np.cos(heading), np.sin(heading)
    middle = _points(x - cosine * (_DEPTH_M / 2), y - sine * (_DEPTH_M / 2))
    picture.box(middle, (_DEPTH_M / 2, _HALF_WIDTH_M), _DRAWER_RGB, heading)
    picture.box(middle, (_DEPTH_M / 2 - 0.008, _HALF_WIDTH_M - 0.008), _INSIDE_RGB, heading)
    front = _points(x - cosine * 0.004, y - sine * 0.004)
    picture.box(front, (0.005, _HALF_WIDTH_M + 0.004), _FRONT_RGB, heading)


def _draw_cabinet(picture: Picture, state: JammedDrawerState) -> None:
    """It hides what is still inside; its front edge is where the front of the shut drawer is."""
    edge_x = state.closed_x - _HANDLE_REACH_M - 0.006
    half_x = edge_x / 2
    picture.box(_points(half_x, state.axis_y), np.column_stack([half_x, np.full(len(state), 0.105)]), _CABINET_RGB)
    picture.box(_points(edge_x - 0.003, state.axis_y), (0.003, 0.105), _EDGE_RGB)


def _draw_jam(picture: Picture, state: JammedDrawerState) -> None:
    is_jammed: BoolArray = state.is_jammed
    stuck_x = state.closed_x + state.jammed_at
    for side in (-1, 1):
        for x, colour in ((_release_x(state), _RELEASE_RGB), (stuck_x, _STUCK_RGB)):
            at = _points(x - _HANDLE_REACH_M, state.axis_y + side * (_HALF_WIDTH_M + 0.012))
            picture.box(at, (0.0022, 0.010), colour, is_visible=is_jammed)
        lamp = _points(np.full(len(state), _LAMP_X_M), state.axis_y + side * _LAMP_ASIDE_M)
        picture.disc(lamp, 0.016, np.where((state.jam_side == side)[:, None], _STUCK_RGB, _LAMP_OFF_RGB))
    # An arrow in front of the handle, from the axis to the side.
    x, y = state.gripper[:, 0] + _ARROW_AHEAD_M, state.axis_y
    picture.box(_points(x, y + state.jam_side * _ARROW_ASIDE_M), (0.004, 0.018), _STUCK_RGB, is_visible=is_jammed)
    for turn in (-1, 1):
        barb = _points(x + turn * 0.006, y + state.jam_side * 0.034)
        picture.box(barb, (0.011, 0.004), _STUCK_RGB, -turn * state.jam_side * np.pi / 4, is_jammed)


def _draw_handle(picture: Picture, state: JammedDrawerState) -> None:
    """Two posts and a bar in the colour of the strain."""
    share = np.clip(2.0 * state.strain, 0.0, 2.0)[:, None]
    steel, hot, broken = (np.array(rgb, dtype=np.float32) for rgb in (_STEEL_RGB, _HOT_RGB, _BROKEN_RGB))
    colour = np.where(share < 1.0, steel + share * (hot - steel), hot + (share - 1.0) * (broken - hot))
    for side in (-1, 1):
        post = _points(state.gripper[:, 0] - _HANDLE_REACH_M / 2, state.gripper[:, 1] + side * 0.020)
        picture.box(post, (_HANDLE_REACH_M / 2, 0.0025), colour)
    picture.box(state.gripper, (0.0060, 0.024), colour)
