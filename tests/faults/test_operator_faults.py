"""An operator at the worst moment: emergency stop, pause, another task and take-over while an answer is under way."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cerebella.runtime.emergency_stop import EmergencyStop, EmergencyStopLatched
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
def server(server_folder: Path) -> Iterator[ServerProcess]:
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

    config = {"max_discards": 0} if moment == "bridge" else {}
    with line_to(server) as (proxy, transport):
        if moment == "start ramp":
            robot.jump(np.array([1.0], dtype=np.float32))
        course = Course(transport, [], robot=robot, config=config, guards=(latch_in_time, stop.check))

        def disagree() -> None:
            """The next answer is late, and of another opinion than the running plan."""
            proxy.set_rules(Rule("delay", "to client", count=1, seconds=0.25))
            break_policy(server_folder, "shift")

        course.steps += [(running, disagree if moment == "bridge" else nothing), (lambda _: False, nothing)]
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


def orders(course: Course, kind: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """How an order is given, and how it ends."""
    executor = course.executor

    def take_over() -> None:
        executor.take_over()
        executor.human_command(np.array([HUMAN_RAD], dtype=np.float32))

    return {
        "pause": (executor.pause, executor.resume),
        "task": (lambda: executor.set_prompt("the other towel"), nothing),
        "take over": (take_over, executor.hand_back),
    }[kind]


@pytest.mark.parametrize("kind", ["pause", "task", "take over"])
def test_f19_an_order_while_an_answer_is_under_way(transport: RemoteTransport, proxy: FaultProxy, kind: str) -> None:
    """The answer comes, and is not played: no chunk thought before the order runs after it. Every command says whose."""
    course = Course(transport, [])
    order, end = orders(course, kind)
    proxy.set_rules(Rule("delay", "to client", seconds=ANSWER_S))
    course.steps += [(running, nothing), (is_asked, order), (after(40), end), (recovered, nothing)]
    course.run()
    executor, trace = course.executor, list(course.executor.trace)
    _, ordered_at, ended_at, _ = course.done_at
    tick = trace[ordered_at - 1].tick
    asked = [request for request in executor.requests if request.observation_tick <= tick]
    assert asked[-1].outcome == "discarded"
    assert executor.counters.num_ignored_replies >= 1, "its answer came all the same"
    assert not {request.id for request in asked} & {record.chunk_id for record in trace[ordered_at:]}
    following = executor.requests[asked[-1].id + 1]
    assert len(following.action_prefix) == 0
    labels = set(course.states(ordered_at, ended_at))
    if kind == "take over":
        assert labels == {"human"}
        assert float(trace[ended_at - 1].values[0]) == pytest.approx(HUMAN_RAD, abs=1e-6)
    if kind == "pause":
        assert course.states(ordered_at, ended_at)[-1] == "hold"
        assert labels <= {"stop", "hold"}
    if kind == "task":
        prompts = [record.prompt for record in trace]
        assert set(prompts[: ordered_at - 1]) == {"move"}
        assert set(prompts[ordered_at + 2 :]) == {"the other towel"}
    else:
        assert following.observation_tick >= trace[ended_at - 1].tick
