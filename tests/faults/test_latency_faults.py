"""Answers that come too late: once, once and far too late, in bursts, for ever, and at the very beginning."""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cerebella.runtime.instruments.fault_proxy import FaultProxy
from cerebella.runtime.instruments.fault_rules import Rule
from cerebella.runtime.instruments.latency import LatencyLaw, generate
from cerebella.runtime.instruments.processes import ServerProcess
from cerebella.serving.remote_transport import RemoteTransport

from .harness import (
    CONTROL_HZ,
    EXECUTE_HORIZON,
    HORIZON,
    OPEN,
    POLICY_HZ,
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


def slowest(course: Course) -> int:
    """Id of the request that waited longest."""
    return max(course.executor.requests, key=lambda request: request.num_ticks_waited).id


def test_f1_a_single_spike_inside_the_plan(transport: RemoteTransport, proxy: FaultProxy) -> None:
    """The old plan runs on, the late one is taken up where it belongs, and the next promise is longer."""
    spike = Rule("delay", "to client", count=1, seconds=0.2)
    course = Course(transport, [(running, lambda: proxy.set_rules(spike)), (recovered, nothing)])
    course.run()
    executor, number = course.executor, slowest(course)
    late = executor.requests[number]
    assert late.outcome == "late"
    assert len(late.action_prefix) < late.consumed <= HORIZON - EXECUTE_HORIZON
    assert executor.counters.num_late <= 2, "the one, and one that a busy machine may have made late"
    first = next(record for record in executor.trace if record.chunk_id == number)
    assert first.row == int(late.consumed)
    assert executor.requests[number + 1].promised_delay > executor.requests[number - 1].promised_delay
    assert course.states(course.done_at[0]) == ["run"]
    judge_rows(executor)


def test_f2_a_spike_beyond_the_plan(lasting_server: ServerProcess) -> None:
    """The robot slows down while it still can, stands, and goes on from where it stands."""
    with line_to(lasting_server, timeout_s=5.0) as (proxy, transport):
        spike = Rule("delay", "to client", count=1, seconds=1.5)
        course = Course(transport, [], config={"reply_timeout": 100})
        course.steps += [(running, lambda: proxy.set_rules(spike)), (holding, nothing), (recovered, nothing)]
        course.run()
    executor = course.executor
    assert executor.counters.num_stops == 1
    assert executor.counters.num_slowed > 0, "it began to stop before the rows ended"
    states = course.states(course.done_at[0])
    assert [state for state in states if state not in ("stop", "start")] == ["run", "hold", "run"]
    trace = list(executor.trace)
    held = [i for i, record in enumerate(trace) if record.state == "hold" and i >= course.done_at[0]]
    assert len(held) > 0.3 * CONTROL_HZ
    assert all(np.array_equal(trace[i].values, trace[held[0]].values) for i in held)
    assert executor.counters.outcomes["timed out"] == 0
    judge_rows(executor)


def test_f3_bursts_always_leave_some_progress(lasting_server: ServerProcess) -> None:
    """Eight seconds: of any four answers at least one is played, and nothing ends."""
    with line_to(lasting_server, timeout_s=5.0) as (proxy, transport):
        bursts = Rule("delay", "to client", seconds=generate(BURSTS))
        steps = [
            (running, lambda: proxy.set_rules(bursts)),
            (after(int(8 * CONTROL_HZ)), lambda: proxy.set_rules()),
            (recovered, nothing),
        ]
        course = Course(transport, steps, config={"reply_timeout": 25})
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
    assert max(request.promised_delay for request in requests) < 0.5 * SLOW_FIRST_S * POLICY_HZ
    waited = [b.observation_tick - a.observation_tick for a, b in pairwise(used)]
    assert max(waited, default=0) < SLOW_FIRST_S * POLICY_HZ


SLOW_FIRST_S = 1.2


def test_f20_a_slow_first_inference_is_over_before_anything_moves(tmp_path: Path) -> None:
    """The server has opened its port and still warms up: a client waits for it, and so does its robot."""
    with make_server(tmp_path, ready=OPEN, infer_s=0.05, first_s=SLOW_FIRST_S) as server:
        started_s = time.monotonic()
        with line_to(server) as (_, transport):
            assert time.monotonic() - started_s > 0.25 * SLOW_FIRST_S
            course = Course(transport, [(running, nothing), (after(25), nothing)])
            course.run()
    check_begin(course, 0)


def test_f20_so_is_one_after_a_restart(tmp_path: Path) -> None:
    with make_server(tmp_path, infer_s=0.05, first_s=SLOW_FIRST_S) as server, line_to(server) as (proxy, transport):

        def restart() -> None:
            server.start()
            proxy.upstream = ("127.0.0.1", server.port)

        course = Course(transport, [(running, server.kill), (holding, nothing), (recovered, nothing)])
        course.steps[1] = (holding, course.in_background(restart))
        course.run()
    held_at = course.done_at[1]
    first = next(record for record in list(course.executor.trace)[held_at:] if record.state == "run")
    check_begin(course, course.executor.requests[first.chunk_id].observation_tick)
