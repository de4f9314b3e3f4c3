"""The ROS 2 bridge against a package that has rclpy's names (`ros2_stub`); the test plays driver and controllers."""

import io
import math
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cerebella.robots.mapping import RobotMapping
from cerebella.robots.ros2 import Ros2Robot
from cerebella.robots.ros2_config import Ros2Config
from cerebella.types import Action, ImageArray
from tests.robots import arm

STUB = Path(__file__).with_name("ros2_stub")
PACKAGES = ("rclpy", "sensor_msgs", "trajectory_msgs", "std_msgs", "builtin_interfaces", "stub_message")
ARM_TOPIC, HAND_TOPIC = "/arm_controller/joint_trajectory", "/hand_controller/commands"
CONFIG: dict[str, Any] = {
    "joint_states": "/joint_states",
    "images": [
        {"camera": "front", "topic": "/front/image_raw", "type": "sensor_msgs/Image"},
        {"camera": "wrist", "topic": "/wrist/image/compressed", "type": "sensor_msgs/CompressedImage"},
    ],
    "commands": [
        {
            "topic": ARM_TOPIC,
            "type": "trajectory_msgs/JointTrajectory",
            "joint_names": ["elbow", "pan", "lift"],  # the controller's own order
            "time_from_start_s": 0.02,
        },
        {"topic": HAND_TOPIC, "type": "std_msgs/Float64MultiArray", "joint_names": ["finger"]},
    ],
    "connect_timeout_s": 0.05,
}
KEYS = {"pan": "shoulder_pan", "lift": "shoulder_lift", "elbow": "elbow_flex"}
MAPPING: dict[str, Any] = {
    "channels": [
        {"dimension": "left_gripper", "key": "finger", "from": [0.0, 0.04], "to": [0.0, 1.0]},
        *(
            {"dimension": f"left_{joint}", "key": key, "unit": "rad", "sign": 1, "zero": 0.0}
            for key, joint in KEYS.items()
        ),
    ],
    "cameras": {"front": {"view": "base", "delay_s": 0.02}, "wrist": {"view": "left_wrist"}},
}
WALL_S = 1_700_000_000.0
"""The ROS clock is a wall clock, far from the monotonic one."""


class Ros:
    """The robot's side: its clock, its driver, its controllers."""

    def __init__(self) -> None:
        import rclpy  # pyright: ignore[reportMissingImports]

        self.graph = rclpy.graph
        self.arm: list[Any] = self.graph.listen(ARM_TOPIC, sys.modules["trajectory_msgs.msg"].JointTrajectory)
        self.hand: list[Any] = self.graph.listen(HAND_TOPIC, sys.modules["std_msgs.msg"].Float64MultiArray)
        self.now_s = 50.0
        self.wall_offset_s = WALL_S
        self.graph.now_ns = round((self.now_s + self.wall_offset_s) * 1e9)

    def message(self, kind: str, **fields: Any) -> Any:
        package, name = kind.split("/")
        return getattr(sys.modules[f"{package}.msg"], name)(**fields)

    def advance(self, duration_s: float, wall_step_s: float = 0.0) -> None:
        self.now_s += duration_s
        self.wall_offset_s += wall_step_s
        self.graph.now_ns = round((self.now_s + self.wall_offset_s) * 1e9)

    def header(self, age_s: float) -> Any:
        nanoseconds = round((self.now_s + self.wall_offset_s - age_s) * 1e9)
        stamp = self.message("builtin_interfaces/Time", sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
        return self.message("std_msgs/Header", stamp=stamp)

    def joints(self, age_s: float = 0.0, velocity: tuple[float, ...] = (), **positions: float) -> None:
        fields = {"name": list(positions), "position": list(positions.values()), "velocity": list(velocity)}
        message = self.message("sensor_msgs/JointState", header=self.header(age_s), **fields)
        self.graph.say("/joint_states", message)

    def front(self, image: ImageArray, encoding: str = "rgb8", age_s: float = 0.0, padding: int = 0) -> None:
        rows = np.pad(image.reshape(len(image), -1), ((0, 0), (0, padding)))
        fields = {"height": image.shape[0], "width": image.shape[1], "encoding": encoding, "step": rows.shape[1]}
        message = self.message("sensor_msgs/Image", header=self.header(age_s), data=rows.tobytes(), **fields)
        self.graph.say("/front/image_raw", message)

    def wrist(self, data: bytes, age_s: float = 0.0) -> None:
        fields = {"format": "jpeg", "data": data}
        message = self.message("sensor_msgs/CompressedImage", header=self.header(age_s), **fields)
        self.graph.say("/wrist/image/compressed", message)


def jpeg(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (level, level, level)).save(buffer, "JPEG")
    return buffer.getvalue()


PICTURE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ros]:
    monkeypatch.syspath_prepend(str(STUB))
    for package in PACKAGES[1:5]:
        __import__(f"{package}.msg")
    yield Ros()
    for name in [name for name in sys.modules if name.split(".")[0] in PACKAGES]:
        del sys.modules[name]


