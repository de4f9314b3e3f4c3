"""The whole chain as processes: a policy server, a controller with its watchdog, and a robot. Each is killed or stopped."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cerebella.runtime.emergency_stop import COOL_DOWN_S, EmergencyStop
from cerebella.runtime.instruments.processes import ServerProcess, frozen
from cerebella.runtime.instruments.robot_stub import CommandRecord
from cerebella.runtime.instruments.robot_stub_process import RemoteRobotStub, robot_process

from .harness import CONTROL_HZ, make_embodiment
from .judge import judge_commands

pytestmark = [pytest.mark.faults, pytest.mark.slow]

GRACE_S = 0.4
LIMIT_S = 2 / CONTROL_HZ + GRACE_S
SLACK_S = 1.5
"""What a busy test machine may add."""


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteRobotStub]:
    path = tmp_path_factory.mktemp("robot") / "embodiment.json"
    make_embodiment().save(path)
    with robot_process(str(path)) as process:
        robot = RemoteRobotStub(make_embodiment(), process.port)
        yield robot
        robot.close()


def make_controller(robot: RemoteRobotStub, server: ServerProcess, folder: Path) -> ServerProcess:
    robot.reset(0)
    make_embodiment().save(folder / "embodiment.json")
    words: list[object] = [Path(__file__).with_name("executor_process.py"), folder, folder / "embodiment.json"]
    words += [robot.port, f"ws://127.0.0.1:{server.port}", GRACE_S]
    return ServerProcess([sys.executable, *map(str, words)], r"running, watchdog (\d+)")


@pytest.fixture
def controller(robot: RemoteRobotStub, lasting_server: ServerProcess, tmp_path: Path) -> Iterator[ServerProcess]:
    with make_controller(robot, lasting_server, tmp_path) as controller:
        yield controller


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.005)


def stopped_s(robot: RemoteRobotStub) -> float:
    wait_until(lambda: robot.stopped_s() is not None)
    moment_s = robot.stopped_s()
    assert moment_s is not None
    return moment_s


def check_commands(robot: RemoteRobotStub) -> list[CommandRecord]:
    """What the robot got keeps every limit, and moved it."""
    records = robot.records()
    judge_commands(records, make_embodiment())
    assert abs(records[-1].values[0]) > 0.01
    return records


def stands(records: list[CommandRecord], num_last: int = 1) -> bool:
    """The last commands repeat the one before them."""
    return all(records[-1 - i].values[0] == records[-2 - i].values[0] for i in range(num_last))


def test_f16_the_controller_is_killed(robot: RemoteRobotStub, controller: ServerProcess, tmp_path: Path) -> None:
    killed_s = time.monotonic()
    controller.kill()
    assert 0.0 < stopped_s(robot) - killed_s < LIMIT_S + SLACK_S
    stop = EmergencyStop(tmp_path)
    wait_until(lambda: stop.is_latched)
    assert [(cause.by, cause.reason) for cause in stop.causes()] == [
        ("watchdog", "the executor's process ended without a goodbye")
    ]
    records = check_commands(robot)
    assert all(record.received_s <= stopped_s(robot) for record in records)


def test_f16_the_controller_hangs(robot: RemoteRobotStub, controller: ServerProcess, tmp_path: Path) -> None:
    """It meets a latched stop when it goes on."""
    stop, frozen_s = EmergencyStop(tmp_path), time.monotonic()
    with frozen(controller.pid):
        assert LIMIT_S - 2 / CONTROL_HZ < stopped_s(robot) - frozen_s < LIMIT_S + SLACK_S
        wait_until(lambda: stop.is_latched)
    wait_until(lambda: "ended by EmergencyStopLatched" in controller.output)
    records = check_commands(robot)
    assert [record.outcome for record in records].count("refused") <= 1, "at most the one that it had begun to send"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_f17_the_watchdog_is_gone(
    robot: RemoteRobotStub, controller: ServerProcess, tmp_path: Path, number: signal.Signals
) -> None:
    """The controller refuses to go on, and latches the stop: nobody would notice the next failure."""
    watchdog_pid, gone_s, stop = controller.port, time.monotonic(), EmergencyStop(tmp_path)
    os.kill(watchdog_pid, number)
    wait_until(lambda: stop.is_latched)
    if number == signal.SIGSTOP:  # the controller would wait for its end
        os.kill(watchdog_pid, signal.SIGKILL)
    wait_until(lambda: "ended by WatchdogFailure" in controller.output)
    records = check_commands(robot)
    assert records[-1].received_s - gone_s < LIMIT_S + SLACK_S
    [cause] = stop.causes()
    assert (cause.by, "watchdog process" in cause.reason) == ("watchdog", True)


def test_f18_an_emergency_stop_from_another_process(
    robot: RemoteRobotStub, lasting_server: ServerProcess, tmp_path: Path
) -> None:
    """It ends the controller; a new one sends nothing, until a person has reset it."""
    stop = EmergencyStop(tmp_path)
    with make_controller(robot, lasting_server, tmp_path) as controller:
        stop.latch("remote", "somebody is in the cell")
        latched_s = time.monotonic()
        wait_until(lambda: "somebody is in the cell" in controller.output)
        records = check_commands(robot)
        assert records[-1].received_s - latched_s < 2 / CONTROL_HZ + SLACK_S
        assert stopped_s(robot) > latched_s, "the watchdog told the robot as well"
    with pytest.raises(RuntimeError, match="somebody is in the cell"):
        make_controller(robot, lasting_server, tmp_path).start()
    assert robot.records() == []
    time.sleep(COOL_DOWN_S)
    stop.reset("Mei")
    with make_controller(robot, lasting_server, tmp_path) as controller:
        assert len(robot.records()) > 0
        assert controller.terminate() == 0


def test_f21_asked_to_end(robot: RemoteRobotStub, controller: ServerProcess, tmp_path: Path) -> None:
    """A stop within the limits, where it is; no way home, and no latch."""
    before = robot.records()
    assert controller.terminate() == 0
    assert "ended in the state hold" in controller.output
    records = check_commands(robot)
    assert stands(records)
    travelled = [float(record.values[0]) for record in records[len(before) :]]
    assert max(travelled) - min(travelled) < 0.3, "half a second at 0.5 rad/s, and the stop"
    assert robot.stopped_s() is None
    assert not EmergencyStop(tmp_path).is_latched
