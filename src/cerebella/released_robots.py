"""The robots of the released Xiaomi-Robotics-0 simulation checkpoints, as embodiments.

Numbers are those of the released clients (`eval_libero/main.py`, `eval_calvin/main.py`, `eval_simplerenv/main.py` of
XiaomiRobotics/Xiaomi-Robotics-0): the state that they send, raw, and the seven action dimensions as `decode_action`
returns them. The poses that these models predict are increments of one control step, so they are velocities: holding
still is 0, except for the gripper. What a client does afterwards (Euler angles to an axis, the sign of a gripper, a
centre crop) is the business of the environment's adapter.

Ranges: a command outside its range is limited before it is sent, and none of these clients limits what its simulator
does not, so each range is the simulator's own. The simulators do not bound how fast a command changes; the limits say
what range and rate allow.
"""

import math
from collections.abc import Callable

from cerebella.embodiment import ActionDimension, Dimension, Embodiment, Kind, OpenAt

REACH_M = 2.0
"""No arm here reaches as far: the bound of every measured position."""

_XYZ = ("x", "y", "z")


def released_embodiment(robot_type: str) -> Embodiment:
    """The embodiment of a robot type that a released simulation checkpoint was trained for.

    Control rates: LIBERO 20 Hz (robosuite's `control_freq` in `OffScreenRenderEnv`), CALVIN 30 Hz (`calvin_env`'s
    configuration), Google robot 3 Hz and WidowX 5 Hz (`control_freq` in the released `env_options` files). One row of a
    chunk is one control step.

    Raises:
        ValueError: another robot type (lists the known ones).
    """
    if robot_type not in _MAKERS:
        raise ValueError(
            f"no released embodiment for the robot type {robot_type!r}; known robot types: {', '.join(RELEASED_ROBOTS)}"
        )
    return _MAKERS[robot_type](robot_type)


def _libero(name: str) -> Embodiment:
    """Panda in LIBERO. Actions are inputs of robosuite's OSC_POSE controller, which limits them to -1..1.

    The state's rotation is an axis-angle of up to a full turn (the client converts an unsigned quaternion). Gripper
    commands: -1 opens, 1 closes. The two fingers move 0 to 0.04 m and 0 to -0.04 m; both are open far from 0.
    """
    states = (
        *_states(_XYZ, "m", "position", range(3), REACH_M),
        *_states(("axis_angle_x", "axis_angle_y", "axis_angle_z"), "rad", "rotation", range(3, 6), 2 * math.pi),
        Dimension("left_finger", "m", "gripper", "gripper", 6, 0.0, 0.04),
        Dimension("right_finger", "m", "gripper", "gripper", 7, -0.04, 0.0, open_at="low"),
    )
    actions = (
        *_increments(("delta_x", "delta_y", "delta_z"), "1", range(3), 1.0, 20),
        *_increments(("delta_axis_angle_x", "delta_axis_angle_y", "delta_axis_angle_z"), "1", range(3, 6), 1.0, 20),
        _gripper(low=-1.0, high=1.0, open_at="low", reference="left_finger", rate_hz=20),
    )
    return _embodiment(name, states, actions, ("base", "left_wrist"), 20)


def _calvin(name: str) -> Embodiment:
    """Panda in CALVIN. Actions are relative actions, recorded within -1..1; the simulator does not limit them.

    Twice the recorded range is allowed. The gripper's width is 0 to 0.08 m; commands: 1 opens, -1 closes, and the
    client sends the sign.
    """
    states = (
        *_states(_XYZ, "m", "position", range(3), REACH_M),
        *_states(("euler_x", "euler_y", "euler_z"), "rad", "rotation", range(3, 6), math.pi),
        Dimension("gripper_width", "m", "gripper", "gripper", 6, 0.0, 0.08),
    )
    actions = (
        *_increments(("delta_x", "delta_y", "delta_z"), "1", range(3), 2.0, 30),
        *_increments(("delta_euler_x", "delta_euler_y", "delta_euler_z"), "1", range(3, 6), 2.0, 30),
        _gripper(low=-1.0, high=1.0, open_at="high", reference="gripper_width", rate_hz=30),
    )
    return _embodiment(name, states, actions, ("base", "left_wrist"), 30)


