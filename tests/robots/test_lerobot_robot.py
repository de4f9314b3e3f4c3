"""A device with LeRobot's API behind `Environment`."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cerebella.robots.lerobot_robot import LeRobotRobot
from cerebella.robots.robot import Robot
from cerebella.types import Action
from tests.robots import arm


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def connected(device: arm.Arm, clock_s: Callable[[], float] = time.monotonic, **options: Any) -> LeRobotRobot:
    mapping = arm.mapping(**options.pop("mapping", {}))
    robot = LeRobotRobot(device, arm.embodiment(), mapping, "lift the cube", clock_s=clock_s, **options)
    robot.connect()
    robot.reset(0)
    return robot


def command(robot: Robot, *values: float) -> Action:
    return Action(np.asarray(values, dtype=np.float32), robot.observe().tick)


def test_an_observation_has_every_number_by_name_and_every_view() -> None:
    device = arm.Arm()
    device.position |= {"shoulder_pan.pos": 10.0, "shoulder_lift.pos": 20.0, "elbow_flex.pos": 30.0}
    seen = connected(device).observe()
    expected = [math.radians(10), 0.1 - math.radians(20), -0.2 - math.radians(30), 0.2]
    np.testing.assert_allclose(seen.state, expected, atol=1e-6)
    assert {view: int(image.mean()) for view, image in seen.images.items()} == {"base": 10, "left_wrist": 200}
    assert (seen.prompt, seen.tick) == ("lift the cube", 0)


def test_a_command_reaches_the_joints_that_it_names() -> None:
    device = arm.Arm()
    robot = connected(device)
    robot.apply(command(robot, 0.1, 0.2, 0.3, 0.4))
    expected = {"shoulder_pan": 0.1, "shoulder_lift": -(0.2 - 0.1), "elbow_flex": -(0.3 + 0.2)}
    degrees = {f"{name}.pos": math.degrees(value) for name, value in expected.items()}
    assert device.sent == [pytest.approx(degrees | {"gripper.pos": 40.0}, abs=1e-4)]


def test_connecting_and_resetting_move_nothing() -> None:
    device = arm.Arm()
    robot = connected(device)
    robot.reset(1)
    robot.hold()
    assert device.sent == []
    assert robot.last_sent is None


def test_what_the_robot_clipped_is_what_was_sent() -> None:
    device = arm.Arm(max_relative_target=5.0)
    robot = connected(device)
    here = robot.observe().state
    robot.apply(command(robot, 1.0, *here[1:]))
    assert robot.last_sent is not None
    np.testing.assert_allclose(robot.last_sent.values, [math.radians(5.0), *here[1:]], atol=1e-6)
    assert robot.num_altered == robot.status().metrics["num_altered"] == 1
    robot.apply(command(robot, *robot.observe().state))
    assert robot.num_altered == 1


def test_ticks_count_commands_and_old_ones_are_refused() -> None:
    robot = connected(arm.Arm())
    ticks = []
    for _ in range(5):
        ticks.append(robot.observe().tick)
        robot.apply(command(robot, 0.0, 0.0, 0.0, 0.0))
    assert ticks == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="is for tick 4, but the current tick is 5"):
        robot.apply(Action(np.zeros(4, dtype=np.float32), 4))
    with pytest.raises(ValueError, match="actions must be"):
        robot.apply(Action(np.zeros(3, dtype=np.float32), 5))
    robot.reset(0)
    assert robot.observe().tick == 0


def test_the_time_stamp_is_the_exposure_of_the_oldest_sensor() -> None:
    clock, device = Clock(), arm.Arm()
    offset_s = clock.now_s - time.perf_counter()
    robot = connected(device, clock, mapping={"state_delay_s": 0.01})
    assert robot.observe().timestamp_s == pytest.approx(100.0 - 0.03)  # no stamps: the wrist's calibrated delay
    device.cameras["front"].latest_timestamp = 99.9 - offset_s
    device.cameras["wrist_cam"].latest_timestamp = 99.99 - offset_s
    assert robot.observe().timestamp_s == pytest.approx(99.9, abs=0.01)
    assert robot.exposures_s == pytest.approx({"state": 99.99, "base": 99.9, "left_wrist": 99.96}, abs=0.01)


def test_the_time_of_a_slow_read_is_measured_and_does_not_make_the_sample_younger() -> None:
    clock, device = Clock(), arm.Arm()
    robot = connected(device, clock)

    def slow() -> None:
        clock.now_s += 0.25

    device.on_read = slow
    assert robot.observe().timestamp_s == pytest.approx(100.0 - 0.03)
    metrics = robot.status().metrics
    assert metrics["max_read_s"] == pytest.approx(0.25)
    assert metrics["mean_read_s"] == pytest.approx(0.25 / 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"elbow_flex.pos": math.nan}, "reports nan as 'elbow_flex.pos'"),
        ({"gripper.pos": None}, "reports no 'gripper.pos'"),
        ({"front": None}, "reports no camera 'front'"),
        ({"front": np.zeros((3, 6, 8), np.float32)}, "must be uint8"),
    ],
)
def test_a_broken_reading_is_bridged_by_the_last_one_and_becomes_a_fault_if_it_stays(
    changes: dict[str, Any], reason: str
) -> None:
    clock, device = Clock(), arm.Arm()
    robot = connected(device, clock, max_failures=2)
    before = robot.observe()
    device.changes = changes
    device.position |= {"shoulder_pan.pos": 50.0}
    for _ in range(2):
        clock.now_s += 0.02
        bridged = robot.observe()
        np.testing.assert_array_equal(bridged.state, before.state)
        assert bridged.timestamp_s == before.timestamp_s
        assert not robot.status().is_done
    device.changes = {}
    assert robot.observe().state[0] == pytest.approx(math.radians(50.0))
    device.changes = changes
    for _ in range(3):
        robot.observe()
    status = robot.status()
    assert status.is_done
    assert not status.is_success
    assert reason in status.reason
    assert status.metrics["num_failures"] == 5


def test_writes_that_work_do_not_hide_reads_that_fail() -> None:
    device = arm.Arm()
    robot = connected(device, max_failures=2)
    device.changes = {"front": None}
    for _ in range(3):
        robot.apply(command(robot, 0.0, 0.0, 0.0, 0.0))
    assert robot.status().is_done


def test_a_pulled_cable_ends_the_episode_and_nothing_is_sent_afterwards() -> None:
    device = arm.Arm()
    robot = connected(device, max_failures=0)
    robot.apply(command(robot, 0.0, 0.0, 0.0, 0.0))
    device.failure = arm.Lost("the port is gone")
    robot.observe()
    assert robot.status().is_done
    assert "the port is gone" in robot.status().reason
    device.failure = None
    robot.apply(Action(np.zeros(4, dtype=np.float32), robot.observe().tick))
    robot.hold()
    robot.reset(1)
    assert len(device.sent) == 1
    assert robot.status().is_done, "a fault stays until somebody connects anew"
    robot.connect()
    assert not robot.status().is_done


def test_a_command_that_cannot_be_sent_is_a_failure_too() -> None:
    device = arm.Arm()
    robot = connected(device, max_failures=0)
    now = command(robot, 0.0, 0.0, 0.0, 0.0)
    device.failure = arm.Lost("no answer")
    robot.apply(now)
    assert robot.status().reason == "write failed: Lost: no answer"
    assert robot.last_sent is None


def test_hold_repeats_what_was_sent_not_what_is_measured() -> None:
    device = arm.Arm()
    robot = connected(device)
    robot.apply(command(robot, 0.1, 0.2, 0.3, 0.4))
    device.position = dict.fromkeys(device.position, 0.0)
    robot.hold()
    assert device.sent[1] == pytest.approx(device.sent[0], abs=1e-4)


def test_an_operator_ends_an_episode_and_the_next_one_can_start() -> None:
    robot = connected(arm.Arm())
    robot.stop("the operator pressed q")
    assert robot.status().is_done
    assert robot.status().reason == "the operator pressed q"
    robot.reset(1)
    assert not robot.status().is_done


def test_connecting_refuses_what_cannot_be_trusted() -> None:
    device = arm.Arm()
    robot = LeRobotRobot(device, arm.embodiment(), arm.mapping(), "x")
    with pytest.raises(ValueError, match=r"call connect\(\) first"):
        robot.observe()
    device.is_calibrated = False
    with pytest.raises(ValueError, match="not calibrated"):
        robot.connect()
    assert not device.is_connected
    device.is_calibrated, device.failure = True, RuntimeError("no frame yet")
    with pytest.raises(ValueError, match="the first reading failed: no frame yet"):
        robot.connect()
    assert not device.is_connected
    robot.disconnect()


class Wider(arm.Arm):
    """Takes one joint more than the mapping gives."""

    @property
    def action_features(self) -> dict[str, Any]:
        return {**super().action_features, "wrist.pos": float}


class Grey(arm.Arm):
    """Its cameras have one channel."""

    @property
    def observation_features(self) -> dict[str, Any]:
        return super().observation_features | {"front": (6, 8, 1)}


@pytest.mark.parametrize(
    ("device", "key", "message"),
    [
        (arm.Arm(), "elbow.pos", "measures no 'elbow.pos'; it measures: elbow_flex.pos, gripper.pos"),
        (Wider(), "elbow_flex.pos", "also takes 'wrist.pos'"),
        (Grey(), "elbow_flex.pos", r"shape \(6, 8, 1\)"),
    ],
)
def test_a_device_that_does_not_have_what_the_mapping_names_is_refused(device: arm.Arm, key: str, message: str) -> None:
    channels = [entry | ({"key": key} if "elbow" in entry["key"] else {}) for entry in arm.MAPPING["channels"]]
    with pytest.raises(ValueError, match=message):
        LeRobotRobot(device, arm.embodiment(), arm.mapping(channels=channels), "x")


def test_a_camera_that_the_device_does_not_have_is_refused() -> None:
    cameras = {"top": {"view": "base"}, "wrist_cam": {"view": "left_wrist"}}
    with pytest.raises(ValueError, match="no camera 'top'; its cameras: front, wrist_cam"):
        LeRobotRobot(arm.Arm(), arm.embodiment(), arm.mapping(cameras=cameras), "x")
