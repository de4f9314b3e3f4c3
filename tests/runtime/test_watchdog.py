"""Real processes, really killed: the executor, its watchdog, and a robot behind a socket."""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.runtime.emergency_stop import EmergencyStop
from cerebella.runtime.instruments.processes import ServerProcess, frozen
from cerebella.runtime.instruments.robot_stub_process import RemoteRobotStub, robot_process, stop_message
from cerebella.runtime.stop_hook import StopCall, StopCommand, StopHook, StopMessage, from_dict, to_dict
from cerebella.runtime.watchdog import Watchdog, WatchdogFailure

CONTROL_HZ = 100.0
GRACE_S = 0.1
LIMIT_S = 2 / CONTROL_HZ + GRACE_S
SLACK_S = 1.0
"""What a busy test machine may add."""


def make_embodiment() -> Embodiment:
    state = Dimension("joint_measured", "rad", "joint", "base", 0, -3.0, 3.0)
    action = ActionDimension("joint", "rad", "joint", "base", 0, -3.0, 3.0, 2.0, 10.0, 100.0, "last", state.name, False)
    return Embodiment("one-joint", "joint", (state,), (action,), (), CONTROL_HZ, CONTROL_HZ)


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def embodiment_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("robot") / "embodiment.json"
    make_embodiment().save(path)
    return str(path)


@pytest.fixture(scope="module")
def robot(embodiment_file: str) -> Iterator[RemoteRobotStub]:
    with robot_process(embodiment_file) as process:
        robot = RemoteRobotStub(make_embodiment(), process.port)
        yield robot
        robot.close()


@pytest.fixture
def executor(robot: RemoteRobotStub, embodiment_file: str, tmp_path: Path) -> Iterator[ServerProcess]:
    robot.reset(0)
    script = Path(__file__).with_name("beating_process.py")
    argv = [sys.executable, script, tmp_path, embodiment_file, robot.port, CONTROL_HZ, GRACE_S]
    with ServerProcess([str(word) for word in argv], r"beating, watchdog (\d+)") as process:
        yield process


def seconds_from_kill_to_stop(robot: RemoteRobotStub, executor: ServerProcess) -> float:
    killed_s = time.monotonic()
    os.kill(executor.pid, signal.SIGKILL)
    wait_until(lambda: robot.stopped_s() is not None)
    stopped_s = robot.stopped_s()
    assert stopped_s is not None
    return stopped_s - killed_s


def watchdog_has_ended(executor: ServerProcess) -> bool:
    """Its process id is what the executor said, where a server says its port."""
    try:
        state = Path(f"/proc/{executor.port}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def test_f16_the_robot_is_stopped_when_the_executor_is_killed(
    robot: RemoteRobotStub, executor: ServerProcess, tmp_path: Path
) -> None:
    stop = EmergencyStop(tmp_path)
    assert not stop.is_latched
    duration_s = seconds_from_kill_to_stop(robot, executor)
    assert 0.0 < duration_s < LIMIT_S + SLACK_S
    wait_until(lambda: stop.is_latched)
    assert [(cause.by, cause.reason) for cause in stop.causes()] == [
        ("watchdog", "the executor's process ended without a goodbye")
    ]
    wait_until(lambda: watchdog_has_ended(executor))
    assert all(record.received_s <= robot.stopped_s() for record in robot.records())  # pyright: ignore[reportOperatorIssue]


def test_f16_the_robot_is_stopped_when_the_executor_hangs(
    robot: RemoteRobotStub, executor: ServerProcess, tmp_path: Path
) -> None:
    """A stopped process is silent without dying; it meets a latched stop when it goes on."""
    stop = EmergencyStop(tmp_path)
    frozen_s = time.monotonic()
    with frozen(executor.pid):
        wait_until(lambda: robot.stopped_s() is not None)
        stopped_s = robot.stopped_s()
        assert stopped_s is not None
        assert LIMIT_S - 2 / CONTROL_HZ < stopped_s - frozen_s < LIMIT_S + SLACK_S
        wait_until(lambda: stop.is_latched)
    assert "no heartbeat of the executor for more than 0.120 s" in stop.causes()[0].reason


def test_goodbye_latches_nothing(robot: RemoteRobotStub, executor: ServerProcess, tmp_path: Path) -> None:
    assert executor.terminate() == 0
    assert "ended at" in executor.output
    wait_until(lambda: watchdog_has_ended(executor))
    assert not EmergencyStop(tmp_path).is_latched
    assert robot.stopped_s() is None