def _fractal(name: str) -> Embodiment:
    """Google robot in SimplerEnv. The state has an xyzw quaternion and a gripper that is 1 when closed."""
    states = (
        *_states(_XYZ, "m", "position", range(3), REACH_M),
        *_states(("quat_x", "quat_y", "quat_z", "quat_w"), "1", "rotation", range(3, 7), 1.0),
        Dimension("gripper_closedness", "1", "gripper", "gripper", 7, 0.0, 1.0, open_at="low"),
    )
    return _embodiment(name, states, _simpler_actions("gripper_closedness", 3), ("ego",), 3)


def _bridge(name: str) -> Embodiment:
    """WidowX in SimplerEnv. Euler angles relative to a gripper that points down; the client leaves slot 6 at 0."""
    states = (
        *_states(_XYZ, "m", "position", range(3), REACH_M),
        *_states(("roll", "pitch", "yaw"), "rad", "rotation", range(3, 6), math.pi),
        Dimension("gripper_opening", "1", "gripper", "gripper", 7, 0.0, 1.0),
    )
    return _embodiment(name, states, _simpler_actions("gripper_opening", 5), ("base",), 5)


def _simpler_actions(gripper_reference: str, rate_hz: float) -> tuple[ActionDimension, ...]:
    """SimplerEnv: metres and roll-pitch-yaw per control step, within its controllers' 1 m and a quarter turn."""
    return (
        *_increments(("delta_x", "delta_y", "delta_z"), "m/tick", range(3), 1.0, rate_hz),
        *_increments(("delta_roll", "delta_pitch", "delta_yaw"), "rad/tick", range(3, 6), math.pi / 2, rate_hz),
        _gripper(low=0.0, high=1.0, open_at="high", reference=gripper_reference, rate_hz=rate_hz),
    )


def _states(names: tuple[str, ...], unit: str, kind: Kind, slots: range, bound: float) -> list[Dimension]:
    return [Dimension(n, unit, kind, "base", s, -bound, bound) for n, s in zip(names, slots, strict=True)]


def _increments(names: tuple[str, ...], unit: str, slots: range, bound: float, rate_hz: float) -> list[ActionDimension]:
    return [
        ActionDimension(
            n, unit, "velocity", "base", s, -bound, bound, *_fastest(2 * bound, rate_hz), "zero", None, False
        )
        for n, s in zip(names, slots, strict=True)
    ]


def _gripper(low: float, high: float, open_at: OpenAt, reference: str, rate_hz: float) -> ActionDimension:
    limits = _fastest(high - low, rate_hz)
    return ActionDimension(
        "gripper", "1", "gripper", "gripper", 6, low, high, *limits, "last", reference, False, open_at=open_at
    )


def _fastest(span: float, rate_hz: float) -> tuple[float, float, float]:
    """Largest velocity, acceleration and jerk of a number that may cross its whole range in every control step."""
    return span * rate_hz, 2 * span * rate_hz**2, 4 * span * rate_hz**3


def _embodiment(
    name: str,
    states: tuple[Dimension, ...],
    actions: tuple[ActionDimension, ...],
    views: tuple[str, ...],
    rate_hz: float,
) -> Embodiment:
    return Embodiment(name, "end_effector", states, actions, views, policy_hz=rate_hz, control_hz=rate_hz)


_MAKERS: dict[str, Callable[[str], Embodiment]] = {
    "libero_all": _libero,
    "calvin_abcd_orig": _calvin,
    "calvin_abc_orig": _calvin,
    "fractal_delta": _fractal,
    "bridge_delta": _bridge,
}
RELEASED_ROBOTS = tuple(_MAKERS)
"""The robot types of the five released simulation checkpoints, as their statistics name them."""
