"""The expert: a feedback law without memory that knows the true state, with a style that makes it many-valued.

In the belt's frame the gripper goes towards the named part at the style's speed, on a path bowed to the left or right,
and the command leads the servo so that its lag cancels. Two styles seen from one state are two right answers: the
demonstrations are multimodal on purpose.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.conveyor import ConveyorConfig, ConveyorState, Indices, step
from cerebella.types import FloatArray

MIN_SPEED, MAX_SPEED = 0.18, 0.45
MAX_BOW_RAD = float(np.deg2rad(25.0))
CLOSE_RADIUS_M, KEEP_CLOSING_RADIUS_M = 0.007, 0.014

_APPROACH_GAIN = 0.4
_BOW_FADE_M = 0.05
_HURRY_MARGIN_M = 0.03


@dataclass(frozen=True, eq=False)
class ExpertStyle:
    """How each of N demonstrators moves.

    Args:
        speed: float32[N], approach speed relative to the belt, m/s (0.18..0.45); they hurry when the part would escape.
        bow: float32[N], rotation of the heading far from the part, rad (about +-0.44).
    """

    speed: FloatArray
    bow: FloatArray

    def take(self, indices: Indices) -> "ExpertStyle":
        """The styles at `indices`, copied."""
        return ExpertStyle(**{f.name: np.array(getattr(self, f.name)[indices]) for f in fields(self)})


def steady_style(num_scenes: int, speed: float = 0.35, bow_rad: float = 0.0) -> ExpertStyle:
    """The same style everywhere; straight ahead by default."""
    return ExpertStyle(
        speed=np.full(num_scenes, speed, dtype=np.float32), bow=np.full(num_scenes, bow_rad, dtype=np.float32)
    )


def random_style(num_scenes: int, generator: np.random.Generator) -> ExpertStyle:
    """Speeds across the range, bows to either side with equal chance."""
    speed = generator.uniform(MIN_SPEED, MAX_SPEED, num_scenes)
    bow = MAX_BOW_RAD * generator.uniform(0.6, 1.0, num_scenes) * generator.choice([-1.0, 1.0], num_scenes)
    return ExpertStyle(speed=speed.astype(np.float32), bow=bow.astype(np.float32))


def expert_command(
    config: ConveyorConfig, state: ConveyorState, style: ExpertStyle, aim_bias_m: FloatArray | None = None
) -> FloatArray:
    """The command of this tick, float32[N, 3] (metres, metres, opening).

    `aim_bias_m` (float32[N, 2]) lets the expert believe that the part is elsewhere, to make mistakes worth learning from.
    """
    part = state.target_position if aim_bias_m is None else state.target_position + aim_bias_m
    error = part - state.gripper
    distance = np.sqrt(error[:, 0] ** 2 + error[:, 1] ** 2)
    move = _approach(config, state, style, part, error, distance)
    move[:, 0] += state.belt_speed * config.tick_s
    longest = config.max_speed * config.tick_s
    move *= np.minimum(1.0, longest / np.maximum(np.sqrt(move[:, 0] ** 2 + move[:, 1] ** 2), 1e-9))[:, None]

    is_held = state.grasped == state.target
    has_missed = state.opening < config.grasp_opening
    is_closing = (distance < KEEP_CLOSING_RADIUS_M) & (state.opening < 0.9)
    closes = is_held | (((distance < CLOSE_RADIUS_M) | is_closing) & ~has_missed)
    size = np.array([config.length_m, config.width_m], dtype=np.float32)
    position = np.clip(state.gripper + move / config.servo_gain, 0.0, size)
    position = np.where(is_held[:, None], state.gripper, position)
    return np.column_stack([position, np.where(closes, 0.0, 1.0)]).astype(np.float32)


def _approach(
    config: ConveyorConfig,
    state: ConveyorState,
    style: ExpertStyle,
    part: FloatArray,
    error: FloatArray,
    distance: FloatArray,
) -> FloatArray:
    """Step of this tick in the belt's frame, float32[N, 2] metres."""
    left_s = np.maximum((config.exit_x_m - _HURRY_MARGIN_M - part[:, 0]) / state.belt_speed, 0.1)
    speed = np.clip(np.maximum(style.speed, distance / (0.6 * left_s)), None, MAX_SPEED)
    share = np.minimum(_APPROACH_GAIN, speed * config.tick_s / np.maximum(distance, 1e-9))
    angle = style.bow * np.clip(distance / _BOW_FADE_M, 0.0, 1.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = np.column_stack([cosine * error[:, 0] - sine * error[:, 1], sine * error[:, 0] + cosine * error[:, 1]])
    return turned * share[:, None]


def expert_plan(
    config: ConveyorConfig,
    state: ConveyorState,
    style: ExpertStyle,
    horizon: int,
    prefix: FloatArray | None = None,
    prefix_length: NDArray[np.int32] | None = None,
) -> FloatArray:
    """Roll the law and the dynamics forward while the belt keeps its current speed: float32[N, horizon, 3].

    Args:
        config: the constants. state: N scenes. style: N styles.
        horizon: number of rows; row 0 is `expert_command(config, state, style)` without a prefix.
        prefix: float32[N, p, 3], commands that are executed first, whatever the law says; they are the first rows.
        prefix_length: int32[N], how many rows of `prefix` count per scene; all of them if not given.

    Raises:
        ValueError: `horizon` is below 1 or the prefix has a wrong shape.
    """
    if horizon < 1:
        raise ValueError(f"expert_plan: horizon must be 1 or more (rows); got {horizon}")
    if prefix is None:
        prefix = np.zeros((len(state), 0, 3), dtype=np.float32)
    if prefix.shape != (len(state), prefix.shape[1], 3) or prefix.shape[1] > horizon:
        raise ValueError(
            f"expert_plan: prefix must be float32[{len(state)}, 0..{horizon}, 3]; got {list(prefix.shape)}"
        )
    lengths = np.full(len(state), prefix.shape[1]) if prefix_length is None else prefix_length
    rows = np.empty((len(state), horizon, 3), dtype=np.float32)
    for i in range(horizon):
        command = expert_command(config, state, style)
        if i < prefix.shape[1]:
            command = np.where((i < lengths)[:, None], prefix[:, i], command).astype(np.float32)
        rows[:, i] = command
        state = step(config, state, command, with_events=False)
    return rows
