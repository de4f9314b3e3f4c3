"""What the planar grippers of the dynamic tasks have in common: workspace, servo, dimensions, embodiments."""

from collections.abc import Sequence

import numpy as np

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.types import FloatArray

LENGTH_M, WIDTH_M = 0.48, 0.32
"""The workspace and the camera picture along x and y."""
CONTROL_HZ = 30.0
TICK_S = 1.0 / CONTROL_HZ
MAX_SPEED = 0.6
"""Of the servo, m/s."""
SERVO_GAIN = float(1.0 - np.exp(-1.0 / 1.5))
"""Share of the distance to the target that the servo covers in one tick: a first-order lag of 1.5 ticks."""


def place(name: str, slot: int, high_m: float) -> Dimension:
    """A measured coordinate in the world, 0..high_m, in metres."""
    return Dimension(name, "m", "position", "world", slot=slot, low=0.0, high=high_m)


def speed(name: str, slot: int, highest: float) -> Dimension:
    """A measured velocity in the world, -highest..highest, in m/s; the range has a hair more, for what rounding adds."""
    bound = 1.001 * highest
    return Dimension(name, "m/s", "velocity", "world", slot=slot, low=-bound, high=bound)


def target(name: str, slot: int, high_m: float) -> ActionDimension:
    """A coordinate to go to, 0..high_m, in metres, relative to the state of the same name; without orders it stays."""
    return ActionDimension(
        name=name,
        unit="m",
        kind="position",
        frame="world",
        slot=slot,
        low=0.0,
        high=high_m,
        max_velocity=0.9,
        max_acceleration=30.0,
        max_jerk=1500.0,
        hold="last",
        reference=name,
        relative=True,
    )


def planar_embodiments(
    name: str, states: Sequence[Dimension], actions: Sequence[ActionDimension], scene: Sequence[Dimension]
) -> tuple[Embodiment, Embodiment]:
    """(with a camera, without): the second one is called `<name>-state` and measures the scene as numbers behind its own.

    Args:
        states: what the robot measures itself. actions: what it is told. scene: what a camera shows, as numbers.
    """
    camera = Embodiment(
        name=name,
        control_mode="end_effector",
        states=tuple(states),
        actions=tuple(actions),
        views=("base",),
        policy_hz=CONTROL_HZ,
        control_hz=CONTROL_HZ,
    )
    numbers = Embodiment(
        name=f"{name}-state",
        control_mode="end_effector",
        states=(*states, *scene),
        actions=tuple(actions),
        views=(),
        policy_hz=CONTROL_HZ,
        control_hz=CONTROL_HZ,
    )
    return camera, numbers


def move_gripper(gripper: FloatArray, aim: FloatArray) -> FloatArray:
    """One tick of the servo: first-order lag towards the target, the step's length limited, inside the workspace.

    Args:
        gripper, aim: float32[N, 2], metres.
    """
    size = np.array([LENGTH_M, WIDTH_M], dtype=np.float32)
    move = (np.clip(aim, 0.0, size) - gripper) * SERVO_GAIN
    move *= shortened(move, MAX_SPEED * TICK_S)
    return np.clip(gripper + move, 0.0, size).astype(np.float32)


def lead_servo(gripper: FloatArray, move: FloatArray) -> FloatArray:
    """The target that makes the servo move by `move` (float32[N, 2], metres) in this tick, inside the workspace."""
    size = np.array([LENGTH_M, WIDTH_M], dtype=np.float32)
    move = move * shortened(move, MAX_SPEED * TICK_S)
    return np.clip(gripper + move / SERVO_GAIN, 0.0, size).astype(np.float32)


def shortened(vectors: FloatArray, longest: float) -> FloatArray:
    """Factors in 0..1, float[N, 1], that make float[N, 2] vectors no longer than `longest`."""
    length = np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2)
    return np.minimum(1.0, longest / np.maximum(length, 1e-9))[:, None]
