"""Faults of the robot and orders of people (F-14 to F-24) on the virtual clock; the others are in `test_faults`."""

from itertools import pairwise

import numpy as np
import pytest

from cerebella.interfaces import Takeover
from cerebella.runtime.camera_check import CameraCheck
from cerebella.runtime.executor import Executor
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
from .fault_loop import HORIZON, S, at, other_chunk, start_loop, states


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
    assert {request.promised_delay for request in list(executor.requests)[3:]} == {2}


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


@pytest.mark.parametrize("order", ["pause", "take_over"])
def test_an_operator_interrupts_a_filter(order: str) -> None:
    """The filter does not move the robot for one more tick, and its claim is over when the policy drives again."""
    loop, _, sink = start_loop(lambda k: [2], action_filter=Grasp(60, 40))
    executor = loop.executor
    loop.run(70)
    getattr(executor, order)()
    loop.run(20)
    assert set(states(executor)[60:70]) == {"filter"}
    assert set(states(executor)[70:90]) <= {"stop", "hold"}
    assert states(executor)[89] == "hold"
    getattr(executor, {"pause": "resume", "take_over": "hand_back"}[order])()
    loop.run(60)
    assert states(executor)[-1] == "run"
    names = [event.name for event in sink.events if "filter" in event.name]
    assert names[:2] == ["filter takes over", "filter interrupted"]
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


def test_a_robot_that_limits_by_itself_is_promised_nothing() -> None:
    """A driver that cuts every step (LeRobot's `max_relative_target`): the prefix would not be what was sent."""
    loop, _, sink = start_loop(lambda k: [2])
    executor = loop.executor
    for tick in range(120):
        executor.observe(Observation(loop.pose.copy(), "wander", tick, tick / 30))
        command = executor.command().values
        loop.pose = command * np.float32(0.98) if 50 <= tick < 80 else command.copy()
        executor.was_sent(loop.pose)
    clipped = [request for request in executor.requests if 51 <= request.observation_tick <= 80]
    assert clipped
    assert all(len(request.action_prefix) == 0 for request in clipped)
    assert [event.name for event in sink.events].count("clipped by the robot") >= 1
    assert any(len(request.action_prefix) > 0 for request in executor.requests if request.observation_tick > 90)
