"""The topics of a ROS 2 robot, and how the file says them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Stamp = Literal["header", "arrival"]
CommandType = Literal["trajectory_msgs/JointTrajectory", "std_msgs/Float64MultiArray"]
ImageType = Literal["sensor_msgs/Image", "sensor_msgs/CompressedImage"]
STAMPS: tuple[str, ...] = get_args(Stamp)
COMMAND_TYPES: tuple[str, ...] = get_args(CommandType)
IMAGE_TYPES: tuple[str, ...] = get_args(ImageType)


@dataclass(frozen=True)
class ImageTopic:
    """Pictures of one camera.

    Args:
        camera: its key in the mapping. topic, type: where it publishes what.
        stamp: `header` trusts the publisher's time stamp, `arrival` takes the moment of the callback.
    """

    camera: str
    topic: str
    type: ImageType
    stamp: Stamp = "header"

    def __post_init__(self) -> None:
        _check_name(f"image topic {self.topic!r}: type", self.type, IMAGE_TYPES)
        _check_name(f"image topic {self.topic!r}: stamp", self.stamp, STAMPS)


@dataclass(frozen=True)
class CommandTopic:
    """Where commands go.

    Args:
        topic: e.g. `/joint_trajectory_controller/joint_trajectory`, or `/forward_position_controller/commands`.
        type: a trajectory carries joint names; an array does not, so `joint_names` must be the controller's own order.
        joint_names: the action keys of the mapping that this controller takes, in its order.
        time_from_start_s: of the single point of a trajectory: the time that the controller has to get there. About one
            control period; 0 jumps. Only for a trajectory.
    """

    topic: str
    type: CommandType
    joint_names: tuple[str, ...]
    time_from_start_s: float | None = None

    def __post_init__(self) -> None:
        what = f"command topic {self.topic!r}"
        _check_name(f"{what}: type", self.type, COMMAND_TYPES)
        if not self.joint_names:
            raise ValueError(f"{what} needs 'joint_names', in the order of its controller")
        is_trajectory = self.type == COMMAND_TYPES[0]
        if is_trajectory != (self.time_from_start_s is not None):
            raise ValueError(
                f"{what}: time_from_start_s (seconds, about one control period) belongs to a JointTrajectory and to "
                f"nothing else; got {self.time_from_start_s} with {self.type}"
            )
        if self.time_from_start_s is not None and not 0 < self.time_from_start_s < math.inf:
            raise ValueError(f"{what}: time_from_start_s must be above 0 s; got {self.time_from_start_s}")


@dataclass(frozen=True)
class Ros2Config:
    """A robot's topics.

    Args:
        joint_states: topic of `sensor_msgs/JointState`. joint_states_stamp: as `ImageTopic.stamp`.
        images, commands: one entry per camera, one per controller.
        node_name: ours in the ROS graph.
        max_age_s: a joint or a camera that stays silent for longer is a fault.
        connect_timeout_s: how long `connect` waits for the first sample and for the controllers.
    """

    joint_states: str
    commands: tuple[CommandTopic, ...]
    images: tuple[ImageTopic, ...] = ()
    joint_states_stamp: Stamp = "header"
    node_name: str = "cerebella"
    max_age_s: float = 0.5
    connect_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        _check_name("joint_states_stamp", self.joint_states_stamp, STAMPS)
        for name in ("max_age_s", "connect_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 s; got {getattr(self, name)}")
        names = [name for command in self.commands for name in command.joint_names]
        if len(set(names)) != len(names):
            raise ValueError(f"a joint goes to two controllers, or twice to one: {', '.join(names)}")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str) -> "Ros2Config":
        """The `ros2` part of a robot file.

        Raises:
            ValueError: a field is missing, unknown or out of range; `source` names the file.
        """
        content = dict(content)
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(content) - set(known)):
            raise ValueError(f"{source}: ros2 has the field {unknown[0]!r}; known: {', '.join(known)}")
        try:
            commands = tuple(
                CommandTopic(**{**entry, "joint_names": tuple(entry.get("joint_names", ()))})
                for entry in content.pop("commands", [])
            )
            images = tuple(ImageTopic(**entry) for entry in content.pop("images", []))
            return cls(commands=commands, images=images, **content)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{source}: ros2: {error}") from error


def _check_name(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}; got {name!r}")