def make(ros: Ros, config: dict[str, Any] | None = None, mapping: dict[str, Any] | None = None) -> Ros2Robot:
    topics = Ros2Config.from_dict(CONFIG | (config or {}), "robot.json")
    names = RobotMapping.from_dict(MAPPING | (mapping or {}), "robot.json")
    return Ros2Robot(topics, arm.embodiment(), names, "lift", clock_s=lambda: ros.now_s)


@pytest.fixture
def robot(ros: Ros) -> Iterator[Ros2Robot]:
    """Connected; the first samples come while it waits."""
    made = make(ros, {"connect_timeout_s": 20.0})
    thread = threading.Thread(target=made.connect)
    thread.start()
    while len(ros.graph.nodes) == 0 or len(ros.graph.nodes[0].subscriptions) < 3 or not ros.graph.nodes[0].executor:
        thread.join(0.001)
        assert thread.is_alive()
    ros.joints(finger=0.02, elbow=0.3, lift=0.2, pan=0.1)
    ros.front(PICTURE)
    ros.wrist(jpeg(90))
    thread.join()
    made.reset(0)
    yield made
    made.disconnect()


def test_without_ros_2_the_error_says_how_to_get_it() -> None:
    topics, names = Ros2Config.from_dict(CONFIG, "x"), RobotMapping.from_dict(MAPPING, "x")
    robot = Ros2Robot(topics, arm.embodiment(), names, "lift")
    with pytest.raises(ValueError, match=r"No module named 'rclpy'.*not on PyPI.*setup\.bash"):
        robot.connect()


def test_joints_are_found_by_name_and_pictures_become_rgb(ros: Ros, robot: Ros2Robot) -> None:
    seen = robot.observe()
    np.testing.assert_allclose(seen.state, [0.1, 0.2, 0.3, 0.5], atol=1e-6)
    np.testing.assert_array_equal(seen.images["base"], PICTURE)
    assert int(seen.images["left_wrist"].mean()) == 90
    assert (seen.prompt, seen.tick) == ("lift", 0)
    ros.advance(0.01)
    ros.joints(pan=0.7)  # drivers may publish joints one by one
    np.testing.assert_allclose(robot.observe().state, [0.7, 0.2, 0.3, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("encoding", "channels"), [("bgr8", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]), ("bgra8", [2, 1, 0, 0]), ("mono8", [0])]
)
def test_encodings_and_padded_rows(ros: Ros, robot: Ros2Robot, encoding: str, channels: list[int]) -> None:
    ros.advance(0.01)
    ros.front(PICTURE[..., channels], encoding, padding=5)
    expected = PICTURE if encoding != "mono8" else np.repeat(PICTURE[..., :1], 3, axis=2)
    np.testing.assert_array_equal(robot.observe().images["base"], expected)


def test_commands_reach_each_controller_in_its_own_order(ros: Ros, robot: Ros2Robot) -> None:
    robot.apply(Action(np.asarray([0.11, 0.22, 0.33, 0.25], dtype=np.float32), 0))
    [trajectory], [array] = ros.arm, ros.hand
    assert trajectory.joint_names == ["elbow", "pan", "lift"]
    [point] = trajectory.points
    assert point.positions == pytest.approx([0.33, 0.11, 0.22])
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 20_000_000)
    assert (trajectory.header.stamp.sec, trajectory.header.stamp.nanosec) == (0, 0), "0 means: from now on"
    assert array.data == pytest.approx([0.01])


def test_samples_are_best_effort_and_commands_reliable_one_message_deep(ros: Ros, robot: Ros2Robot) -> None:
    found = {topic: (qos.reliability.name, qos.depth) for topic, qos in ros.graph.qos.items()}
    sensors = ("/joint_states", "/front/image_raw", "/wrist/image/compressed")
    expected = dict.fromkeys(sensors, ("BEST_EFFORT", 1)) | dict.fromkeys((ARM_TOPIC, HAND_TOPIC), ("RELIABLE", 1))
    assert found == expected


def test_hold_publishes_the_desired_state_again(ros: Ros, robot: Ros2Robot) -> None:
    robot.hold()
    assert not ros.arm, "nothing was commanded yet"
    robot.apply(Action(np.asarray([0.1, 0.2, 0.3, 0.5], dtype=np.float32), 0))
    ros.advance(0.01)
    ros.joints(pan=0.0, lift=0.0, elbow=0.0)  # the arm lags behind
    robot.hold()
    first, second = ros.arm
    assert second.points[0].positions == first.points[0].positions


def test_an_old_point_is_never_published(ros: Ros, robot: Ros2Robot) -> None:
    robot.apply(Action(np.zeros(4, dtype=np.float32), 0))
    robot.apply(Action(np.zeros(4, dtype=np.float32), 1))
    with pytest.raises(ValueError, match="is for tick 1, but the current tick is 2"):
        robot.apply(Action(np.zeros(4, dtype=np.float32), 1))
    assert len(ros.arm) == 2


