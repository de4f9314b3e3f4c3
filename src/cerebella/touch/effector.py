"""Where an embodiment's vectors have the wrist, the gripper and the hand's joints: what a take-over reads and commands."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from cerebella.embodiment import ActionDimension, Embodiment, Pose
from cerebella.geometry import Array, compose, inverse, nearest_axis_angle, so3_exp, so3_log, transform
from cerebella.touch.grasp import JOINTS, NUM_JOINTS
from cerebella.types import FloatArray

_T = TypeVar("_T")


class Effector:
    """One hand of an embodiment.

    Args:
        embodiment: commands the pose of an end effector and its gripper, and measures both.
        T_effector_wrist: float64[4, 4] metres, the wrist frame of `grasp` as seen from the frame of the commanded pose.
        pose, gripper: which pose, and the name of which gripper action; None where there is only one.
        joint_names: the state dimensions of the hand's 11 joints, in the order of `grasp.JOINTS`.

    Raises:
        ValueError: the embodiment lacks one of these, has several and none was named, or does not measure what it
            commands.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        T_effector_wrist: Array,
        pose: Pose | None = None,
        gripper: str | None = None,
        joint_names: Sequence[str] = JOINTS,
    ) -> None:
        self.embodiment = embodiment
        self._T_effector_wrist, self._T_wrist_effector = T_effector_wrist, inverse(T_effector_wrist)
        pose = pose or _only(embodiment, "end-effector pose (Embodiment.poses)", embodiment.poses)
        grippers = [action.name for action in embodiment.actions if action.kind == "gripper"]
        gripper = gripper or _only(embodiment, "gripper action", grippers)
        self._position = [embodiment.action_index(name) for name in pose.position]
        self._rotation = [embodiment.action_index(name) for name in pose.rotation]
        self._gripper = embodiment.action_index(gripper)
        if self.gripper.kind != "gripper":
            raise ValueError(f"embodiment {embodiment.name!r}: {gripper!r} is a {self.gripper.kind}, not a gripper")
        for index in (*self._position, *self._rotation, self._gripper):
            if embodiment.actions[index].reference is None:
                raise ValueError(
                    f"embodiment {embodiment.name!r}: {embodiment.actions[index].name!r} is commanded but not measured "
                    "(no reference); a take-over by touch needs to know where the wrist and the gripper are"
                )
        if len(joint_names) != NUM_JOINTS:
            raise ValueError(f"joint_names must be {NUM_JOINTS} state dimensions; got {len(joint_names)}")
        self._joints = [embodiment.state_index(name) for name in joint_names]
        for index in self._joints:
            if embodiment.states[index].unit != "rad":
                state = embodiment.states[index]
                raise ValueError(
                    f"embodiment {embodiment.name!r}: joint {state.name!r} must be in rad; it is in {state.unit}"
                )

    @property
    def gripper(self) -> ActionDimension:
        """The gripper's action."""
        return self.embodiment.actions[self._gripper]

    def wrist_pose(self, state: FloatArray) -> Array:
        """`T_world_wrist` as measured, float64[4, 4] metres; the world is the frame of the commanded pose."""
        return self._pose_of(self.embodiment.reference_of(state))

    def commanded_pose(self, values: FloatArray) -> Array:
        """`T_world_wrist` that a command asks for, float64[4, 4] metres. `values`: float32[action_dim]."""
        return self._pose_of(values)

    def joints(self, state: FloatArray) -> FloatArray:
        """float32[11] radians, in the order of `grasp.JOINTS`."""
        return state[self._joints]

    def measured_opening(self, state: FloatArray) -> float:
        """0 closed .. 1 open."""
        return float(self.gripper.opening(self.embodiment.reference_of(state)[self._gripper]))

    def commanded_opening(self, values: FloatArray) -> float:
        """The opening that a command asks for, 0 closed .. 1 open. `values`: float32[action_dim]."""
        return float(self.gripper.opening(values[self._gripper]))

    def travel_s(self, opening: float, other: float) -> float:
        """How long the gripper takes from one opening to another at its largest velocity, seconds."""
        way = float(self.gripper.from_opening(opening)) - float(self.gripper.from_opening(other))
        return abs(way) / self.gripper.max_velocity

    def command(self, base: FloatArray, T_world_wrist: Array, opening: float) -> FloatArray:
        """`base` (float32[action_dim]) with the wrist and the gripper (0 closed .. 1 open) where they should be.

        Of the numbers that mean the rotation, those nearest to `base` are taken.
        """
        T_world_effector = compose(T_world_wrist, self._T_wrist_effector)
        values = base.copy()
        values[self._position] = T_world_effector[:3, 3]
        values[self._rotation] = nearest_axis_angle(so3_log(T_world_effector[:3, :3]), base[self._rotation])
        values[self._gripper] = self.gripper.from_opening(opening)
        return values

    def _pose_of(self, values: FloatArray) -> Array:
        position, axis_angle = (values[index].astype(np.float64) for index in (self._position, self._rotation))
        return compose(transform(so3_exp(axis_angle), position), self._T_effector_wrist)


def _only(embodiment: Embodiment, what: str, found: Sequence[_T]) -> _T:
    if len(found) != 1:
        raise ValueError(
            f"embodiment {embodiment.name!r} ({embodiment.control_mode}) has {len(found)} of: {what}; a take-over by touch "
            f"needs one{', so name it' if found else ''}"
        )
    return found[0]
