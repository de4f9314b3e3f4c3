import math
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.runtime.clock import VirtualClock
from cerebella.runtime.instruments.robot_stub import RobotStub
from cerebella.runtime.instruments.robot_stub_process import RemoteRobotStub, robot_process, stop_message
from cerebella.types import Action, FloatArray


def make_embodiment(policy_hz: float = 50.0, control_hz: float = 50.0, views: tuple[str, ...] = ()) -> Embodiment:
    states = (
        Dimension("joint_measured", "rad", "joint", "base", 0, -2.0, 2.0),
        Dimension("opening_measured", "1", "gripper", "hand", 1, 0.0, 1.0),
    )
    joint = ActionDimension(
        "joint", "rad", "joint", "base", 0, -2.0, 2.0, 100.0, 1e4, 1e6, "last", "joint_measured", False
    )
    gripper = ActionDimension(
        "gripper",
        "m",
        "gripper",
        "hand",
        1,
        0.0,
        0.08,
        100.0,
        1e4,
        1e6,
        "last",
        "opening_measured",
        False,
        open_at="low",
    )
    return Embodiment("two", "joint", states, (joint, gripper), views, policy_hz, control_hz)


def send(robot: RobotStub, *values: float) -> None:
    robot.apply(Action(np.asarray(values, dtype=np.float32), robot.tick))


def joint_of(robot: RobotStub) -> float:
    return float(robot.observe().state[0])


def test_it_follows_with_a_first_order_lag() -> None:
    clock = VirtualClock()
    robot = RobotStub(make_embodiment(), clock, time_constant_s=0.1)
    for number in range(1, 11):
        send(robot, 1.0, 0.04)
        assert joint_of(robot) == pytest.approx(1 - math.exp(-number * 0.02 / 0.1), abs=1e-5)


def test_no_faster_than_its_joints_and_not_beyond_its_range() -> None:
    embodiment = make_embodiment()
    slow = replace(embodiment.actions[0], max_velocity=0.5)
    robot = RobotStub(replace(embodiment, actions=(slow, embodiment.actions[1])), VirtualClock(), time_constant_s=0.0)
    send(robot, 1.0, 0.04)
    assert joint_of(robot) == pytest.approx(0.01)
    assert robot.records[0].violation == ""  # no command before it
    send(robot, 2.5, 0.04)
    assert "2.5 rad is outside -2..2" in robot.records[1].violation
    send(robot, 1.0, 0.04)
    assert "rad/s is beyond 0.5" in robot.records[2].violation
    for _ in range(300):
        send(robot, 2.5, 0.04)
    assert joint_of(robot) == 2.0


def test_a_gripper_is_measured_as_its_opening() -> None:
    robot = RobotStub(make_embodiment(), VirtualClock(), time_constant_s=0.0)
    send(robot, 0.0, 0.08)
    assert robot.observe().state[1] == pytest.approx(0.0, abs=1e-6)
    send(robot, 0.0, 0.0)
    assert robot.observe().state[1] == pytest.approx(1.0)


def test_a_command_belongs_to_the_current_tick() -> None:
    robot = RobotStub(make_embodiment(30.0, 100.0), VirtualClock(), max_ticks=3)
    for tick in range(3):
        assert (robot.tick, robot.observe().tick, robot.status().is_done) == (tick, tick, False)
        send(robot, 0.0, 0.04)
    assert robot.status().is_done
    with pytest.raises(ValueError, match="for tick 2 came at tick 3"):
        robot.apply(Action(np.zeros(2, np.float32), 2))


def test_every_command_is_written_down() -> None:
    clock = VirtualClock(5.0)
    robot = RobotStub(make_embodiment(), clock)
    sent: list[FloatArray] = []
    for number in range(4):
        sent.append(np.array([0.1 * number, 0.04], dtype=np.float32))
        robot.apply(Action(sent[-1], number))
        clock.advance(0.02)
    assert [record.sequence for record in robot.records] == [0, 1, 2, 3]
    assert [record.received_s for record in robot.records] == pytest.approx([5.0, 5.02, 5.04, 5.06])
    assert np.array_equal([record.values for record in robot.records], sent)


