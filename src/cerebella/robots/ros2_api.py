"""What is used of ROS 2, imported when it is needed: rclpy comes with a ROS 2 installation, not from PyPI."""

import importlib
from dataclasses import dataclass
from typing import Any

_NOT_THERE = (
    "ROS 2 cannot be imported: {error}. rclpy and the message packages are not on PyPI: install ROS 2 (Humble or newer), "
    "`source /opt/ros/<distribution>/setup.bash`, and use a virtual environment of the Python that ROS 2 was built for"
)


@dataclass(frozen=True)
class Ros2Api:
    """Modules of ROS 2 (Humble or newer)."""

    rclpy: Any
    executors: Any
    qos: Any
    signals: Any
    sensor_msgs: Any
    trajectory_msgs: Any
    std_msgs: Any
    builtin_interfaces: Any

    def newest_only(self, is_reliable: bool) -> Any:
        """A quality of service that keeps one message: an old sample, and an old command, are worth nothing.

        Best effort fits every publisher. Commands need `is_reliable`: the controllers of ros2_control subscribe
        reliably, and ROS 2 does not connect a best-effort publisher to a reliable subscription.
        """
        policy = self.qos.ReliabilityPolicy
        return self.qos.QoSProfile(
            history=self.qos.HistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=policy.RELIABLE if is_reliable else policy.BEST_EFFORT,
            durability=self.qos.DurabilityPolicy.VOLATILE,
        )


def load_ros2() -> Ros2Api:
    """Import ROS 2.

    Raises:
        ValueError: it is not there; says how to get it.
    """
    names = {
        "rclpy": "rclpy",
        "executors": "rclpy.executors",
        "qos": "rclpy.qos",
        "signals": "rclpy.signals",
        "sensor_msgs": "sensor_msgs.msg",
        "trajectory_msgs": "trajectory_msgs.msg",
        "std_msgs": "std_msgs.msg",
        "builtin_interfaces": "builtin_interfaces.msg",
    }
    try:
        return Ros2Api(**{field: importlib.import_module(module) for field, module in names.items()})
    except ImportError as error:
        raise ValueError(_NOT_THERE.format(error=error)) from error
