"""A robot on the wall clock, an executor, a fault proxy, and a policy server in a process of its own, over loopback.

The judge reads the robot's log alone: exactly one command per tick, in order, inside every limit of motion, whatever the
network did. What else must hold is up to each test.
"""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.interfaces import Reply, Status
from cerebella.runtime.clock import WallClock
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.drive import Pacing, drive
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.instruments.fault_proxy import FaultProxy
from cerebella.runtime.instruments.processes import ServerProcess
from cerebella.runtime.instruments.robot_stub import RobotStub
from cerebella.runtime.instruments.sway import SwayPolicy
from cerebella.runtime.trace import Event, RequestRecord, TickRecord, commands
from cerebella.serving.remote_transport import RemoteTransport
from cerebella.types import Observation

POLICY_HZ, CONTROL_HZ = 25.0, 50.0
HORIZON, EXECUTE_HORIZON = 20, 8
REPLY_TIMEOUT_TICKS = 12
"""0.48 s. A plan lasts 0.8 s, so that one lost message never reaches the robot."""
MAX_RUN_S = 60.0
READY = r'ready .*"openpi": "ws://127\.0\.0\.1:(\d+)"'


def make_embodiment() -> Embodiment:
    state = Dimension("joint_measured", "rad", "joint", "base", 0, -3.0, 3.0)
    action = ActionDimension("joint", "rad", "joint", "base", 0, -3.0, 3.0, 1.0, 10.0, 200.0, "last", state.name, False)
    return Embodiment("one-joint", "joint", (state,), (action,), (), POLICY_HZ, CONTROL_HZ)


def make_server(folder: Path, policy_id: str = "sway", infer_s: float = 0.02) -> ServerProcess:
    """Not yet started."""
    make_embodiment().save(folder / "embodiment.json")
    script = Path(__file__).with_name("sway_server.py")
    words = [script, "hold", "--port", 0, "--embodiment", folder / "embodiment.json", "--horizon", HORIZON]
    words += ["--policy-id", policy_id, "--infer-s", infer_s, "--drain-s", 1.0]
    return ServerProcess([sys.executable, *map(str, words)], READY)


def connect(proxy: FaultProxy) -> RemoteTransport:
    return RemoteTransport(
        f"ws://127.0.0.1:{proxy.port}",
        timeout_s=1.0,
        connect_timeout_s=5.0,
        ping_interval_s=0.2,
        ping_timeout_s=0.8,
        first_pause_s=0.05,
        max_pause_s=0.4,
    )


class WatchedRobot(RobotStub):
    """Ends its episode when `is_over` says so, looked at once per command."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        super().__init__(make_embodiment(), WallClock(), time_constant_s=0.02)
        self._is_over = is_over

    def status(self) -> Status:
        return Status(True, True, "end") if self._is_over() else super().status()


@dataclass
class Course:
    """One run: `steps` are (condition, what to do then), one after the other; it ends `num_last` commands after the last.

    A condition and an action are called in the control loop, so both must be quick (`in_background` for what is not).
    """

    transport: RemoteTransport
    steps: list[tuple[Callable[["Course"], bool], Callable[[], object]]]
    num_last: int = 10
    is_swaying: bool = True
    """The policy is a `SwayPolicy`, so that the judge knows every chunk."""
    num_done: int = 0
    done_at: list[int] = field(default_factory=list)
    """How many commands the robot had got at each step."""
    background: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.robot = WatchedRobot(self._is_over)
        config = ExecutorConfig("prefix", EXECUTE_HORIZON, reply_timeout=REPLY_TIMEOUT_TICKS)
        self.replies: dict[int, Reply] = {}
        """By id of the request; the first one counts, as later ones are ignored."""
        self.executor = Executor(self.transport.metadata, config, self.transport, DelayEstimator(2), sinks=[self])
        self._end_s = time.monotonic() + MAX_RUN_S

    def run(self) -> Pacing:
        """Drive, then judge."""
        pacing = drive(self.robot, self.executor, WallClock(), 100_000, self._after, counts_missed_ticks=True)
        for thread in self.background:
            thread.join()
        assert self.num_done == len(self.steps), f"step {self.num_done} never came; states: {self.states()}"
        judge(self)
        return pacing

    def reply(self, reply: Reply, tick: int, phase: float) -> None:
        """Trace sink: keep what arrived."""
        self.replies.setdefault(reply.request_id, reply)

    def observation(self, observation: Observation, now_s: float) -> None: ...

    def tick(self, record: TickRecord) -> None: ...

    def request(self, record: RequestRecord) -> None: ...

    def event(self, event: Event) -> None: ...

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


def after(num_commands: int) -> Callable[[Course], bool]:
    """So many commands after the step before (or the start)."""
    return lambda course: len(course.robot.records) - (course.done_at[-1] if course.done_at else 0) >= num_commands


def running(course: Course) -> bool:
    return course.is_running()


def holding(course: Course) -> bool:
    return bool(course.executor.trace) and course.executor.trace[-1].state == "hold"


def nothing() -> None:
    """What to do in a step that only waits."""


def judge(course: Course) -> None:
    """E-1, E-8, E-9, and that every chunk is as the policy had thought it, from the log alone."""
    robot, executor = course.robot, course.executor
    trace = list(executor.trace)
    assert [record.sequence for record in robot.records] == list(range(len(trace)))
    assert [record.tick for record in robot.records] == list(range(len(trace)))
    assert [record.control_tick for record in trace] == list(range(len(trace)))
    assert all(record.violation == "" for record in robot.records)
    sent = np.stack([record.values for record in robot.records])
    assert np.array_equal(sent, commands(trace))
    _judge_limits(sent.astype(np.float64))
    if course.is_swaying:
        _judge_chunks(course)
    counters = executor.counters
    assert counters.num_ticks == len(trace)
    open_request = executor.requests[-1].outcome == "in flight"
    assert sum(counters.outcomes.values()) + open_request == counters.num_requests == len(executor.requests)
    assert [request.id for request in executor.requests] == list(range(len(executor.requests)))


def _judge_limits(sent: np.ndarray) -> None:
    """Differences of the commands, from rest at the first one."""
    action = make_embodiment().actions[0]
    limits = (action.max_velocity, action.max_acceleration, action.max_jerk)
    difference = np.concatenate([np.repeat(sent[:1], 3, axis=0), sent])
    for order, limit in enumerate(limits, start=1):
        difference = np.diff(difference, axis=0)
        rounding = 2**order * np.finfo(np.float32).eps
        assert np.abs(difference).max() <= limit / CONTROL_HZ**order + rounding, f"difference {order}"


def _judge_chunks(course: Course) -> None:
    """Every chunk that was played is, beyond its prefix, bit for bit what the policy thinks: nothing mangled passed."""
    policy = SwayPolicy(make_embodiment(), HORIZON)
    played = {record.chunk_id for record in course.executor.trace if record.state in ("run", "start")} - {-1}
    assert played
    for number in played:
        chunk = course.replies[number].chunk
        assert chunk is not None
        thought = policy.path(chunk.observation_tick + np.arange(HORIZON, dtype=np.float32))
        assert np.array_equal(chunk.actions[chunk.prefix_length :], thought[chunk.prefix_length :])
