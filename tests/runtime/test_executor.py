from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cerebella.interfaces import Policy, PolicyMetadata, Reply, Request
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import MODES, ExecutorConfig, Mode
from cerebella.runtime.trace import Counters, commands
from cerebella.runtime.transport import VirtualTransport, batched
from cerebella.types import ActionChunk, FloatArray, Observation

from .tagged import TaggedPolicy, make_embodiment, make_metadata, make_observation


def make_executor(
    policy: Policy,
    mode: Mode,
    execute_horizon: int,
    delays: Callable[[int], int],
    initial_delay: int = 0,
    **options: Any,
) -> Executor:
    config = ExecutorConfig(mode, execute_horizon, **options)
    return Executor(
        policy.metadata, config, VirtualTransport(batched(policy), delays), DelayEstimator(initial_delay, num_warmup=0)
    )


def play(executor: Executor, ticks: range) -> FloatArray:
    for tick in ticks:
        executor.observe(make_observation(tick))
        executor.command()
    return commands(executor.trace)


def test_a_hand_over_by_hand() -> None:
    """H = 8, s = 4, delay 2: hold twice, rows 0..3, the promised rows 4 and 5, then the new row 2."""
    policy = TaggedPolicy(make_metadata(8, 4))
    executor = make_executor(policy, "prefix", 4, lambda number: 2, initial_delay=2)
    sent = play(executor, range(10))
    assert [r.state for r in executor.trace] == ["hold"] * 2 + ["run"] * 8
    assert sent[2:, 0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert sent[2:, 1].tolist() == [0, 1, 2, 3, 4, 5, 2, 3]
    assert sent[9, 2] == 9
    second = executor.requests[1]
    assert (second.observation_tick, second.arrival_tick, second.consumed) == (6, 8, 2)
    assert second.promised_delay == 2
    assert second.action_prefix[:, 1].tolist() == [4, 5]
    assert (executor.trace[8].chunk_id, executor.trace[8].row) == (1, 2)


def test_a_late_reply_takes_over_at_the_row_really_consumed() -> None:
    policy = TaggedPolicy(make_metadata(16, 2))
    executor = make_executor(policy, "prefix", 4, (0, 7, 1, 1, 1).__getitem__, initial_delay=2)
    play(executor, range(14))
    late = executor.requests[1]
    assert (late.outcome, late.consumed, len(late.action_prefix)) == ("late", 7, 0)
    assert executor.trace[11].row == 7
    assert executor.counters.num_late == 1


def test_a_delay_beyond_the_trained_prefix_is_counted() -> None:
    policy = TaggedPolicy(make_metadata(16, 2))
    executor = make_executor(policy, "prefix", 6, lambda number: 4, initial_delay=4)
    play(executor, range(40))
    assert {len(r.action_prefix) for r in executor.requests[1:]} == {2}
    assert executor.counters.num_untrained == executor.counters.num_requests - 1
    assert executor.counters.num_late == executor.counters.outcomes["late"] > 0


def test_a_failed_inference_is_asked_again_while_the_old_plan_runs() -> None:
    policy = TaggedPolicy(make_metadata(8, 0), failures=frozenset({1, 2}))
    executor = make_executor(policy, "naive", 4, lambda number: 1)
    play(executor, range(10))
    assert [(r.observation_tick, r.outcome) for r in executor.requests[:4]] == [
        (0, "used"),
        (5, "rejected"),
        (6, "rejected"),
        (8, "used"),  # one tick of rest after the second failure in a row
    ]
    assert all(record.state == "run" for record in executor.trace[1:])
    assert executor.requests[1].reason == "inference failed: OSError: call 1: the server is gone"
    assert executor.counters.rejections == {"inference failed": 2}


@pytest.mark.parametrize("mode", MODES)
def test_a_policy_that_always_fails_ends_the_run_and_never_moves_the_robot(mode: Mode) -> None:
    policy = TaggedPolicy(make_metadata(8, 4), nans=frozenset(range(100)))
    executor = make_executor(policy, mode, 4, lambda number: 1, max_consecutive_failures=5)
    with pytest.raises(RuntimeError, match=r"5 inferences in a row were rejected; .*must be finite; it holds nan"):
        play(executor, range(100))
    assert {record.state for record in executor.trace} == {"hold"}
    assert np.array_equal(commands(executor.trace), np.tile(executor.trace[0].values, (len(executor.trace), 1)))


def test_failures_that_are_not_in_a_row_do_not_end_the_run() -> None:
    policy = TaggedPolicy(make_metadata(8, 0), failures=frozenset(range(0, 1000, 2)))
    executor = make_executor(policy, "naive", 2, lambda number: 0)
    play(executor, range(100))
    assert executor.counters.num_rejected > 20


def test_commands_are_limited_and_the_raw_ones_kept() -> None:
    policy = TaggedPolicy(make_metadata(8, 4, make_embodiment(limit=0.5)))
    executor = make_executor(policy, "prefix", 4, lambda number: 2, initial_delay=2)
    for tick in range(20):
        executor.observe(make_observation(tick, value=0.7))
        executor.command()
    assert commands(executor.trace)[:, 3].max() == 0.5
    assert executor.trace[0].raw[3] == executor.trace[2].raw[3] == pytest.approx(0.7)
    assert executor.requests[1].action_prefix[:, 3].max() == 0.5
    assert executor.counters.num_rejected == 0
    assert executor.counters.num_clipped > 10


def test_ticks_that_the_loop_missed_move_the_plan_and_consume_nothing() -> None:
    executor = make_executor(TaggedPolicy(make_metadata(8, 0)), "naive", 8, lambda number: 0)
    for tick in (0, 1, 5, 6):
        executor.observe(make_observation(tick))
        executor.command()
    assert [record.row for record in executor.trace] == [0, 1, 2, 3]
    assert executor.counters.num_skipped_ticks == 3


def test_replies_to_no_open_request_are_ignored_and_counted() -> None:
    class Stuttering(VirtualTransport):
        def poll(self, tick: int) -> list[Reply]:
            return [reply for reply in super().poll(tick) for _ in range(3)]

    policy = TaggedPolicy(make_metadata(8, 0))
    executor = Executor(
        policy.metadata, ExecutorConfig("naive", 4), Stuttering(batched(policy), lambda n: 1), DelayEstimator(0)
    )
    play(executor, range(12))
    assert executor.counters.num_ignored_replies == 2 * executor.counters.outcomes["used"] > 0


def test_a_chunk_of_another_shape_or_policy_is_rejected() -> None:
    class Odd(TaggedPolicy):
        def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
            chunk = super().infer(observation, action_prefix)
            if self.num_calls == 1:
                return ActionChunk(chunk.actions[:3], chunk.start_tick, chunk.observation_tick, 0, "tagged", 0.0)
            if self.num_calls == 2:
                return ActionChunk(chunk.actions, chunk.start_tick, chunk.observation_tick, 0, "stranger", 0.0)
            return chunk

    executor = make_executor(Odd(make_metadata(8, 0)), "naive", 4, lambda number: 0)
    play(executor, range(4))
    assert executor.counters.rejections == {"wrong shape": 1, "wrong policy": 1}
    assert [record.state for record in executor.trace] == ["hold", "hold", "run", "run"]


def test_a_policy_that_changes_what_was_promised_is_rejected() -> None:
    policy = TaggedPolicy(make_metadata(12, 4), forgets=frozenset({1}))
    executor = make_executor(policy, "prefix", 4, lambda number: 2, initial_delay=2)
    play(executor, range(20))
    assert executor.counters.rejections == {"prefix changed": 1}
    assert commands(executor.trace)[2:, 0].max() < 100


def test_the_clock_of_the_loop_is_what_the_records_show() -> None:
    executor = make_executor(TaggedPolicy(make_metadata(8, 0)), "naive", 4, lambda number: 0)
    executor.observe(make_observation(0), now_s=12.5)
    executor.command(now_s=12.75)
    assert (executor.requests[0].submitted_s, executor.trace[0].sent_s) == (12.5, 12.75)


def test_wrong_use_is_refused() -> None:
    executor = make_executor(TaggedPolicy(make_metadata(8, 0)), "naive", 4, lambda number: 0)
    with pytest.raises(RuntimeError, match=r"observe\(\) first"):
        executor.command()
    executor.observe(make_observation(3))
    with pytest.raises(RuntimeError, match=r"observe\(tick 4\) before command\(\)"):
        executor.observe(make_observation(4))
    executor.command()
    with pytest.raises(RuntimeError, match=r"observe\(\) first"):
        executor.command()
    with pytest.raises(ValueError, match=r"above the last one, 3; got 3"):
        executor.observe(make_observation(3))
    with pytest.raises(ValueError, match=r"state must be float32\[4\]"):
        executor.observe(Observation(np.zeros(3, dtype=np.float32), "count", 4, 0.0))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(
        ValueError, match="unknown mode 'async'; known modes: sync, naive, ensemble, guided, guided_identity"
    ):
        ExecutorConfig("async", 4)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="max_consecutive_failures must be 1 or more; got 0"):
        ExecutorConfig("sync", 4, max_consecutive_failures=0)
    for execute_horizon in (0, 9):
        with pytest.raises(ValueError, match=rf"1\.\.8 ticks \(horizon 8\); got {execute_horizon}"):
            make_executor(TaggedPolicy(make_metadata(8, 0)), "sync", execute_horizon, lambda number: 0)
    metadata: PolicyMetadata = make_metadata(8, 0, make_embodiment(policy_hz=50.0))
    with pytest.raises(ValueError, match="control_hz 30 is below policy_hz 50"):
        make_executor(TaggedPolicy(metadata), "sync", 4, lambda number: 0)


def test_close_reaches_the_transport() -> None:
    class Closable:
        is_closed = False

        def submit(self, request: Request) -> None: ...

        def poll(self, tick: int) -> list[Reply]:
            return []

        def close(self) -> None:
            self.is_closed = True

    transport = Closable()
    executor = Executor(make_metadata(8, 0), ExecutorConfig("sync", 4), transport, DelayEstimator(0))
    play(executor, range(3))
    executor.close()
    assert transport.is_closed
    assert [request.outcome for request in executor.requests] == ["in flight"]


def test_an_empty_trace_has_no_commands() -> None:
    with pytest.raises(ValueError, match="no command was sent"):
        commands([])
    assert Counters().idle_share == 0.0
