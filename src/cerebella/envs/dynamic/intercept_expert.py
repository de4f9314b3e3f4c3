"""The expert of `intercept`: a law without memory that goes where the puck will be, and then keeps up with it."""

import numpy as np

from cerebella.envs.dynamic.intercept_physics import InterceptState, mirrored
from cerebella.envs.dynamic.planar import TICK_S, lead_servo
from cerebella.types import FloatArray

STEADY_SPEED = 0.40
MIN_SPEED, MAX_SPEED = 0.26, 0.50
"""Approach speed relative to the puck, m/s."""
MAX_SWING_RAD = float(np.deg2rad(30.0))

_APPROACH_GAIN = 0.5
_SWING_FADE_M = 0.08
_FORESIGHT_S = 0.5


def steady_style(num_scenes: int) -> FloatArray:
    """Straight to the puck, float32[N, 2]: approach speed (m/s), swing (rad, positive turns from x to y)."""
    return np.tile(np.array([STEADY_SPEED, 0.0], dtype=np.float32), (num_scenes, 1))


def random_style(num_scenes: int, generator: np.random.Generator) -> FloatArray:
    """Speeds across the range, swings to either side with equal chance."""
    speed = generator.uniform(MIN_SPEED, MAX_SPEED, num_scenes)
    swing = MAX_SWING_RAD * generator.uniform(0.6, 1.0, num_scenes) * generator.choice([-1.0, 1.0], num_scenes)
    return np.column_stack([speed, swing]).astype(np.float32)


def command(state: InterceptState, style: FloatArray) -> FloatArray:
    """float32[N, 2] metres.

    The time until it would meet the puck is t = distance / speed, one tick at least and half a second at most: further
    ahead a bounce makes foresight worthless. The gripper takes over the puck's mean motion until then, walls taken for
    mirrors, and closes the distance at the style's speed, on a path that swings out where it is far.
    """
    error = state.puck - state.gripper
    distance = np.sqrt(error[:, 0] ** 2 + error[:, 1] ** 2)[:, None]
    speed, swing = style[:, :1], style[:, 1:] * np.clip(distance / _SWING_FADE_M, 0.0, 1.0)
    until_s = np.clip(distance / speed, TICK_S, _FORESIGHT_S)
    drift = (mirrored(state.puck + state.puck_velocity * until_s) - state.puck) * (TICK_S / until_s)
    share = np.minimum(_APPROACH_GAIN, speed * TICK_S / np.maximum(distance, 1e-9))
    across = np.column_stack([-error[:, 1], error[:, 0]])
    approach = (np.cos(swing) * error + np.sin(swing) * across) * share
    return lead_servo(state.gripper, (drift + approach).astype(np.float32))
