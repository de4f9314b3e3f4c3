"""ROS 2 messages to numbers and pictures, and back. Works on anything with the fields of the message definitions."""

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cerebella.robots.ros2_api import Ros2Api
from cerebella.robots.ros2_config import CommandTopic
from cerebella.types import ImageArray

_CHANNELS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
}
"""Encoding of `sensor_msgs/Image` -> bytes per pixel, and where red, green and blue are."""

_SUFFIXES = {"position": "", "velocity": "/velocity", "effort": "/effort"}


def joint_values(message: Any) -> dict[str, float]:
    """A `sensor_msgs/JointState` by name: `NAME` is a position, `NAME/velocity` and `NAME/effort` the others.

    Arrays that the publisher left empty are left out.

    Raises:
        ValueError: an array has another length than `name`, a name comes twice, or a number is not finite.
    """
    names = list(message.name)
    if len(set(names)) != len(names):
        raise ValueError(f"a joint is named twice: {', '.join(names)}")
    values: dict[str, float] = {}
    for field, suffix in _SUFFIXES.items():
        numbers = [float(number) for number in getattr(message, field)]
        if numbers and len(numbers) != len(names):
            raise ValueError(f"{len(names)} joint names, but {len(numbers)} numbers in {field!r}")
        for name, number in zip(names, numbers, strict=False):
            if not math.isfinite(number):
                raise ValueError(f"{field} of the joint {name!r} is {number}")
            values[name + suffix] = number
    return values


def picture(message: Any) -> ImageArray:
    """A `sensor_msgs/Image` as uint8[h, w, 3] RGB, a copy.

    Raises:
        ValueError: an encoding that is not 8-bit colour or grey, or too few bytes.
    """
    if message.encoding not in _CHANNELS:
        raise ValueError(f"pictures are encoded as {message.encoding!r}; known: {', '.join(_CHANNELS)}")
    num_bytes, order = _CHANNELS[message.encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(bytes(message.data), dtype=np.uint8)
    if step < width * num_bytes or len(data) < height * step or not height or not width:
        raise ValueError(
            f"a picture of {height} x {width} {message.encoding} needs {height} rows of {width * num_bytes} bytes or "
            f"more; got {len(data)} bytes, {step} per row"
        )
    rows = data[: height * step].reshape(height, step)[:, : width * num_bytes]  # rows may be padded
    return np.ascontiguousarray(rows.reshape(height, width, num_bytes)[..., order])


def compressed_picture(message: Any) -> ImageArray:
    """A `sensor_msgs/CompressedImage` (JPEG or PNG) as uint8[h, w, 3] RGB.

    Raises:
        ValueError: it cannot be decoded.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(bytes(message.data)), formats=("JPEG", "PNG")) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"a picture of format {message.format!r} cannot be decoded: {error}") from error


def stamp_s(message: Any) -> float:
    """The header's time stamp, seconds of the publisher's ROS clock."""
    return float(message.header.stamp.sec) + 1e-9 * float(message.header.stamp.nanosec)


def command_message(ros: Ros2Api, topic: CommandTopic, values: Mapping[str, float]) -> Any:
    """The message that sends a controller its joints' values, by name.

    A trajectory has one point and no time stamp, which means "from now on"; the controller goes there from its desired
    state, and drops what it was still to do.
    """
    numbers = [values[name] for name in topic.joint_names]
    if topic.time_from_start_s is None:
        return ros.std_msgs.Float64MultiArray(data=numbers)
    seconds = int(topic.time_from_start_s)
    duration = ros.builtin_interfaces.Duration(sec=seconds, nanosec=round((topic.time_from_start_s - seconds) * 1e9))
    point = ros.trajectory_msgs.JointTrajectoryPoint(positions=numbers, time_from_start=duration)
    return ros.trajectory_msgs.JointTrajectory(joint_names=list(topic.joint_names), points=[point])
