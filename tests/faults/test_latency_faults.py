"""Answers that come too late: once, once and far too late, in bursts, for ever, and at the very beginning."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cerebella.runtime.instruments.fault_rules import Rule
from cerebella.runtime.instruments.latency import LatencyLaw, generate
from cerebella.runtime.instruments.processes import ServerProcess
from cerebella.runtime.trace import RequestRecord

from .harness import (
    CONTROL_HZ,
    EXECUTE_HORIZON,
    HORIZON,
    OPEN,
    Course,
    after,
    break_policy,
    holding,
    line_to,
    make_server,
    nothing,
    recovered,
    running,
    told,
    undisturbed,
)
from .judge import judge_rows

pytestmark = [pytest.mark.faults, pytest.mark.slow]

BURSTS = LatencyLaw(
    seed=3,
    num_samples=1000,
    median_s=0.005,
    sigma=0.1,
    burst_share=0.5,
    mean_burst_length=4.0,
    burst_low_s=0.15,
    burst_high_s=0.6,
)
"""Half of the answers are later than promised, some later than the plan lasts."""


def with_one_late(server: ServerProcess, delay_s: float, meets: Callable[[Course], bool]) -> Course:
    """Run well, get one answer late, wait until `meets`, run well again."""
    spike = Rule("delay", "to client", count=1, seconds=delay_s)

    def run() -> Course:
        with line_to(server, is_patient=True) as (proxy, transport):
            course = Course(transport, [], config={"reply_timeout": 200})
            course.steps += [(running, lambda: proxy.set_rules(spike)), (meets, nothing), (recovered, nothing)]
            course.run()
        judge_rows(course.executor)
        return course

    return undisturbed(run)


def late_one(course: Course) -> RequestRecord:
    """Whose answer was the first after the rule was set."""
    tick = course.executor.trace[course.done_at[0] - 1].tick
    return next(request for request in course.executor.requests if request.arrival_tick > tick)


def test_f1_a_single_spike_inside_the_plan(lasting_server: ServerProcess) -> None:
    """The old plan runs on, the late one is taken up where it belongs, and the next promise is longer."""
    course = with_one_late(lasting_server, 0.2, after(25))
    executor, late = course.executor, late_one(course)
    assert late.outcome == "late"
    assert max(5, len(late.action_prefix)) < late.consumed <= HORIZON - EXECUTE_HORIZON
    first = next(record for record in executor.trace if record.chunk_id == late.id)
    assert first.row == int(late.consumed)
    following = executor.requests[late.id + 1]
    assert following.promised_delay > late.promised_delay
    assert course.states(course.done_at[0], course.done_at[1]) == ["run"]


def test_f2_a_spike_beyond_the_plan(lasting_server: ServerProcess) -> None:
    """The robot slows down while it still can, stands, and goes on from where it stands."""
    course = with_one_late(lasting_server, 1.5, holding)
    executor, trace = course.executor, list(course.executor.trace)
    assert late_one(course).outcome == "late"
    assert executor.counters.num_stops == 1
    assert executor.counters.num_slowed > 0, "it began to stop before the rows ended"
    states = course.states(course.done_at[0])
    assert [state for state in states if state not in ("stop", "start")] == ["run", "hold", "run"]
    held = [record.values for record in trace[course.done_at[0] :] if record.state == "hold"]
    assert len(held) > 0.3 * CONTROL_HZ
    assert all(np.array_equal(values, held[0]) for values in held)


def test_f3_bursts_always_leave_some_progress(lasting_server: ServerProcess) -> None:
    """Eight seconds: of any four answers at least one is played, and nothing ends."""
    with line_to(lasting_server, is_patient=True) as (proxy, transport):
        bursts = Rule("delay", "to client", seconds=generate(BURSTS))
        steps = [
            (running, lambda: proxy.set_rules(bursts)),
            (after(int(8 * CONTROL_HZ)), lambda: proxy.set_rules()),
            (recovered, nothing),
        ]
        course = Course(transport, steps, config={"reply_timeout": 50})
        course.run()
    outcomes = [request.outcome for request in course.executor.requests if request.outcome != "in flight"]
    assert all({"used", "late"} & set(outcomes[i : i + 4]) for i in range(len(outcomes) - 3))
    assert {"late", "discarded"} & set(outcomes), "the bursts were felt"
    judge_rows(course.executor)


def test_f4_slower_than_any_training_for_good(tmp_path: Path) -> None:
    """It waits for each answer instead, says which inequality is broken and what to turn, and comes back by itself."""
    with make_server(tmp_path, max_trained_prefix=2) as server, line_to(server) as (_, transport):
        steps = [
            (running, lambda: break_policy(tmp_path, "slow")),
            (told("degraded"), nothing),
            (after(50), lambda: break_policy(tmp_path, "")),
            (told("recovered"), nothing),
            (recovered, nothing),
        ]
        config = {"degrade_after": 4, "reply_timeout": 50}
        course = Course(transport, steps, config=config)
        course.run()
    slow_at, degraded_at, *_ = course.done_at
    assert degraded_at - slow_at <= 10 * CONTROL_HZ
    [event] = [event for event in course.events if event.name == "degraded"]
    assert "longest trained prefix 2" in str(event.details["inequality"])
    assert "make the inference faster" in str(event.details["knob"])
    waiting = course.states(degraded_at, course.done_at[2])
    assert "hold" in waiting
    assert course.executor.mode == "prefix"


def check_begin(course: Course, first_tick: int) -> None:
    """Nothing is skipped at the start, and the promises know nothing of a slow warm-up."""
    requests = [request for request in course.executor.requests if request.observation_tick >= first_tick]
    used = [request for request in requests if request.outcome in ("used", "late")]
    first = next(record for record in course.executor.trace if record.chunk_id == used[0].id)
    assert (first.row, used[0].consumed, len(used[0].action_prefix)) == (0, 0, 0)
    assert min(request.promised_delay for request in requests[2:6]) < EXECUTE_HORIZON, "all of it, were it counted"


SLOW_FIRST_S = 1.2


def test_f20_a_slow_first_inference_is_over_before_anything_moves(tmp_path: Path) -> None:
    """The server has opened its port and still warms up: a client waits for it, and so does its robot."""
    with make_server(tmp_path, ready=OPEN, infer_s=0.05, first_s=SLOW_FIRST_S) as server:
        started_s = time.monotonic()
        with line_to(server) as (_, transport):
            assert time.monotonic() - started_s > 0.25 * SLOW_FIRST_S
            course = Course(transport, [(running, nothing), (after(50), nothing)])
            course.run()
    check_begin(course, 0)


def test_f20_so_is_one_after_a_restart(tmp_path: Path) -> None:
    with make_server(tmp_path, infer_s=0.05, first_s=SLOW_FIRST_S) as server, line_to(server) as (proxy, transport):

        def restart() -> None:
            server.start()
            proxy.upstream = ("127.0.0.1", server.port)

        course = Course(transport, [(running, server.kill)])
        course.steps += [(holding, course.in_background(restart)), (recovered, nothing), (after(40), nothing)]
        course.run()
    held_at = course.done_at[1]
    first = next(record for record in list(course.executor.trace)[held_at:] if record.state == "run")
    check_begin(course, course.executor.requests[first.chunk_id].observation_tick)
