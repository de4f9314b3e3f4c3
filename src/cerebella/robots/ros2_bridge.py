"""One connection to a ROS 2 graph: a node, the thread that spins it, the newest samples, the publishers."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from cerebella.robots.mapping import Codec
from cerebella.robots.ros2_api import Ros2Api
from cerebella.robots.ros2_config import Ros2Config
from cerebella.robots.ros2_messages import command_message, compressed_picture, joint_values, picture
from cerebella.robots.ros2_samples import NewestSamples, as_picture

_JOIN_TIMEOUT_S = 5.0
_POLL_S = 0.02


class Ros2Bridge:
    """Joins the graph when it is made; `wait` says when it can be used, `close` leaves.

    Args:
        clock_s: monotonic seconds, the clock of the control loop.

    Attributes:
        samples: the newest of every joint and camera.
    """

    def __init__(self, ros: Ros2Api, config: Ros2Config, codec: Codec, clock_s: Callable[[], float]) -> None:
        self._ros = ros
        self._is_ours = not ros.rclpy.ok()
        if (
            self._is_ours
        ):  # without its signal handlers: Ctrl-C must not close the topics before the robot was told to hold
            ros.rclpy.init(signal_handler_options=ros.signals.SignalHandlerOptions.NO)
        self._node = ros.rclpy.create_node(config.node_name)
        self.samples = NewestSamples(
            (*codec.state_keys, *(camera_name(camera.key) for camera in codec.cameras)),
            lambda: 1e-9 * self._node.get_clock().now().nanoseconds,
            clock_s,
        )
        self._subscribe(config, codec)
        self._publishers = {
            command: self._node.create_publisher(
                _message_type(ros, command.type), command.topic, ros.newest_only(is_reliable=True)
            )
            for command in config.commands
        }
        self._executor = ros.executors.SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, name="cerebella-ros2", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Return when every sample is there and every command topic has a subscriber; a ValueError after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        if not self.samples.is_complete.wait(timeout_s):
            broken = f" ({self.samples.last_error})" if self.samples.last_error else ""
            raise ValueError(
                f"ROS 2: nothing came within {timeout_s:g} s for: {', '.join(self.samples.missing())}{broken}. Is the "
                "robot's driver running, in the same ROS_DOMAIN_ID?"
            )
        for command, publisher in self._publishers.items():
            while publisher.get_subscription_count() == 0:  # discovery has no event
                if time.monotonic() > deadline_s:
                    raise ValueError(f"ROS 2: nobody listens on {command.topic}. Is its controller active?")
                time.sleep(_POLL_S)

    def publish(self, theirs: dict[str, float]) -> None:
        """One message to every controller."""
        for command, publisher in self._publishers.items():
            publisher.publish(command_message(self._ros, command, theirs))

    def close(self) -> None:
        """End the thread and leave."""
        self._executor.shutdown()
        self._thread.join(_JOIN_TIMEOUT_S)
        self._node.destroy_node()
        if self._is_ours and self._ros.rclpy.ok():
            self._ros.rclpy.shutdown()

    def _subscribe(self, config: Ros2Config, codec: Codec) -> None:
        newest = self._ros.newest_only(is_reliable=False)

        on_joints = partial(
            self.samples.add, stamp=config.joint_states_stamp, delay_s=codec.state_delay_s, read=joint_values
        )
        self._node.create_subscription(self._ros.sensor_msgs.JointState, config.joint_states, on_joints, newest)
        delays_s = {camera.key: camera.delay_s for camera in codec.cameras}
        for image in config.images:
            decode = compressed_picture if image.type.endswith("CompressedImage") else picture
            read = as_picture(camera_name(image.camera), decode)
            on_image = partial(self.samples.add, stamp=image.stamp, delay_s=delays_s[image.camera], read=read)
            self._node.create_subscription(_message_type(self._ros, image.type), image.topic, on_image, newest)


def _message_type(ros: Ros2Api, name: str) -> Any:
    package, message = name.split("/")
    return getattr(getattr(ros, package), message)


def camera_name(key: str) -> str:
    """The name of a camera among the samples; joints keep theirs."""
    return f"camera {key}"
