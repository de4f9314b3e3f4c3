"""A small arm for the tests: an embodiment, its mapping, and a device with LeRobot's API (degrees, gripper 0..100)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cerebella.arms import Limits
from cerebella.embodiment import Embodiment
from cerebella.robots.derive import MeasuredJoint, derive_embodiment
from cerebella.robots.mapping import RobotMapping

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex")
LIMITS = {"low": -1.5, "high": 1.5, "max_velocity": 2.0, "max_acceleration": 8.0, "max_jerk": 80.0}
GRIPPER_LIMITS = {"low": 0.0, "high": 1.0, "max_velocity": 4.0, "max_acceleration": 40.0, "max_jerk": 400.0}
SIGNS = {"shoulder_pan": 1, "shoulder_lift": -1, "elbow_flex": -1}
ZEROS = {"shoulder_pan": 0.0, "shoulder_lift": 0.1, "elbow_flex": -0.2}
MAPPING: dict[str, Any] = {
    "channels": [
        # not in the embodiment's order, nor in the device's: only names count
        {"dimension": "left_gripper", "key": "gripper.pos", "from": [0, 100], "to": [0.0, 1.0]},
        *(
            {"dimension": f"left_{name}", "key": f"{name}.pos", "unit": "deg", "sign": SIGNS[name], "zero": ZEROS[name]}
            for name in reversed(JOINTS)
        ),
    ],
    "cameras": {"front": {"view": "base"}, "wrist_cam": {"view": "left_wrist", "delay_s": 0.03}},
}


def embodiment(control_hz: float = 50.0, views: tuple[str, ...] = ("base", "left_wrist")) -> Embodiment:
    joints = [
        MeasuredJoint(f"left_{name}", "rad", "joint", "base", 7 + i, Limits(**LIMITS)) for i, name in enumerate(JOINTS)
    ]
    gripper = MeasuredJoint("left_gripper", "1", "gripper", "left_gripper", 6, Limits(**GRIPPER_LIMITS))
    return derive_embodiment("toy_arm", [*joints, gripper], views, 25.0, control_hz, "last", relative=True)


def mapping(**changes: Any) -> RobotMapping:
    return RobotMapping.from_dict({**MAPPING, **changes}, "the test")


class Lost(ConnectionError):
    """What a driver raises when the cable is pulled."""


class Camera:
    """A camera with a thread of its own, as far as its time stamp shows it."""

    def __init__(self, level: int) -> None:
        self.frame = np.full((6, 8, 3), level, dtype=np.uint8)
        self.latest_timestamp: float | None = None


class Arm:
    """The API of LeRobot's `Robot`. Its numbers come in an order of its own."""

    def __init__(self, max_relative_target: float | None = None) -> None:
        self.position = {f"{name}.pos": 0.0 for name in reversed(JOINTS)} | {"gripper.pos": 20.0}
        self.cameras = {"front": Camera(10), "wrist_cam": Camera(200)}
        self.max_relative_target = max_relative_target
        self.is_connected = False
        self.is_calibrated = True
        self.sent: list[dict[str, float]] = []
        self.failure: Exception | None = None
        self.changes: dict[str, Any] = {}
        self.on_read = lambda: None

    @property
    def observation_features(self) -> dict[str, Any]:
        return dict.fromkeys(self.position, float) | {name: (6, 8, 3) for name in self.cameras}

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(self.position, float)

    def connect(self, calibrate: bool = True) -> None:
        assert not calibrate, "calibrating lets go of the motors, and asks at the terminal"
        self.is_connected = True

    def get_observation(self) -> Mapping[str, Any]:
        self.on_read()
        if self.failure is not None:
            raise self.failure
        observed = self.position | {name: camera.frame for name, camera in self.cameras.items()}
        return {name: value for name, value in (observed | self.changes).items() if value is not None}

    def send_action(self, action: dict[str, Any]) -> Mapping[str, Any]:
        if self.failure is not None:
            raise self.failure
        sent = dict(action)
        if (most := self.max_relative_target) is not None:
            here = self.position
            sent = {name: here[name] + min(max(value - here[name], -most), most) for name, value in action.items()}
        self.sent.append(sent)
        self.position = sent
        return sent

    def disconnect(self) -> None:
        if not self.is_connected:
            raise Lost("is not connected")
        self.is_connected = False