@pytest.mark.slow
def test_f16_distribution_of_the_time_from_kill_to_stop(
    robot: RemoteRobotStub, embodiment_file: str, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("beating_process.py")
    durations_ms = []
    for index in range(25):
        robot.reset(0)
        argv = [sys.executable, script, tmp_path / str(index), embodiment_file, robot.port, CONTROL_HZ, GRACE_S]
        with ServerProcess([str(word) for word in argv], r"beating, watchdog (\d+)") as executor:
            durations_ms.append(1e3 * seconds_from_kill_to_stop(robot, executor))
    quantiles = np.quantile(durations_ms, [0.0, 0.5, 0.9, 1.0])
    print(
        f"kill -9 to stop at the robot, ms: min, p50, p90, max = {np.round(quantiles, 2)} ({len(durations_ms)} kills)"
    )
    assert max(durations_ms) < 1e3 * (LIMIT_S + SLACK_S)


def make_watchdog(folder: Path, hooks: list[StopHook], grace_s: float = GRACE_S) -> Watchdog:
    watchdog = Watchdog(folder, CONTROL_HZ, hooks, grace_s)
    watchdog.start()
    return watchdog


def beat_for(watchdog: Watchdog, duration_s: float) -> None:
    end_s = time.monotonic() + duration_s
    while time.monotonic() < end_s:
        watchdog.check()
        watchdog.beat()
        time.sleep(1 / CONTROL_HZ)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_f17_the_executor_refuses_to_run_without_its_watchdog(tmp_path: Path, number: signal.Signals) -> None:
    watchdog, stop = make_watchdog(tmp_path, []), EmergencyStop(tmp_path)
    watchdog.check()
    gone_s = time.monotonic()
    os.kill(watchdog.pid, number)
    with pytest.raises(WatchdogFailure, match="does not answer" if number == signal.SIGSTOP else "ended with code"):
        beat_for(watchdog, 10.0)
    assert time.monotonic() - gone_s < LIMIT_S + SLACK_S
    assert stop.is_latched
    assert stop.causes()[0].by == "watchdog"
    if number == signal.SIGSTOP:
        os.kill(watchdog.pid, signal.SIGKILL)
    watchdog.stop()


def test_f17_nothing_runs_before_the_watchdog_does(tmp_path: Path) -> None:
    watchdog = Watchdog(tmp_path, CONTROL_HZ, [])
    with pytest.raises(WatchdogFailure, match="not running"):
        watchdog.check()
    watchdog.stop()


def test_f15_a_stalled_control_thread_is_noticed_and_the_watch_goes_on(tmp_path: Path) -> None:
    """It trips once per silence, is armed again by the next beat, and lives on for the reset."""
    stop = EmergencyStop(tmp_path)
    with Watchdog(tmp_path, CONTROL_HZ, [], GRACE_S) as watchdog:
        time.sleep(2 * LIMIT_S)
        assert not stop.is_latched  # it watches from the first beat on
        for num_trips in (1, 2):
            watchdog.beat()
            wait_until(lambda n=num_trips: len(stop.causes()) == n)
            time.sleep(2 * LIMIT_S)
            assert len(stop.causes()) == num_trips
            watchdog.check()
    assert len(stop.causes()) == 2


def test_steady_beats_never_trip_it(tmp_path: Path) -> None:
    stop = EmergencyStop(tmp_path)
    with Watchdog(tmp_path, CONTROL_HZ, [], grace_s=1.0) as watchdog:
        beat_for(watchdog, 1.5)
    assert not stop.is_latched


def test_an_exception_is_no_goodbye(tmp_path: Path) -> None:
    stop, mark = EmergencyStop(tmp_path), tmp_path / "stopped"
    hooks: list[StopHook] = [StopCommand(("touch", str(mark)))]

    def run_and_crash() -> None:
        with Watchdog(tmp_path, CONTROL_HZ, hooks, GRACE_S) as watchdog:
            watchdog.beat()
            raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        run_and_crash()
    assert stop.is_latched
    assert mark.exists()


def trip(folder: Path, hooks: list[StopHook]) -> EmergencyStop:
    stop = EmergencyStop(folder)
    with Watchdog(folder, CONTROL_HZ, hooks, GRACE_S) as watchdog:
        watchdog.beat()
        wait_until(lambda: stop.is_latched)
        watchdog.beat()
    return stop


def test_a_datagram_stops_the_robot(robot: RemoteRobotStub, tmp_path: Path) -> None:
    robot.reset(0)
    trip(tmp_path, [StopMessage("127.0.0.1", robot.port, "stop", protocol="udp")])
    wait_until(lambda: robot.stopped_s() is not None)


def test_a_call_stops_the_robot(tmp_path: Path) -> None:
    mark = tmp_path / "stopped"
    trip(tmp_path, [StopCall("os:mkdir", {"path": str(mark)})])
    wait_until(mark.exists)


def test_a_robot_that_cannot_be_reached_is_tried_again_and_written_down(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # taken, and nobody listens
        port = listener.getsockname()[1]
        stop = EmergencyStop(tmp_path)
        with Watchdog(tmp_path, CONTROL_HZ, [stop_message(port)], GRACE_S) as watchdog:
            watchdog.beat()
            wait_until(lambda: any("ConnectionRefusedError" in cause.reason for cause in stop.causes()))
            listener.settimeout(20.0)
            listener.listen()
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(100) == b'{"do": "stop"}\n'
                connection.sendall(b'{"ok": true}\n')


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (StopCommand(("no-such-program",)), r"got \['no-such-program'\]"),
        (StopCall("cerebella.types:no_such_function"), "no_such_function"),
        (StopCall("nonsense"), "not package.module:function"),
    ],
)
def test_a_hook_that_cannot_work_is_refused_at_the_start(tmp_path: Path, hook: StopHook, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Watchdog(tmp_path, CONTROL_HZ, [hook])


@pytest.mark.parametrize("hook", [StopMessage("h", 1, "p", "udp"), StopCommand(("a", "b")), StopCall("m:f", {"x": 1})])
def test_hooks_travel_as_json(hook: StopHook) -> None:
    assert from_dict(to_dict(hook)) == hook


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("got 0.0 Hz")):
        Watchdog(tmp_path, 0.0, [])
    with pytest.raises(ValueError, match="must be tcp or udp; got 'sms'"):
        StopMessage("h", 1, "p", "sms")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a datagram gets none"):
        StopMessage("h", 1, "p", "udp", "ok")
