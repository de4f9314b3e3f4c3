"""Faults F-1 to F-24 on the virtual clock: what a robot does when something is late, lost, wrong or gone.

F-8, F-10 to F-12 and F-23 again over a real socket, F-16 to F-18 with real processes: tests/faults and the tests of the
watchdog, the emergency stop and the server. The table of names is in docs/runtime.md.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Reply, Request, Takeover
from cerebella.runtime.camera_check import CameraCheck
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import Mode
from cerebella.runtime.trace import Event, commands
from cerebella.types import Action, ActionChunk, Observation

from .arm import (
    NUM_JOINTS,
    Loop,
    ScriptedTransport,
    WanderingPolicy,
    check_limits,
    make_arm,
    make_executor,
    make_metadata,
)
from .events import EventSink

HORIZON, S = 24, 8


def start_loop(
    arrivals: Callable[[int], Sequence[int]],
    mode: Mode = "prefix",
    roughness: float = 0.0,
    embodiment: Embodiment | None = None,
    garble: Callable[[Request, Reply], Reply] | None = None,
    on_tick: Callable[[Loop, int], None] | None = None,
    max_trained_prefix: int = 6,
    initial_delay: int = 3,
    failures: frozenset[int] = frozenset(),
    strays: frozenset[int] = frozenset(),
    **options: object,
) -> tuple[Loop, ScriptedTransport, EventSink]:
    policy = WanderingPolicy(
        make_metadata(embodiment or make_arm(), HORIZON, max_trained_prefix), 5, roughness, failures, strays
    )
    transport, sink = ScriptedTransport(policy, arrivals, garble), EventSink()
    config = {key: options.pop(key) for key in ("reply_timeout", "degrade_after", "max_discards") if key in options}
    executor = make_executor(
        policy, transport, mode, S, initial_delay=initial_delay, config=config, sinks=[sink], **options
    )
    return Loop(executor, on_tick=on_tick), transport, sink


def states(executor: Executor) -> list[str]:
    return [record.state for record in executor.trace]


def outcomes(executor: Executor) -> list[str]:
    return [request.outcome for request in executor.requests]


def at(number: int, special: Sequence[int], usual: int = 2) -> Callable[[int], Sequence[int]]:
    """Request `number` is answered at the ticks `special` after its observation, the others after `usual`."""
    return lambda k: special if k == number else (usual,)


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


def other_chunk(chunk: ActionChunk, actions: np.ndarray | None = None, policy_id: str | None = None) -> ActionChunk:
    return ActionChunk(
        chunk.actions if actions is None else actions.astype(np.float32),
        chunk.start_tick,
        chunk.observation_tick,
        chunk.prefix_length,
        policy_id or chunk.policy_id,
        chunk.duration_s,
    )


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


def picture(tick: int, seed: int | None = None) -> np.ndarray:
    return np.random.default_rng(tick if seed is None else seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("trouble", ["regressed", "repeated", "frozen", "missing", "old"])
def test_f14_a_camera_that_lies_stops_the_questions_and_then_the_robot(trouble: str) -> None:
    policy = WanderingPolicy(make_metadata(make_arm(), HORIZON), 5)
    transport, sink = ScriptedTransport(policy, lambda k: [2]), EventSink()
    check = CameraCheck(("base",), max_age_s=0.3, max_skew_s=0.1, num_tolerated=4, num_equal_frames=3)
    executor = make_executor(policy, transport, "prefix", S, camera_check=check, sinks=[sink])
    pose = np.zeros(NUM_JOINTS + 1, dtype=np.float32)
    for tick in range(200):
        now_s, stamp_s, seed = tick / 30, tick / 30, None
        is_bad = 60 <= tick < 90
        if is_bad and trouble == "regressed":
            stamp_s -= 1.0
        if is_bad and trouble == "repeated":
            stamp_s = 59 / 30
        if is_bad and trouble == "frozen":
            seed = 59
        if is_bad and trouble == "old":
            stamp_s, now_s = tick / 30, tick / 30 + 0.5
        images = {} if is_bad and trouble == "missing" else {"base": picture(tick, seed)}
        executor.observe(Observation(pose.copy(), "wander", tick, stamp_s, images), now_s)
        pose = executor.command(now_s).values.copy()
    names = [event.name for event in sink.events]
    assert names.count("blind") == 1
    assert names.count("sees again") == 1
    asked = [request.observation_tick for request in executor.requests]
    assert not [tick for tick in asked if 64 <= tick < 90]
    assert states(executor)[89] == "hold"
    assert states(executor)[-1] == "run"
    check_limits(executor)


def test_f15_a_stalled_loop_sends_no_burst_and_skips_no_row() -> None:
    loop, _, _ = start_loop(lambda k: [2])
    loop.run(120, skip=lambda tick: 6 if tick == 60 else 0)
    executor = loop.executor
    assert executor.counters.num_skipped_ticks == 6
    ticks = [record.tick for record in executor.trace]
    assert [b - a for a, b in pairwise(ticks)].count(7) == 1
    for a, b in pairwise([record for record in executor.trace if record.state == "run"]):
        if a.chunk_id == b.chunk_id:
            assert b.row == a.row + 1
    check_limits(executor)


@pytest.mark.parametrize("event", ["pause", "task", "take over"])
def test_f19_nothing_thought_before_an_order_is_played_after_it(event: str) -> None:
    """The order comes while an answer is under way; the robot stops within its limits and starts anew."""
    when, until = 61, 90

    def on_tick(loop: Loop, tick: int) -> None:
        executor = loop.executor
        if tick == when:
            if event == "pause":
                executor.pause()
            elif event == "task":
                executor.set_prompt("the other towel")
            else:
                executor.take_over()
        if event == "take over" and when < tick < until:
            executor.human_command(np.array([0.2, 0.1, 0.0, 1.0], dtype=np.float32))
        if tick == until:
            executor.resume()
            executor.hand_back()

    loop, transport, sink = start_loop(lambda k: [5], on_tick=on_tick)
    loop.run(200)
    executor = loop.executor
    for record in list(executor.trace)[when:]:
        assert record.chunk_id == -1 or executor.requests[record.chunk_id].observation_tick >= when
    between = set(states(executor)[when:until])
    assert between <= ({"human", "stop", "hold"} if event == "take over" else {"stop", "hold", "run"})
    assert event in [e.name for e in sink.events]
    first = next(r for r in executor.requests if r.observation_tick >= when)
    assert len(first.action_prefix) == 0
    if event == "task":
        assert first.observation_tick == when
        assert [r.prompt for r in executor.trace][when - 1 : when + 1] == ["wander", "the other towel"]
        assert all(r.observation.prompt == "the other towel" for r in transport.submitted if r.observation.tick >= when)
    else:
        assert first.observation_tick == until
    if event == "take over":
        assert np.allclose(commands(executor.trace)[until - 1], [0.2, 0.1, 0.0, 1.0], atol=1e-6)
    check_limits(executor)


def test_f20_a_slow_first_inference_moves_nothing_and_poisons_nothing() -> None:
    """Warm-up 20 times slower: the robot stands, row 0 is the first row, and the estimate does not know of it."""
    policy = WanderingPolicy(make_metadata(make_arm(), HORIZON), 5)
    transport = ScriptedTransport(policy, at(0, [40]))
    from cerebella.runtime.delay import DelayEstimator
    from cerebella.runtime.executor_config import ExecutorConfig

    executor = Executor(policy.metadata, ExecutorConfig("prefix", S), transport, DelayEstimator(3, num_warmup=1))
    Loop(executor).run(150)
    assert states(executor)[:40] == ["hold"] * 40
    assert executor.trace[40].row == 0
    assert {request.promised_delay for request in list(executor.requests)[3:]} == {3}


def test_f21_shutting_down_is_a_stop_and_never_a_way_home() -> None:
    def on_tick(loop: Loop, tick: int) -> None:
        if tick == 60:
            loop.executor.pause()

    loop, transport, _ = start_loop(lambda k: [2], on_tick=on_tick)
    loop.run(120)
    loop.executor.close()
    assert transport.is_closed
    sent = commands(loop.executor.trace)
    stopped = sent[75:]
    assert np.array_equal(stopped, np.tile(stopped[0], (len(stopped), 1)))
    assert np.abs(sent[60:] - sent[60]).max() < 0.3, "it stays where it was"
    check_limits(loop.executor)


@pytest.mark.parametrize("control_hz", [100.0, 250.0, 500.0])
def test_f22_at_the_ticks_of_the_policy_the_command_is_the_row(control_hz: float) -> None:
    loop, _, _ = start_loop(lambda k: [2], embodiment=make_arm(control_hz, acceleration=1e3, jerk=1e6))
    loop.run(int(5 * control_hz))
    executor = loop.executor
    assert executor.counters.num_stops == 0
    on_rows = [r for r in executor.trace if r.state == "run" and r.phase < 1e-9]
    assert len(on_rows) > 10
    assert all(np.array_equal(r.values, r.raw) for r in on_rows), "these limits never bite"
    sent = {record.values.tobytes() for record in executor.trace if record.state == "run"}
    assert len(sent) > 0.8 * len(executor.trace), "and between them it moves on"
    check_limits(executor)


def test_f24_a_blocked_robot_pauses_the_plan_and_is_met_where_it_is() -> None:
    def on_tick(loop: Loop, tick: int) -> None:
        loop.blocked = 50 <= tick < 120

    policy = WanderingPolicy(make_metadata(make_arm(), HORIZON), 8)
    transport, sink = ScriptedTransport(policy, lambda k: [2]), EventSink()
    executor = make_executor(policy, transport, "prefix", S, config={"tracking_limit_s": 0.04}, sinks=[sink])
    loop = Loop(executor, on_tick=on_tick)
    loop.run(119)
    where = loop.pose.copy()
    assert "blocked" in [event.name for event in sink.events]
    assert np.allclose(commands(executor.trace)[-1][:NUM_JOINTS], where[:NUM_JOINTS], atol=0.12), (
        "the command came back to the robot"
    )
    loop.run(120)
    assert "follows again" in [event.name for event in sink.events]
    for event in sink.events:
        if event.name == "follows again":
            after = next(r for r in executor.requests if r.observation_tick >= event.tick)
            assert (after.observation_tick, len(after.action_prefix)) == (event.tick, 0)
    assert states(executor)[-1] == "run"
    check_limits(executor)


class Grasp:
    """A filter that takes the robot over for some ticks at a given tick, then hands back."""

    def __init__(self, when: int, num_ticks: int) -> None:
        self.seen: list[Action] = []
        self._when, self._num_ticks = when, num_ticks

    def filter(self, observation: Observation, action: Action) -> Action | Takeover:
        self.seen.append(action)
        left = self._when + self._num_ticks - observation.tick
        if self._when <= observation.tick and left > 0:
            values = action.values + np.float32(0.005)
            return Takeover(Action(values, action.tick), left, "refine the grasp")
        return action


def test_a_filter_owns_the_robot_for_its_ticks_and_hands_back() -> None:
    grasp = Grasp(60, 15)
    loop, _, sink = start_loop(lambda k: [2], action_filter=grasp)
    loop.run(150)
    executor = loop.executor
    assert states(executor)[60:75] == ["filter"] * 15
    assert [e.name for e in sink.events if "filter" in e.name] == ["filter takes over", "filter hands back"]
    after = next(r for r in executor.requests if r.observation_tick >= 75)
    assert (after.observation_tick, len(after.action_prefix)) == (76, 0)
    assert all(
        executor.requests[r.chunk_id].observation_tick >= 75 for r in list(executor.trace)[75:] if r.chunk_id >= 0
    )
    check_limits(executor)


def test_a_filter_that_corrects_breaks_no_limit_and_no_promise() -> None:
    """What it changes was not promised: requests made meanwhile promise nothing."""

    class Nudge:
        def filter(self, observation: Observation, action: Action) -> Action:
            return Action(action.values + np.float32(0.1), action.tick) if 50 <= observation.tick < 90 else action

    loop, _, _ = start_loop(lambda k: [2], action_filter=Nudge())
    loop.run(150)
    executor = loop.executor
    nudged = [r for r in executor.requests if 52 <= r.observation_tick < 90]
    assert nudged
    assert all(len(r.action_prefix) == 0 for r in nudged)
    assert any(len(r.action_prefix) > 0 for r in executor.requests if r.observation_tick > 100)
    assert "promise broken" in executor.counters.rejections or executor.counters.num_broken_promises == 0
    check_limits(executor)


def test_the_start_gate_approaches_a_far_first_row_slowly() -> None:
    policy = WanderingPolicy(make_metadata(make_arm(), HORIZON), 5, strays=frozenset())
    policy_far = ScriptedTransport(policy, lambda k: [1])

    def shifted(observation: Observation, prefix: np.ndarray) -> ActionChunk:
        chunk = WanderingPolicy.infer(policy, observation, prefix)
        return other_chunk(chunk, np.clip(chunk.actions + np.float32(0.8), -1.5, 1.5)) if not len(prefix) else chunk

    policy.infer = shifted  # pyright: ignore[reportAttributeAccessIssue]
    executor = make_executor(policy, policy_far, "prefix", S)
    Loop(executor).run(150)
    trace = list(executor.trace)
    approach = [i for i, record in enumerate(trace) if record.state == "start"]
    assert len(approach) > 10
    steps = np.abs(np.diff(commands(trace), axis=0))[np.asarray(approach) - 1, :NUM_JOINTS]
    assert steps.max() <= 0.2 * 2.0 / 30 * (1 + 1e-5)
    first = trace[approach[-1] + 1]
    assert (first.state, first.row) == ("run", 0)
    check_limits(executor)


def test_events_carry_plain_values() -> None:
    loop, _, sink = start_loop(lambda k: [2])
    loop.executor.pause()
    loop.executor.pause()
    loop.executor.resume()
    assert [event.name for event in sink.events] == ["pause", "resume"]
    assert sink.events[0] == Event(-1, "pause", {})
    with pytest.raises(ValueError, match="must have a text"):
        loop.executor.set_prompt(" ")
    with pytest.raises(RuntimeError, match="needs take_over"):
        loop.executor.human_command(np.zeros(4, dtype=np.float32))
