"""The 32-slot layout, and what an arm description refuses."""

from dataclasses import replace
from typing import Any

import pytest

from cerebella.arms import Arm, EndEffector, Gripper, Limits, arm_embodiment
from cerebella.embodiment import Embodiment, Pose

JOINT = Limits(-3.1, 3.1, 3.0, 30.0, 300.0)
CARTESIAN = Limits(-1.0, 1.0, 1.0, 10.0, 100.0)
TURN = Limits(-6.3, 6.3, 3.0, 30.0, 300.0)
GRIPPER = Gripper("m", Limits(0.0, 0.08, 0.5, 5.0, 50.0), open_at="high")
LEFT = Arm("left", "left_base", (JOINT,) * 6, EndEffector((CARTESIAN, CARTESIAN, CARTESIAN), TURN), GRIPPER)
RIGHT = replace(LEFT, side="right", frame="right_base", joints=(JOINT,) * 7)


def make(*arms: Arm, control_mode: Any = "end_effector_and_joint", **changed: Any) -> Embodiment:
    fields = {"views": ("ego",), "policy_hz": 30.0, "control_hz": 30.0, "hold": "last"}
    return arm_embodiment("robot", control_mode, arms, **{**fields, **changed})


def test_two_arms_fill_the_released_slots() -> None:
    robot = make(LEFT, RIGHT)
    assert [d.slot for d in robot.actions] == [*range(13), *range(14, 28)]
    assert [d.slot for d in robot.states] == [*(None,) * 6, *range(6, 13), *(None,) * 6, *range(20, 28)]
    assert robot.poses[1] == Pose(
        ("right_x", "right_y", "right_z"), ("right_axis_angle_x", "right_axis_angle_y", "right_axis_angle_z")
    )
    assert all(d.relative and d.reference == d.name for d in robot.actions)


def test_a_control_mode_commands_its_part_and_the_rest_is_only_measured() -> None:
    joint = make(RIGHT, control_mode="joint", relative=False)
    assert [d.slot for d in joint.actions] == [*range(20, 28)]
    assert joint.poses == ()
    assert not any(d.relative for d in joint.actions)
    cartesian = make(LEFT, control_mode="end_effector", pose_is_input=True)
    assert [d.slot for d in cartesian.actions] == [*range(7)]
    assert [d.slot for d in cartesian.states] == [*range(13)]
    assert make(replace(LEFT, gripper=None, joints=()), control_mode="end_effector").action_dim == 6


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            lambda: make(LEFT, control_mode="torque"),
            "unknown control mode 'torque'; known modes: end_effector, joint, end",
        ),
        (lambda: make(), r"need one arm, or one on each side; got the sides \[\]"),
        (lambda: make(LEFT, LEFT), r"got the sides \['left', 'left'\]"),
        (lambda: make(replace(LEFT, joints=())), "lacks limits for .*: it has an end_effector and 0 joints"),
        (lambda: make(replace(LEFT, end_effector=None)), "it has no end_effector and 6 joints"),
        (lambda: replace(LEFT, joints=(JOINT,) * 5), "has 5 joints; the layout has room for 0, 6 or 7"),
        (lambda: replace(LEFT, side="top"), "on the side 'top'; known sides: left, right"),
        (lambda: make(LEFT, hold="zero"), "holding by 'zero' would drive it to 0 m"),
    ],
)
def test_what_cannot_be_an_arm_is_refused(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wrong()
