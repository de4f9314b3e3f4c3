"""Runs under the interpreter that has `lerobot`: a robot of LeRobot's own base class behind our adapter.

python lerobot_robot_peer.py ROBOT.json     one JSON line: what the adapter saw and what reached the motors
python lerobot_robot_peer.py so101 ROBOT.json   the same file through LeRobot's SO-101 configuration, not connected

The arm has LeRobot's motor bus arithmetic in it: `MotorsBus._normalize` and `_unnormalize` turn encoder counts into degrees
and 0..100 as for real motors; only the serial line is missing. Its relative clipping is LeRobot's function.
"""

import json
import logging
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from lerobot.motors import Motor, MotorCalibration, MotorNormMode  # pyright: ignore[reportMissingImports]
from lerobot.motors.motors_bus import MotorsBus  # pyright: ignore[reportMissingImports]
from lerobot.robots import Robot, RobotConfig  # pyright: ignore[reportMissingImports]
from lerobot.robots.utils import ensure_safe_goal_position  # pyright: ignore[reportMissingImports]
from lerobot.utils.decorators import (  # pyright: ignore[reportMissingImports]
    check_if_already_connected,
    check_if_not_connected,
)

from cerebella.robots.lerobot_factory import make_lerobot_robot
from cerebella.robots.registry import make_robot, read_robot_file
from cerebella.types import Action

MOTORS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "gripper")


@RobotConfig.register_subclass("counting_arm")
@dataclass
class CountingArmConfig(RobotConfig):
    """Configuration of the arm below."""

    port: str = ""
    disable_torque_on_disconnect: bool = True
    max_relative_target: float | None = None


class CountingArm(Robot):
    """Four motors that keep encoder counts; LeRobot's arithmetic around them."""

    config_class = CountingArmConfig
    name = "counting_arm"

    def __init__(self, config: CountingArmConfig) -> None:
        super().__init__(config)
        self.config = config
        modes = [MotorNormMode.DEGREES] * 3 + [MotorNormMode.RANGE_0_100]
        self.bus = Arithmetic(
            {name: Motor(i + 1, "sts3215", mode) for i, (name, mode) in enumerate(zip(MOTORS, modes, strict=True))},
            {name: MotorCalibration(i + 1, int(name == "gripper"), 0, 1000, 3000) for i, name in enumerate(MOTORS)},
        )
        self.counts = {name: 2000 for name in MOTORS}
        self.cameras: dict[str, Any] = {}
        self._is_connected = False

    @cached_property
    def observation_features(self) -> dict[str, Any]:
        return {f"{name}.pos": float for name in MOTORS} | {"front": (4, 6, 3)}

    @cached_property
    def action_features(self) -> dict[str, Any]:
        return {f"{name}.pos": float for name in MOTORS}

    @property
    def is_connected(self) -> bool:
        return self._is_connected

    @property
    def is_calibrated(self) -> bool:
        return True

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        self._is_connected = True

    def calibrate(self) -> None:
        raise AssertionError("calibrating lets go of the motors")

    def configure(self) -> None:
        pass

    @check_if_not_connected
    def get_observation(self) -> dict[str, Any]:
        degrees = self.bus.normalize(self.counts)
        return {f"{name}.pos": value for name, value in degrees.items()} | {"front": np.full((4, 6, 3), 7, np.uint8)}

    @check_if_not_connected
    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        goals = {name.removesuffix(".pos"): value for name, value in action.items()}
        if self.config.max_relative_target is not None:
            here = self.bus.normalize(self.counts)
            pairs = {name: (goal, here[name]) for name, goal in goals.items()}
            goals = ensure_safe_goal_position(pairs, self.config.max_relative_target)
        self.counts = self.bus.unnormalize(goals)
        return {f"{name}.pos": value for name, value in goals.items()}

    @check_if_not_connected
    def disconnect(self) -> None:
        self._is_connected = False


class Arithmetic:
    """What LeRobot's motor bus needs around its two methods that turn encoder counts into numbers and back."""

    apply_drive_mode = True
    model_resolution_table = {"sts3215": 4096}  # noqa: RUF012

    def __init__(self, motors: dict[str, Any], calibration: dict[str, Any]) -> None:
        self.motors, self.calibration = motors, calibration
        self._names = {motor.id: name for name, motor in motors.items()}

    def _id_to_name(self, number: int) -> str:
        return self._names[number]

    def _id_to_model(self, number: int) -> str:
        return self.motors[self._names[number]].model

    def normalize(self, counts: dict[str, int]) -> dict[str, float]:
        by_id = MotorsBus._normalize(self, {self.motors[name].id: value for name, value in counts.items()})
        return {self._names[number]: value for number, value in by_id.items()}

    def unnormalize(self, values: dict[str, float]) -> dict[str, int]:
        by_id = MotorsBus._unnormalize(self, {self.motors[name].id: value for name, value in values.items()})
        return {self._names[number]: value for number, value in by_id.items()}


def drive(path: str) -> dict[str, Any]:
    """A command, a clipped command, a lost cable."""
    robot: Any = make_robot(path)
    device = robot._robot
    robot.connect()
    robot.reset(0)
    first = robot.observe()
    robot.apply(Action(np.asarray([0.05, 0.1, 0.15, 0.52], np.float32), first.tick))
    counts, second = dict(device.counts), robot.observe()
    robot.apply(Action(np.asarray([1.0, 0.1, 0.15, 0.52], np.float32), second.tick))
    clipped, num_altered = robot.last_sent.values, robot.num_altered
    device.disconnect()
    for _ in range(4):
        robot.observe()
    status = robot.status()
    robot.disconnect()
    return {
        "device": type(device).__mro__[1].__module__,
        "first": first.state.tolist(),
        "views": {view: list(image.shape) for view, image in first.images.items()},
        "counts": counts,
        "second": second.state.tolist(),
        "clipped": clipped.tolist(),
        "num_altered": num_altered,
        "is_done": status.is_done,
        "reason": status.reason,
        "max_read_ms": 1e3 * status.metrics["max_read_s"],
    }


def describe(path: str) -> dict[str, Any]:
    """LeRobot's own SO-101 class from a robot file: its features, or what it says is missing."""
    try:
        device = make_lerobot_robot(read_robot_file(path)["robot"], path)
    except ValueError as error:
        return {"error": str(error)}
    return {"features": {name: str(kind) for name, kind in device.observation_features.items()}}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps(describe(sys.argv[2]) if sys.argv[1] == "so101" else drive(sys.argv[1])))
