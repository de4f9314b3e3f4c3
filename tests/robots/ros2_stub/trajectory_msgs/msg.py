from typing import Any, ClassVar

from builtin_interfaces.msg import Duration  # pyright: ignore[reportMissingImports]
from std_msgs.msg import Header  # pyright: ignore[reportMissingImports]
from stub_message import Message  # pyright: ignore[reportMissingImports]


class JointTrajectoryPoint(Message):
    FIELDS: ClassVar[dict[str, Any]] = {
        "positions": (float,),
        "velocities": (float,),
        "accelerations": (float,),
        "effort": (float,),
        "time_from_start": Duration,
    }


class JointTrajectory(Message):
    FIELDS: ClassVar[dict[str, Any]] = {"header": Header, "joint_names": (str,), "points": (JointTrajectoryPoint,)}
