"""The two arms as an `Embodiment`: ranges and motion limits, and the order of the numbers."""

from collections.abc import Sequence

import numpy as np

from cerebella.arms import AXES, Arm, ControlMode, EndEffector, Gripper, Limits, Side, arm_embodiment
from cerebella.embodiment import Embodiment
from cerebella.envs.workcell.arm_kinematics import FOREARM_M, JOINT_HIGH_RAD, JOINT_LOW_RAD, TOOL_M, UPPER_ARM_M
from cerebella.envs.workcell.arm_model import MAX_GRIPPER_VELOCITY_M_S, MAX_OPENING_M, MAX_VELOCITY_RAD_S
from cerebella.envs.workcell.cell import CONTROL_HZ

CONTROL_MODES: tuple[ControlMode, ...] = ("end_effector", "joint")
SIDES: tuple[Side, ...] = ("left", "right")
MAX_SPEED_M_S, MAX_ACCELERATION_M_S2, MAX_JERK_M_S3 = 1.0, 8.0, 240.0
"""Of the tool along each axis."""
MAX_TURN_RAD_S, MAX_TURN_RAD_S2, MAX_TURN_RAD_S3 = 4.0, 30.0, 900.0
"""Of each number of the tool's axis_angle."""

_REACH_M = UPPER_ARM_M + FOREARM_M + TOOL_M


def workcell_embodiment(control_mode: ControlMode, views: Sequence[str]) -> Embodiment:
    """Both arms, left first: measured are pose (in the arm's own base frame), gripper opening and six joints.

    `end_effector` commands pose and opening (14 numbers), `joint` opening and joints (14 numbers); 30 rows and 30 commands
    per second.

    Raises:
        ValueError: another control mode.
    """
    if control_mode not in CONTROL_MODES:
        raise ValueError(f"control_mode must be one of {', '.join(CONTROL_MODES)}; got {control_mode!r}")
    return arm_embodiment(
        name="workcell",
        control_mode=control_mode,
        arms=[_arm(side) for side in SIDES],
        views=views,
        policy_hz=CONTROL_HZ,
        control_hz=CONTROL_HZ,
        hold="last",
    )


def _arm(side: Side) -> Arm:
    ranges = zip(AXES, (-0.5, -_REACH_M, -0.05), (_REACH_M, _REACH_M, 1.0), strict=True)
    position = [Limits(low, high, MAX_SPEED_M_S, MAX_ACCELERATION_M_S2, MAX_JERK_M_S3) for _, low, high in ranges]
    rotation = Limits(-2 * np.pi, 2 * np.pi, MAX_TURN_RAD_S, MAX_TURN_RAD_S2, MAX_TURN_RAD_S3)
    joints = zip(JOINT_LOW_RAD, JOINT_HIGH_RAD, MAX_VELOCITY_RAD_S, strict=True)
    opening = Limits(0.0, 1.0, MAX_GRIPPER_VELOCITY_M_S / MAX_OPENING_M, 100.0, 6000.0)
    return Arm(
        side=side,
        frame=f"{side}_base",
        joints=tuple(Limits(float(low), float(high), float(v), 25.0, 750.0) for low, high, v in joints),
        end_effector=EndEffector((position[0], position[1], position[2]), rotation),
        gripper=Gripper("1", opening, "high"),
    )