def test_blocked_pushed_and_deaf() -> None:
    robot = RobotStub(make_embodiment(), VirtualClock(), time_constant_s=0.0)
    robot.block()
    send(robot, 1.0, 0.04)
    assert joint_of(robot) == 0.0
    robot.block(False)
    send(robot, 1.0, 0.04)
    assert joint_of(robot) == 1.0
    robot.jump(np.array([-0.5, 0.0], dtype=np.float32))
    assert joint_of(robot) == 0.5
    robot.drop(2)
    for _ in range(3):
        send(robot, -1.0, 0.04)
    assert [record.outcome for record in robot.records] == ["executed", "executed", "dropped", "dropped", "executed"]
    assert joint_of(robot) == -1.0


def test_a_stop_holds_until_the_reset() -> None:
    clock = VirtualClock(1.0)
    robot = RobotStub(make_embodiment(), clock)
    send(robot, 1.0, 0.04)
    clock.advance(0.02)
    before = joint_of(robot)
    robot.stop()
    clock.advance(1.0)
    robot.stop()
    send(robot, 2.0, 0.04)
    assert joint_of(robot) == before
    assert robot.records[-1].outcome == "refused"
    assert (robot.stopped_s, robot.status().reason) == (1.02, "stopped")
    robot.reset(0)
    assert not robot.is_stopped
    assert robot.records == []


def test_f14_pictures_are_noise_that_repeats_only_when_the_cameras_hang() -> None:
    clock = VirtualClock()
    robot = RobotStub(make_embodiment(views=("base", "ego")), clock)
    first = robot.observe()
    assert not np.array_equal(first.images["base"], first.images["ego"])
    robot.freeze_cameras()
    send(robot, 0.0, 0.04)
    clock.advance(0.02)
    hung = robot.observe()
    assert np.array_equal(first.images["base"], hung.images["base"])
    assert hung.timestamp_s == 0.02
    robot.freeze_cameras(False)
    assert not np.array_equal(first.images["base"], robot.observe().images["base"])


def test_behind_a_socket_it_is_the_same_robot(tmp_path: Path) -> None:
    embodiment = make_embodiment()
    embodiment.save(tmp_path / "embodiment.json")
    twin = RobotStub(embodiment, VirtualClock())
    with robot_process(str(tmp_path / "embodiment.json")) as process:
        robot = RemoteRobotStub(embodiment, process.port)
        for number in range(10):
            action = Action(np.array([0.1 * number, 0.02], dtype=np.float32), number)
            robot.apply(action)
            twin.apply(action)
        assert np.array_equal(robot.observe().state, twin.observe().state)
        robot.ask("block", value=True)
        robot.ask("jump", value=[0.5, 0.0])
        assert robot.observe().state[0] == pytest.approx(twin.observe().state[0] + 0.5)
        with pytest.raises(ValueError, match="came at tick 10"):
            robot.apply(Action(np.zeros(2, np.float32), 9))
        with pytest.raises(ValueError, match="unknown line 'dance'"):
            robot.ask("dance")
        assert robot.stopped_s() is None
        stop_message(process.port).run(10.0)
        robot.apply(Action(np.array([0.0, 0.02], dtype=np.float32), 10))
        assert [record.outcome for record in robot.records()] == ["executed"] * 10 + ["refused"]
        assert robot.status().is_done
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ConnectionError):
            robot.observe()
        robot.close()


def test_many_may_speak_to_it_at_once(tmp_path: Path) -> None:
    make_embodiment().save(tmp_path / "embodiment.json")
    with robot_process(str(tmp_path / "embodiment.json")) as process:
        errors: list[Exception] = []

        def speak() -> None:
            try:
                stop_message(process.port).run(10.0)
            except (OSError, ValueError) as error:
                errors.append(error)

        threads = [threading.Thread(target=speak) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
