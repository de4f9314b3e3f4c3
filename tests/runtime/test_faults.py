"""Faults F-1 to F-24 on the virtual clock: what a robot does when something is late, lost, wrong or gone.

F-8, F-10 to F-12 and F-23 again over a real socket, F-16 to F-18 with real processes: tests/faults and the tests of the
watchdog, the emergency stop and the server. The table of names is in docs/runtime.md.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from cerebella.interfaces import Reply, Request
from cerebella.runtime.trace import commands
from cerebella.types import ActionChunk, Observation

from .arm import NUM_JOINTS, check_limits
from .fault_loop import at, other_chunk, outcomes, start_loop, states


def test_f01_a_single_spike_inside_the_queue() -> None:
    """The old plan runs on, no row before the consumed one is played, and the next promise is longer."""
    loop, _, _ = start_loop(at(3, [9]))
    loop.run(150)
    executor, late = loop.executor, loop.executor.requests[3]
    assert executor.counters.idle_share == pytest.approx(executor.counters.num_holds / 150)
    assert all(state == "run" for state in states(executor)[3:])
    assert late.num_ticks_waited == 9
    assert outcomes(executor).count("late") + outcomes(executor).count("discarded") == 1
    if late.outcome == "late":
        first = next(record for record in executor.trace if record.chunk_id == late.id)
        assert first.row == late.consumed == 9
    assert executor.requests[5].promised_delay > executor.requests[2].promised_delay
    check_limits(executor)


def test_f01_a_late_reply_that_disagrees_is_thrown_away_once() -> None:
    loop, _, _ = start_loop(at(3, [9]), roughness=0.3)
    loop.run(150)
    ends = outcomes(loop.executor)
    assert ends[3] == "discarded"
    assert loop.executor.requests[3].reason == "late"
    assert "used" in ends[4:]
    assert all(record.chunk_id != 3 for record in loop.executor.trace)
    check_limits(loop.executor)


def test_f02_a_spike_beyond_the_queue_ends_in_a_stop_within_the_limits() -> None:
    """The stop begins before the rows end, the robot stands, and the next plan starts from there without a jump."""
    loop, _, sink = start_loop(at(3, [40]), reply_timeout=100)
    loop.run(300)
    executor = loop.executor
    assert executor.counters.num_stops == 1
    assert executor.counters.num_slowed > 0
    assert "stop" in [event.name for event in sink.events]
    held = [i for i, state in enumerate(states(executor)) if state == "hold" and i > 5]
    assert held
    assert np.array_equal(commands(executor.trace)[held[0]], commands(executor.trace)[held[-1]])
    assert states(executor)[-1] == "run"
    check_limits(executor)


def test_f03_bursts_never_end_the_run_and_there_is_always_progress() -> None:
    """30 s of clustered spikes: at least one chunk is accepted in any four requests."""
    rng = np.random.default_rng(0)
    spikes = np.where(rng.random(2000) < 0.5, rng.integers(7, 30, 2000), 2)
    loop, _, _ = start_loop(lambda k: [int(spikes[k])], roughness=0.3, reply_timeout=20)
    loop.run(900)
    ends = [end for end in outcomes(loop.executor) if end != "in flight"]
    assert all({"used", "late"} & set(ends[i : i + 4]) for i in range(len(ends) - 3))
    check_limits(loop.executor)


def test_f04_a_delay_beyond_the_training_switches_to_waiting_and_says_why() -> None:
    loop, _, sink = start_loop(lambda k: [5 if k < 40 else 1], max_trained_prefix=3, degrade_after=4)
    loop.run(200)
    [event] = [event for event in sink.events if event.name == "degraded"]
    assert event.tick < 80
    assert event.details["inequality"] == "delay r = 5 ticks > longest trained prefix 3"
    assert "faster" in str(event.details["knob"])
    assert loop.executor.mode == "sync"
    assert loop.executor.counters.num_slowed + loop.executor.counters.num_holds > 40
    loop.run(600)
    assert "recovered" in [event.name for event in sink.events]
    assert loop.executor.mode == "prefix"
    check_limits(loop.executor)


@pytest.mark.parametrize("arrival", [[], [60]], ids=["lost", "very late"])
def test_f05_a_lost_reply_is_asked_again_with_the_newest_observation(arrival: list[int]) -> None:
    loop, transport, _ = start_loop(at(2, arrival), reply_timeout=12)
    loop.run(150)
    executor = loop.executor
    lost, again = executor.requests[2], executor.requests[3]
    assert (lost.outcome, lost.reason) == ("timed out", "no reply within 12 ticks")
    assert again.observation_tick == lost.observation_tick + 12
    assert again.id == lost.id + 1
    assert again.outcome == "used"
    assert executor.counters.num_ignored_replies == len(arrival)
    assert all(record.chunk_id != lost.id for record in executor.trace)
    assert [request.id for request in transport.submitted] == list(range(len(transport.submitted)))


def test_f06_a_lost_request_cannot_block_the_next_ones() -> None:
    """Everything is lost for three seconds, then nothing: the first question after it is answered and used."""
    loop, _, _ = start_loop(lambda k: [] if 2 <= k < 6 else [2], reply_timeout=10)
    loop.run(500)
    ends = outcomes(loop.executor)
    assert ends[2:6] == ["timed out"] * 4
    assert ends[6] == "used"
    waits = [b.observation_tick - a.observation_tick for a, b in pairwise(list(loop.executor.requests)[2:7])]
    assert waits == [10, 20, 40, 80], "patience doubles"
    assert states(loop.executor)[-1] == "run"
    check_limits(loop.executor)


def test_f07_duplicates_and_strays_are_ignored_and_counted() -> None:
    loop, _, _ = start_loop(lambda k: [2, 3, 3, 35])
    loop.run(200)
    executor = loop.executor
    answered = [request for request in executor.requests if request.outcome == "used"]
    assert set(outcomes(executor)) <= {"used", "in flight"}
    assert executor.counters.num_ignored_replies >= 2 * len(answered)
    played = [record.chunk_id for record in executor.trace if record.state == "run"]
    assert played == sorted(played)


def test_f08_a_message_that_is_no_chunk_never_moves_the_robot() -> None:
    """A transport turns what it cannot read into an error; the old plan runs on, then stops."""

    def garble(request: Request, reply: Reply) -> Reply:
        return Reply(request.id, error="WireError: truncated message") if request.id >= 2 else reply

    loop, _, _ = start_loop(lambda k: [2], garble=garble)
    loop.run(150)
    assert loop.executor.counters.rejections["inference failed"] > 3
    assert max(record.chunk_id for record in loop.executor.trace) == 1
    assert states(loop.executor)[-1] == "hold"
    check_limits(loop.executor)


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("wrong shape", lambda chunk: other_chunk(chunk, chunk.actions[:-1])),
        ("wrong shape", lambda chunk: other_chunk(chunk, chunk.actions[:, :-1])),
        ("wrong policy", lambda chunk: other_chunk(chunk, policy_id="stranger")),
        ("prefix changed", lambda chunk: other_chunk(chunk, chunk.actions + 0.1)),
        ("all zero", lambda chunk: other_chunk(chunk, np.zeros_like(chunk.actions))),
        ("far outside", lambda chunk: other_chunk(chunk, np.where(np.arange(24)[:, None] > 8, 50.0, chunk.actions))),
    ],
)
def test_f09_a_chunk_that_does_not_fit_is_refused(kind: str, spoil: Callable[[ActionChunk], ActionChunk]) -> None:
    """The old plan runs on and then stops; no zero is sent to a robot with absolute targets."""

    def garble(request: Request, reply: Reply) -> Reply:
        assert reply.chunk is not None
        return Reply(request.id, chunk=spoil(reply.chunk)) if request.id >= 2 else reply

    loop, _, _ = start_loop(lambda k: [2], garble=garble)
    loop.pose[:NUM_JOINTS] = 1.2
    loop.run(120)
    executor = loop.executor
    assert set(executor.counters.rejections) == {kind}
    played = {record.chunk_id for record in executor.trace} - {-1}
    if kind == "prefix changed":  # from rest nothing was promised, so that nothing can be changed
        assert all(not len(executor.requests[number].action_prefix) for number in played - {0, 1})
    else:
        assert played == {0, 1}
    assert commands(executor.trace)[:, :NUM_JOINTS].min() > 0.6
    check_limits(executor, np.array([1.2, 1.2, 1.2, 0.0]))


def test_f09_not_a_number_never_becomes_a_chunk() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        ActionChunk(np.full((4, 4), np.nan, dtype=np.float32), 0, 0, 0, "p", 0.0)


def test_f10_a_server_that_dies_is_survived() -> None:
    """The safe part is finished, the robot stands, questions get rarer; the first chunk after it starts from rest."""
    died, back = 3, 12
    loop, _, _ = start_loop(lambda k: [1], failures=frozenset(range(died, back)))
    loop.run(600)
    executor = loop.executor
    asked = [request.observation_tick for request in executor.requests][died : back + 1]
    waits = np.diff(asked)
    assert waits.max() <= 32
    assert waits[-1] > waits[0]
    revived = executor.requests[back]
    assert (revived.outcome, len(revived.action_prefix), revived.consumed) == ("used", 0, 0)
    assert states(executor)[-1] == "run"
    check_limits(executor)


def test_f11_a_server_that_hangs_is_noticed_by_the_clock_of_the_robot() -> None:
    """A half-open connection gives neither reply nor error: only ticks tell."""
    loop, _, _ = start_loop(lambda k: [] if k >= 2 else [2], reply_timeout=15)
    loop.run(100)
    assert outcomes(loop.executor)[2] == "timed out"
    assert states(loop.executor)[-1] == "hold"


def test_f12_another_checkpoint_is_refused() -> None:
    """Chunks of another policy are never played, however long they come."""

    def garble(request: Request, reply: Reply) -> Reply:
        assert reply.chunk is not None
        return Reply(request.id, chunk=other_chunk(reply.chunk, policy_id="newer")) if request.id >= 3 else reply

    loop, _, _ = start_loop(lambda k: [2], garble=garble)
    loop.run(300)
    assert set(loop.executor.counters.rejections) == {"wrong policy"}
    assert max(record.chunk_id for record in loop.executor.trace) == 2


def test_f13_clocks_that_jump_change_no_command() -> None:
    """Ticks decide; stamps and seconds are for the records."""
    streams = []
    for jump_s in (0.0, -5.0, 3600.0):
        loop, _, _ = start_loop(lambda k: [3], roughness=0.01)
        executor = loop.executor
        for tick in range(120):
            now_s = tick / 30 + (jump_s if tick > 50 else 0.0)
            executor.observe(Observation(loop.pose.copy(), "wander", tick, now_s), now_s)
            loop.pose = executor.command(now_s).values.copy()
        streams.append(commands(executor.trace).tobytes())
    assert streams[0] == streams[1] == streams[2]
