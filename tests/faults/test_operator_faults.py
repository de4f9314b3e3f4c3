"""An operator at the worst moment: emergency stop, pause, another task and take-over while an answer is under way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cerebella.runtime.emergency_stop import COOL_DOWN_S, EmergencyStop, EmergencyStopLatched
from cerebella.runtime.instruments.fault_proxy import FaultProxy
from cerebella.runtime.instruments.fault_rules import Rule
from cerebella.runtime.instruments.processes import ServerProcess
from cerebella.serving.remote_transport import RemoteTransport

from .harness import (
    Course,
    WatchedRobot,
    after,
    break_policy,
    line_to,
    make_embodiment,
    make_server,
    nothing,
    recovered,
    running,
)
from .judge import judge_commands

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ANSWER_S = 0.12
"""So slow that an answer is always under way for some ticks."""
HUMAN_RAD = 0.2


def is_asked(course: Course) -> bool:
    return course.is_running(5) and course.executor.requests[-1].outcome == "in flight"


def has_handed_over(course: Course) -> bool:
    newest = list(course.executor.trace)[-2:]
    return len(newest) == 2 and newest[0].state == "run" and -1 < newest[0].chunk_id < newest[1].chunk_id


def bridges(course: Course) -> bool:
    newest = course.executor.trace[-1] if course.executor.trace else None
    return newest is not None and newest.state == "run" and course.executor.requests[newest.chunk_id].is_bridged


def approaches(course: Course) -> bool:
    return bool(course.executor.trace) and course.executor.trace[-1].state == "start"


def slows_down(course: Course) -> bool:
    if course.is_running():
        course.executor.pause()
    return course.executor.is_paused and course.executor.trace[-1].state == "stop"


MOMENTS: dict[str, Callable[[Course], bool]] = {
    "request in flight": is_asked,
    "hand-over": has_handed_over,
    "bridge": bridges,
    "start ramp": approaches,
    "shutting down": slows_down,
}


@pytest.fixture(scope="module")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator")


@pytest.fixture(scope="module")
def server(server_folder: Path):
    with make_server(server_folder) as server:
        yield server


@pytest.mark.parametrize("moment", MOMENTS)
def test_f18_an_emergency_stop_at_any_moment(
    server: ServerProcess, server_folder: Path, tmp_path: Path, moment: str
) -> None:
    """No command leaves after the latch; a new connection and a new executor change nothing; a person does."""
    break_policy(server_folder, "")
    stop = EmergencyStop(tmp_path)
    robot = WatchedRobot(make_embodiment())
    num_commands = -1

    def latch_in_time() -> None:
        nonlocal num_commands
        if num_commands < 0 and MOMENTS[moment](course):
            num_commands = len(robot.records)
            stop.latch("operator", "red button")

    with line_to(server) as (proxy, transport):
        course = Course(transport, [], robot=robot, guards=(latch_in_time, stop.check))
        if moment == "start ramp":
            robot.jump(np.array([1.0], dtype=np.float32))
        if moment == "bridge":  # late, and of another opinion than the running plan
            course = Course(transport, [], robot=robot, guards=course.guards, config={"max_discards": 0})
            proxy.set_rules(Rule("delay", "to client", first=3, seconds=0.25))
            break_policy(server_folder, "shift")
        course.num_last = 10_000
        course.steps.append((lambda _: False, nothing))
        with pytest.raises(EmergencyStopLatched, match="operator: red button"):
            course.run()
        assert len(robot.records) == num_commands > 0
        judge_commands(robot.records, make_embodiment())
    break_policy(server_folder, "")
    with line_to(server) as (_, transport):
        reopened = EmergencyStop(tmp_path)
        again = Course(transport, [(after(5), nothing)], guards=(reopened.check,))
        with pytest.raises(EmergencyStopLatched):
            again.run()
        assert again.robot.records == []
