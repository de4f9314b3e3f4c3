"""The expert: a feedback law without memory that knows the true state, with a style that makes it many-valued.

In the belt's frame the gripper goes towards the named part at the style's speed, on a path bowed to the left or right,
and the command leads the servo so that its lag cancels. Two styles seen from one state are two right answers: the
demonstrations are multimodal on purpose.
"""

import numpy as np

from cerebella.envs.dynamic import planar
from cerebella.envs.dynamic.conveyor import ConveyorConfig, ConveyorState
from cerebella.types import FloatArray

MIN_SPEED, MAX_SPEED = 0.18, 0.45
MAX_BOW_RAD = float(np.deg2rad(25.0))
CLOSE_RADIUS_M, KEEP_CLOSING_RADIUS_M = 0.007, 0.014

_APPROACH_GAIN = 0.4
_BOW_FADE_M = 0.05
_HURRY_MARGIN_M = 0.03


def steady_style(num_scenes: int, speed: float = 0.35, bow_rad: float = 0.0) -> FloatArray:
    """The same style everywhere, float32[N, 2]; straight ahead by default.

    Args:
        speed: of the approach relative to the belt, m/s (0.18..0.45); they hurry when the part would escape.
        bow_rad: rotation of the heading far from the part (about +-0.44).
    """
    return np.tile(np.array([speed, bow_rad], dtype=np.float32), (num_scenes, 1))


def random_style(num_scenes: int, generator: np.random.Generator) -> FloatArray:
    """Speeds across the range, bows to either side with equal chance, float32[N, 2]."""
    speed = generator.uniform(MIN_SPEED, MAX_SPEED, num_scenes)
    bow = MAX_BOW_RAD * generator.uniform(0.6, 1.0, num_scenes) * generator.choice([-1.0, 1.0], num_scenes)
    return np.column_stack([speed, bow]).astype(np.float32)


def expert_command(
    config: ConveyorConfig, state: ConveyorState, style: FloatArray, aim_bias_m: FloatArray | None = None
) -> FloatArray:
    """The command of this tick, float32[N, 3] (metres, metres, opening); `style` is float32[N, 2], speed and bow.

    `aim_bias_m` (float32[N, 2]) lets the expert believe that the part is elsewhere, to make mistakes worth learning from.
    """
    part = state.target_position if aim_bias_m is None else state.target_position + aim_bias_m
    error = part - state.gripper
    distance = np.sqrt(error[:, 0] ** 2 + error[:, 1] ** 2)
    move = _approach(config, state, style, part, error, distance)
    move[:, 0] += state.belt_speed * planar.TICK_S

    is_held = state.grasped == state.target
    has_missed = state.opening < config.grasp_opening
    is_closing = (distance < KEEP_CLOSING_RADIUS_M) & (state.opening < 0.9)
    closes = is_held | (((distance < CLOSE_RADIUS_M) | is_closing) & ~has_missed)
    position = np.where(is_held[:, None], state.gripper, planar.lead_servo(state.gripper, move))
    return np.column_stack([position, np.where(closes, 0.0, 1.0)]).astype(np.float32)


def _approach(
    config: ConveyorConfig,
    state: ConveyorState,
    style: FloatArray,
    part: FloatArray,
    error: FloatArray,
    distance: FloatArray,
) -> FloatArray:
    """Step of this tick in the belt's frame, float32[N, 2] metres."""
    left_s = np.maximum((config.exit_x_m - _HURRY_MARGIN_M - part[:, 0]) / state.belt_speed, 0.1)
    speed = np.clip(np.maximum(style[:, 0], distance / (0.6 * left_s)), None, MAX_SPEED)
    share = np.minimum(_APPROACH_GAIN, speed * planar.TICK_S / np.maximum(distance, 1e-9))
    angle = style[:, 1] * np.clip(distance / _BOW_FADE_M, 0.0, 1.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = np.column_stack([cosine * error[:, 0] - sine * error[:, 1], sine * error[:, 0] + cosine * error[:, 1]])
    return turned * share[:, None]