def test_the_time_stamp_is_the_oldest_exposure_on_the_monotonic_clock(ros: Ros, robot: Ros2Robot) -> None:
    ros.advance(0.1)
    ros.joints(age_s=0.005, pan=0.0, lift=0.0, elbow=0.0, finger=0.0)
    ros.front(PICTURE, age_s=0.03)
    ros.wrist(jpeg(90), age_s=0.01)
    assert robot.observe().timestamp_s == pytest.approx(50.1 - 0.03 - 0.02, abs=1e-6)
    assert robot.exposures_s == pytest.approx({"state": 50.095, "base": 50.05, "left_wrist": 50.09}, abs=1e-6)


@pytest.mark.parametrize("step_s", [-5.0, 3600.0])
def test_a_step_of_the_wall_clock_shifts_no_time_stamp(ros: Ros, robot: Ros2Robot, step_s: float) -> None:
    for wall_step_s in (0.0, step_s, 0.0):
        ros.advance(0.1, wall_step_s)
        ros.joints(age_s=0.004, pan=0.0, lift=0.0, elbow=0.0, finger=0.0)
        ros.front(PICTURE, age_s=0.004)
        ros.wrist(jpeg(90), age_s=0.004)
        assert robot.observe().timestamp_s == pytest.approx(ros.now_s - 0.024, abs=1e-6)
        assert not robot.status().is_done
    assert robot.status().metrics["num_dropped_old"] == 0


def test_stamps_from_the_future_count_as_now_and_are_counted(ros: Ros, robot: Ros2Robot) -> None:
    ros.advance(0.01)
    ros.joints(age_s=-3.0, pan=0.9, lift=0.0, elbow=0.0, finger=0.0)
    assert robot.observe().state[0] == pytest.approx(0.9)
    assert robot.status().metrics["num_future_stamps"] == 1


def test_a_message_that_comes_late_does_not_replace_a_newer_one(ros: Ros, robot: Ros2Robot) -> None:
    ros.advance(0.1)
    ros.joints(age_s=0.01, pan=0.5)
    ros.joints(age_s=0.05, pan=0.4)
    assert robot.observe().state[0] == pytest.approx(0.5)
    assert robot.status().metrics["num_dropped_old"] == 1


def test_broken_messages_are_dropped_and_counted(ros: Ros, robot: Ros2Robot) -> None:
    before = robot.observe()
    ros.advance(0.01)
    ros.joints(pan=math.nan)
    message = ros.message("sensor_msgs/JointState", header=ros.header(0.0), name=["pan", "lift"], position=[1.0])
    ros.graph.say("/joint_states", message)
    ros.front(PICTURE[..., 0], "16UC1")
    ros.wrist(b"no picture")
    after = robot.observe()
    np.testing.assert_array_equal(after.state, before.state)
    np.testing.assert_array_equal(after.images["base"], before.images["base"])
    assert robot.status().metrics["num_dropped_broken"] == 4


def test_a_topic_that_falls_silent_is_a_fault_and_nothing_is_published_any_more(ros: Ros, robot: Ros2Robot) -> None:
    for _ in range(6):
        ros.advance(0.1)
        ros.joints(pan=0.0, lift=0.0, elbow=0.0, finger=0.0)
        ros.wrist(jpeg(90))
        robot.observe()
    status = robot.status()
    assert status.is_done
    assert "camera front was measured 0.5" in status.reason
    robot.apply(Action(np.zeros(4, dtype=np.float32), 0))
    robot.hold()
    assert not ros.arm


def test_velocities_are_measured_under_their_own_name(ros: Ros) -> None:
    channels = [entry | {"key": "pan/velocity"} if entry["key"] == "pan" else entry for entry in MAPPING["channels"]]
    with pytest.raises(ValueError, match="no command topic takes the joint 'pan/velocity'"):
        make(ros, mapping={"channels": channels})


def test_connecting_says_what_does_not_answer(ros: Ros) -> None:
    robot = make(ros)
    with pytest.raises(ValueError, match="for: camera front, camera wrist, elbow, finger, lift, pan"):
        robot.connect()
    assert not ros.graph.nodes
    assert not ros.graph.is_up
    assert ros.graph.signal_handlers.name == "NO", "Ctrl-C is for us: the robot must be told to hold first"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint_states_stamp": "now"}, "header, arrival"),
        ({"topics": []}, "'topics'"),
        ({"max_age_s": 0.0}, "max_age_s must be above 0 s"),
        ({"images": []}, "there must be one topic for each"),
        ({"commands": CONFIG["commands"][:1]}, "takes the joint 'finger'"),
        ({"commands": [*CONFIG["commands"], CONFIG["commands"][1]]}, "two controllers"),
        ({"commands": [{**CONFIG["commands"][1], "time_from_start_s": 0.1}]}, "belongs to a JointTrajectory"),
        ({"commands": [{**CONFIG["commands"][0], "time_from_start_s": 0.0}]}, "above 0 s"),
        ({"commands": [{**CONFIG["commands"][1], "joint_names": []}]}, "in the order of its controller"),
        ({"commands": [{"topic": "/x"}]}, "robot.json: ros2"),
        ({"images": [{**CONFIG["images"][0], "type": "Image"}]}, "sensor_msgs/Image, sensor_msgs/CompressedImage"),
    ],
)
def test_topics_that_do_not_fit_are_refused(ros: Ros, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make(ros, changes)
