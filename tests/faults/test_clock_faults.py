"""Time itself goes wrong: clocks that jump, a control thread that stalls, and rates that do not divide."""

import time
from pathlib import Path

import numpy as np
import pytest

from cerebella.runtime.clock import WallClock
from cerebella.runtime.emergency_stop import EmergencyStop, EmergencyStopLatched
from cerebella.runtime.trace import TickRecord
from cerebella.runtime.watchdog import Watchdog
from cerebella.serving.remote_transport import RemoteTransport

from .harness import (
    CONTROL_HZ,
    Course,
    WatchedRobot,
    after,
    line_to,
    make_embodiment,
    make_server,
    nothing,
    recovered,
    running,
    undisturbed,
)
from .judge import judge_commands, judge_rows
from .sway_server import let_time_of_day_jump

pytestmark = [pytest.mark.faults, pytest.mark.slow]

STALL_S = 0.2


class JumpingClock(WallClock):
    """A robot that stamps what it sees by the time of day."""

    def now_s(self) -> float:
        return time.time()


def test_f13_times_of_day_that_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours, the server's, and the stamps of the robot jump by -5 s, an hour, +-10 s, ten times a second.

    It proves that nothing decides by a time of day or by the distance of stamps of two machines: the commands come at
    their pace, no answer is refused or given up, and each command is what the policy thought for its tick. Moved is what
    Python's `time` module says; monotonic clocks are used for everything that matters, and nobody can set those.
    """
    monkeypatch.setattr(time, "time", time.time)
    let_time_of_day_jump(lambda name, value: monkeypatch.setattr(time, name, value))
    with make_server(tmp_path, clock_jumps=True) as server, line_to(server, is_patient=True) as (_, transport):
        robot = WatchedRobot(make_embodiment(), JumpingClock())
        config = {"reply_timeout": 200}
        course = Course(transport, [(running, nothing), (after(200), nothing)], robot=robot, config=config)
        course.run()
        assert transport.counts.num_losses + transport.counts.num_timeouts == 0
    stamps = np.diff([record.received_s for record in robot.records])
    assert stamps.min() < -3000.0 < 3000.0 < stamps.max(), "the clock did jump"
    executor = course.executor
    periods_s = np.diff([record.sent_s for record in executor.trace])
    assert np.median(periods_s) == pytest.approx(1 / CONTROL_HZ, rel=0.1)
    assert set(executor.counters.outcomes) <= {"used", "late"}
    states = [record.state for record in list(executor.trace)[course.done_at[0] :]]
    assert states.count("run") > 0.8 * len(states)


def test_f15_a_stalled_control_thread(transport: RemoteTransport) -> None:
    """No burst makes up for what was missed; the robot stood still, so the plan waits and skips no row."""
    course = Course(transport, [(running, lambda: time.sleep(STALL_S)), (recovered, nothing)])
    pacing = course.run()
    stalled_at = course.done_at[0]
    received_s = [record.received_s for record in course.robot.records]
    assert received_s[stalled_at] - received_s[stalled_at - 1] >= STALL_S
    assert received_s[stalled_at + 9] - received_s[stalled_at] >= 6 / CONTROL_HZ
    skipped = course.executor.counters.num_skipped_ticks
    assert skipped == pacing.num_skipped >= STALL_S * CONTROL_HZ - 1
    trace = list(course.executor.trace)
    before, behind = trace[stalled_at - 1], trace[stalled_at]
    assert behind.tick - before.tick >= STALL_S * CONTROL_HZ / 2 - 1
    if before.chunk_id == behind.chunk_id:
        assert behind.row - before.row <= 1
    judge_rows(course.executor)


def test_f15_a_stall_beyond_the_limit_is_an_emergency_stop(transport: RemoteTransport, tmp_path: Path) -> None:
    """The watchdog, in its own process, has latched it meanwhile: no command follows the stall."""
    stop = EmergencyStop(tmp_path)
    with Watchdog(tmp_path, CONTROL_HZ, [], grace_s=0.5) as watchdog:

        def stall() -> None:
            assert not stop.is_latched
            time.sleep(2 * watchdog.max_silence_s)

        course = Course(transport, [(running, stall)], guards=(stop.check, watchdog.check, watchdog.beat))
        with pytest.raises(EmergencyStopLatched, match="no heartbeat of the executor"):
            course.run()
    records = course.robot.records
    assert len(records) == course.done_at[0], "no command after the latch"
    judge_commands(records, make_embodiment())


@pytest.mark.parametrize("control_hz", [100.0, 250.0])
def test_f22_more_commands_than_rows(tmp_path: Path, control_hz: float) -> None:
    """30 rows per second: where a tick of the policy meets one of the robot, the command is the row."""
    embodiment = make_embodiment(30.0, control_hz)

    def run() -> Course:
        with line_to(server, is_patient=True) as (_, transport):
            course = Course(transport, [], robot=WatchedRobot(embodiment), config={"reply_timeout": 200})
            course.steps += [
                (lambda course: course.is_running(int(control_hz)), nothing),
                (after(int(control_hz)), nothing),
            ]
            course.run()
        judge_rows(course.executor)
        return course

    with make_server(tmp_path, embodiment) as server:
        course = undisturbed(run)
    trace = list(course.executor.trace)[course.done_at[0] :]
    played = [record for record in trace if record.state == "run"]
    on_rows = [record for record in played if is_row(course, record)]
    assert on_rows == [record for record in played if record.phase == 0.0]
    assert len(on_rows) > 0.25 * 30.0
    assert all(np.array_equal(record.values, record.raw) for record in on_rows)
    assert len({record.values.tobytes() for record in played}) > 0.9 * len(trace), "between them it moves on"


def is_row(course: Course, record: TickRecord) -> bool:
    """Whether a command was to be a row of its chunk, and not a point between two."""
    chunk = course.replies[record.chunk_id].chunk
    assert chunk is not None
    return bool(np.array_equal(chunk.actions[record.row], record.raw))
