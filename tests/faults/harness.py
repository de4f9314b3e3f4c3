"""A robot on the wall clock, an executor, a fault proxy, and a policy server in a process of its own, over loopback.

`judge` reads the robot's log alone: exactly one command per tick, in order, inside every limit of motion, whatever the
network did. What else must hold is up to each test.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.interfaces import Reply, Status
from cerebella.runtime.camera_check import CameraCheck
from cerebella.runtime.clock import Clock, WallClock
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.drive import Pacing, drive
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.instruments.fault_proxy import FaultProxy
from cerebella.runtime.instruments.processes import ServerProcess
from cerebella.runtime.instruments.robot_stub import RobotStub
from cerebella.runtime.trace import Event, RequestRecord, TickRecord
from cerebella.serving.remote_transport import RemoteTransport
from cerebella.types import Observation

from .judge import judge, judge_chunks

POLICY_HZ, CONTROL_HZ = 25.0, 50.0
HORIZON, EXECUTE_HORIZON = 20, 8
REPLY_TIMEOUT_TICKS = 12
"""0.48 s. A plan lasts 0.8 s, so that one lost message never reaches the robot."""
MAX_RUN_S = 100.0
NUM_TRIES = 4
READY = r'ready .*"openpi": "ws://127\.0\.0\.1:(\d+)"'
OPEN = r"openpi at ws://127\.0\.0\.1:(\d+), warming up"


def make_embodiment(
    policy_hz: float = POLICY_HZ,
    control_hz: float = CONTROL_HZ,
    middle: float = 0.0,
    views: tuple[str, ...] = (),
) -> Embodiment:
    low, high = middle - 3.0, middle + 3.0
    state = Dimension("joint_measured", "rad", "joint", "base", 0, low, high)
    action = ActionDimension("joint", "rad", "joint", "base", 0, low, high, 1.0, 10.0, 200.0, "last", state.name, False)
    return Embodiment("one-joint", "joint", (state,), (action,), views, policy_hz, control_hz)


def make_server(
    folder: Path, embodiment: Embodiment | None = None, ready: str = READY, **options: object
) -> ServerProcess:
    """Not yet started. `options` are those of `sway_server.py`; `break_policy` breaks its policy."""
    (embodiment or make_embodiment()).save(folder / "embodiment.json")
    break_policy(folder, "")
    words: list[object] = [Path(__file__).with_name("sway_server.py"), "hold", "--port", 0, "--horizon", HORIZON]
    words += ["--embodiment", folder / "embodiment.json", "--trouble", folder / "trouble", "--drain-s", 1.0]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    return ServerProcess([sys.executable, *map(str, words)], ready)


def break_policy(folder: Path, trouble: str) -> None:
    """Of the server that `make_server` made in this folder; see `sway_server.TROUBLES`. Empty: it is sound again."""
    (folder / "trouble").write_text(trouble)


def connect(proxy: FaultProxy, timeout_s: float = 1.0, ping_timeout_s: float = 2.0) -> RemoteTransport:
    return RemoteTransport(
        f"ws://127.0.0.1:{proxy.port}",
        timeout_s=timeout_s,
        connect_timeout_s=5.0,
        ping_interval_s=0.2,
        ping_timeout_s=ping_timeout_s,
        first_pause_s=0.05,
        max_pause_s=0.4,
    )


@contextmanager
def line_to(server: ServerProcess, is_patient: bool = False) -> Iterator[tuple[FaultProxy, RemoteTransport]]:
    """A proxy before a running server, and a transport through it; a patient one never takes slowness for a loss."""
    with FaultProxy(("127.0.0.1", server.port), "websocket", seed=7) as proxy:
        transport = connect(proxy, 10.0, 10.0) if is_patient else connect(proxy)
        try:
            yield proxy, transport
        finally:
            transport.close()


class WatchedRobot(RobotStub):
    """Ends its episode when `is_over` says so, looked at once per command."""

    def __init__(self, embodiment: Embodiment, clock: Clock | None = None) -> None:
        super().__init__(embodiment, clock or WallClock(), time_constant_s=0.02)
        self.is_over: Callable[[], bool] = lambda: False

    def status(self) -> Status:
        return Status(True, True, "end") if self.is_over() else super().status()


@dataclass
class Course:
    """One run: `steps` are (condition, what to do then), one after the other; it ends `num_last` commands after the last.

    A condition and an action are called in the control loop, so both must be quick (`in_background` for what is not).
    """

    transport: RemoteTransport
    steps: list[tuple[Callable[["Course"], bool], Callable[[], object]]]
    num_last: int = 10
    is_swaying: bool = True
    """The policy is a sound `SwayPolicy`, so that the judge knows every chunk."""
    robot: WatchedRobot = field(default_factory=lambda: WatchedRobot(make_embodiment()))
    config: dict[str, Any] = field(default_factory=dict)
    """Other than the usual values of an `ExecutorConfig`."""
    camera_check: CameraCheck | None = None
    guards: Sequence[Callable[[], None]] = ()
    num_done: int = 0
    done_at: list[int] = field(default_factory=list)
    """How many commands the robot had got at each step."""
    observations: list[Observation] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    background: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.robot.is_over = self._is_over
        values = {"execute_horizon": EXECUTE_HORIZON, "reply_timeout": REPLY_TIMEOUT_TICKS, **self.config}
        self.replies: dict[int, Reply] = {}
        """By id of the request; the first one counts, as later ones are ignored."""
        self.executor = Executor(
            self.transport.metadata,
            ExecutorConfig("prefix", **values),
            self.transport,
            DelayEstimator(2, window=10),
            camera_check=self.camera_check,
            sinks=[self],
        )
        self._end_s = time.monotonic() + MAX_RUN_S

    def run(self) -> Pacing:
        """Drive, then judge."""
        pacing = drive(
            self.robot,
            self.executor,
            WallClock(),
            100_000,
            self._after,
            guards=self.guards,
            counts_missed_ticks=True,
        )
        for thread in self.background:
            thread.join()
        assert self.num_done == len(self.steps), f"step {self.num_done} never came; states: {self.states()}"
        judge(self.robot.records, self.executor)
        if self.is_swaying:
            judge_chunks(self.executor, self.replies)
        return pacing

    def reply(self, reply: Reply, tick: int, phase: float) -> None:
        """Trace sink: keep what arrived."""
        self.replies.setdefault(reply.request_id, reply)

    def event(self, event: Event) -> None:
        """Trace sink: keep what happened."""
        self.events.append(event)

    def observation(self, observation: Observation, now_s: float) -> None:
        """Trace sink: keep what the executor saw."""
        self.observations.append(observation)

    def tick(self, record: TickRecord) -> None: ...

    def request(self, record: RequestRecord) -> None: ...

    def in_background(self, act: Callable[[], object]) -> Callable[[], None]:
        def start() -> None:
            self.background.append(threading.Thread(target=act))
            self.background[-1].start()

        return start

    def states(self, first: int = 0, last: int | None = None) -> list[str]:
        """Of the commands first ... last - 1, without repetitions in a row."""
        states = [record.state for record in list(self.executor.trace)[first:last]]
        return [state for i, state in enumerate(states) if i == 0 or states[i - 1] != state]

    def since(self, step: int) -> int:
        """Commands since a step was done."""
        return len(self.robot.records) - self.done_at[step]

    def is_running(self, num_commands: int = 25) -> bool:
        """The last commands were all rows of chunks."""
        newest = list(self.executor.trace)[-num_commands:]
        return len(newest) == num_commands and all(record.state == "run" for record in newest)

    def _after(self, *_: object) -> None:
        if self.num_done < len(self.steps) and self.steps[self.num_done][0](self):
            self.steps[self.num_done][1]()
            self.done_at.append(len(self.robot.records))
            self.num_done += 1

    def _is_over(self) -> bool:
        is_late = time.monotonic() > self._end_s
        return is_late or (self.num_done == len(self.steps) and self.since(-1) >= self.num_last)


def undisturbed(run: Callable[[], Course]) -> Course:
    """The first run in which the machine itself did not stall, as that looks like a fault that nobody has ordered."""
    for _ in range(NUM_TRIES):
        course = run()
        if not course.executor.counters.num_skipped_ticks:
            return course
    pytest.skip(f"this machine stalled the control loop in each of {NUM_TRIES} runs")


def after(num_commands: int) -> Callable[[Course], bool]:
    """So many commands after the step before (or the start)."""
    return lambda course: len(course.robot.records) - (course.done_at[-1] if course.done_at else 0) >= num_commands


def running(course: Course) -> bool:
    return course.is_running()


def recovered(course: Course) -> bool:
    """Running, and a second has passed since the step before."""
    return course.since(-1) >= CONTROL_HZ and course.is_running()


def holding(course: Course) -> bool:
    return bool(course.executor.trace) and course.executor.trace[-1].state == "hold"


def told(name: str) -> Callable[[Course], bool]:
    """The executor has reported this event."""
    return lambda course: any(event.name == name for event in course.events)


def nothing() -> None:
    """What to do in a step that only waits."""
