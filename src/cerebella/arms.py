"""Robot arms as embodiments, in the 32 slots of Xiaomi-Robotics-0: the common cases without counting slots by hand.

The layout (released post-training code, `ACTION_PARTS`), the same for states and actions:

slot    left  0-2 position   3-5 rotation (axis_angle)   6 gripper   7-12 joints 1-6   13 joint 7
slot   right 14-16          17-19                       20          21-26             27

The released models have arms of six joints and leave slots 13 and 27 empty; a seventh joint goes there. Whatever this
does not cover is an `Embodiment` written out by hand.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from cerebella.embodiment import ActionDimension, Dimension, Embodiment, Hold, Kind, OpenAt, Pose

Side = Literal["left", "right"]
ControlMode = Literal["end_effector", "joint", "end_effector_and_joint"]
CONTROL_MODES: tuple[str, ...] = get_args(ControlMode)
FIRST_SLOT: dict[str, int] = {"left": 0, "right": 14}
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Limits:
    """Range and motion limits of one number: `low` to `high` in its unit, then unit/s, unit/s^2, unit/s^3."""

    low: float
    high: float
    max_velocity: float
    max_acceleration: float
    max_jerk: float


@dataclass(frozen=True)
class EndEffector:
    """Limits of a gripper's pose: x, y and z (m) one by one, the three numbers of its axis_angle (rad) together.

    Give the rotation a range beyond pi: of the vectors that mean one rotation, the nearest to the measured one is sent,
    and that may be longer than half a turn.
    """

    position: tuple[Limits, Limits, Limits]
    rotation: Limits

    def __post_init__(self) -> None:
        if len(self.position) != 3:
            raise ValueError(f"position needs the limits of x, y and z; got {len(self.position)}")


@dataclass(frozen=True)
class Gripper:
    """Limits of a gripper in its raw `unit`, and the end of that range at which it is open."""

    unit: str
    limits: Limits
    open_at: OpenAt


@dataclass(frozen=True)
class Arm:
    """One arm: its side decides its slots.

    Whatever it declares is measured; the control mode decides what is commanded.

    Args:
        frame: the base frame that the end-effector pose is expressed in.
        joints: limits of each joint (rad), 6 or 7; empty where joints are neither commanded nor measured.
        end_effector: None where the pose is neither commanded nor measured.
        gripper: None without one.
    """

    side: Side
    frame: str
    joints: tuple[Limits, ...]
    end_effector: EndEffector | None
    gripper: Gripper | None

    def __post_init__(self) -> None:
        if self.side not in FIRST_SLOT:
            raise ValueError(f"an arm is on the side {self.side!r}; known sides: {', '.join(FIRST_SLOT)}")
        if len(self.joints) not in (0, 6, 7):
            raise ValueError(f"the {self.side} arm has {len(self.joints)} joints; the layout has room for 0, 6 or 7")


def arm_embodiment(
    name: str,
    control_mode: ControlMode,
    arms: Sequence[Arm],
    views: Sequence[str],
    policy_hz: float,
    control_hz: float,
    hold: Hold,
    relative: bool = True,
    pose_is_input: bool = False,
) -> Embodiment:
    """An embodiment of one arm or two. State and action hold, arm by arm: pose, gripper, joints.

    Args:
        hold: what every dimension sends to hold still; absolute targets only know `last`.
        relative: the model predicts differences to what was measured, as the released models do.
        pose_is_input: give the measured pose to the model; the released models are given joints and grippers only.

    Raises:
        ValueError: an unknown control mode, no arm, two arms on one side, or an arm without what is commanded.
    """
    if control_mode not in CONTROL_MODES:
        raise ValueError(f"unknown control mode {control_mode!r}; known modes: {', '.join(CONTROL_MODES)}")
    if not arms or len({arm.side for arm in arms}) != len(arms):
        raise ValueError(f"need one arm, or one on each side; got the sides {[arm.side for arm in arms]}")
    states: list[Dimension] = []
    actions: list[ActionDimension] = []
    poses: list[Pose] = []
    for arm in arms:
        pose, gripper, joints = _pose(arm), _gripper(arm), _joints(arm)
        commands_pose, commands_joints = control_mode != "joint", control_mode != "end_effector"
        if (commands_pose and not pose) or (commands_joints and not joints):
            raise ValueError(
                f"the {arm.side} arm of {name!r} lacks limits for the control mode {control_mode!r}: it has "
                f"{'an' if pose else 'no'} end_effector and {len(joints)} joints"
            )
        states += [number.state(is_input=pose_is_input) for number in pose]
        states += [number.state(is_input=True) for number in (*gripper, *joints)]
        commanded = (*(pose if commands_pose else ()), *gripper, *(joints if commands_joints else ()))
        actions += [number.action(hold, relative) for number in commanded]
        if commands_pose:
            x, y, z, rx, ry, rz = (number.name for number in pose)
            poses.append(Pose((x, y, z), (rx, ry, rz)))
    return Embodiment(
        name, control_mode, tuple(states), tuple(actions), tuple(views), policy_hz, control_hz, tuple(poses)
    )


@dataclass(frozen=True)
class _Number:
    """One number of an arm, as a state and as an action."""

    name: str
    unit: str
    kind: Kind
    frame: str
    slot: int
    limits: Limits
    open_at: OpenAt = "high"

    def state(self, is_input: bool) -> Dimension:
        slot = self.slot if is_input else None
        low, high = self.limits.low, self.limits.high
        return Dimension(self.name, self.unit, self.kind, self.frame, slot, low, high, open_at=self.open_at)

    def action(self, hold: Hold, relative: bool) -> ActionDimension:
        what = (self.name, self.unit, self.kind, self.frame, self.slot)
        return ActionDimension(
            *what, **asdict(self.limits), hold=hold, reference=self.name, relative=relative, open_at=self.open_at
        )


def _pose(arm: Arm) -> list[_Number]:
    if arm.end_effector is None:
        return []
    first, limits = FIRST_SLOT[arm.side], arm.end_effector
    position = [
        _Number(f"{arm.side}_{axis}", "m", "position", arm.frame, first + i, limits.position[i])
        for i, axis in enumerate(AXES)
    ]
    rotation = [
        _Number(f"{arm.side}_axis_angle_{axis}", "rad", "rotation", arm.frame, first + 3 + i, limits.rotation)
        for i, axis in enumerate(AXES)
    ]
    return position + rotation


def _gripper(arm: Arm) -> list[_Number]:
    if arm.gripper is None:
        return []
    name, limits = f"{arm.side}_gripper", arm.gripper.limits
    return [_Number(name, arm.gripper.unit, "gripper", name, FIRST_SLOT[arm.side] + 6, limits, arm.gripper.open_at)]


def _joints(arm: Arm) -> list[_Number]:
    return [
        _Number(f"{arm.side}_joint_{i + 1}", "rad", "joint", arm.frame, FIRST_SLOT[arm.side] + 7 + i, limits)
        for i, limits in enumerate(arm.joints)
    ]
