import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from cerebella.interfaces import Reply, Request, Transport
from cerebella.runtime.clock import VirtualClock, WallClock
from cerebella.runtime.transport import InferenceQueue, ThreadTransport, VirtualTransport, batched, warm_up
from cerebella.types import ActionChunk, FloatArray, Observation

from .tagged import TaggedPolicy, make_metadata, make_observation

EMPTY = np.zeros((0, 4), dtype=np.float32)
PATIENCE_S = 20.0


def make_policy(failures: frozenset[int] = frozenset(), nans: frozenset[int] = frozenset()) -> TaggedPolicy:
    return TaggedPolicy(make_metadata(8, 4), failures, nans)


def request(number: int, tick: int = 0) -> Request:
    return Request(number, make_observation(tick), EMPTY, 0)


def wait_for(transport: Transport, num_replies: int) -> list[Reply]:
    replies: list[Reply] = []
    give_up_s = time.monotonic() + PATIENCE_S
    while len(replies) < num_replies:
        assert time.monotonic() < give_up_s, "no reply"
        replies += transport.poll(0)
        time.sleep(0.001)
    return replies


def test_a_reply_carries_exactly_one_of_chunk_and_error() -> None:
    with pytest.raises(ValueError, match="request 3"):
        Reply(3)


def test_virtual_replies_come_after_their_delay_in_order_of_arrival() -> None:
    policy = make_policy()
    transport = VirtualTransport(batched(policy), (5, 1).__getitem__)
    transport.submit(request(0, tick=10))
    transport.submit(request(1, tick=11))
    assert transport.poll(11) == []
    assert policy.num_calls == 0
    assert [reply.request_id for reply in transport.poll(12)] == [1]
    assert transport.poll(14) == []
    assert [reply.request_id for reply in transport.poll(20)] == [0]
    assert transport.poll(99) == []


def test_virtual_delay_zero_arrives_in_its_own_tick() -> None:
    transport = VirtualTransport(batched(make_policy()), lambda number: 0)
    transport.submit(request(0, tick=7))
    assert [reply.request_id for reply in transport.poll(7)] == [0]


@pytest.mark.parametrize("kind", ["virtual", "thread"])
def test_an_answer_knows_what_was_seen_and_not_what_the_arrays_have_become(kind: str) -> None:
    """A driver may write the next picture into the same memory before the policy has looked at the last one."""
    may_look, seen = threading.Event(), []

    class Slow(TaggedPolicy):
        def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
            may_look.wait(PATIENCE_S)
            seen.append(
                (observation.state.copy(), observation.images["base"].copy(), observation.tactile["thumb"].copy())
            )
            return super().infer(observation, action_prefix)

    policy = Slow(make_metadata(8, 4))
    transport = (
        VirtualTransport(batched(policy), lambda k: 2) if kind == "virtual" else ThreadTransport(policy, WallClock())
    )
    picture, taxels = np.full((2, 2, 3), 7, np.uint8), np.full((11, 9), 7, np.float32)
    observation = replace(make_observation(0), images={"base": picture}, tactile={"thumb": taxels})
    wanted = [array.copy() for array in (observation.state, picture, taxels)]
    transport.submit(Request(0, observation, EMPTY, 0))
    for array in (observation.state, picture, taxels):
        array[:] = 99
    may_look.set()
    replies = transport.poll(2) if kind == "virtual" else wait_for(transport, 1)
    transport.close()
    assert replies[0].chunk is not None
    assert all(np.array_equal(a, b) for a, b in zip(seen[0], wanted, strict=True))


def test_negative_delays_are_refused() -> None:
    with pytest.raises(ValueError, match="request number 0 must be 0 or more ticks; got -1"):
        VirtualTransport(batched(make_policy()), lambda number: -1).submit(request(0))


def test_a_shared_queue_evaluates_everything_pending_in_one_batch() -> None:
    policy, batch_sizes = make_policy(), []

    def infer_batch(requests: list[Request]) -> list[ActionChunk]:
        batch_sizes.append(len(requests))
        return batched(policy)(requests)

    queue = InferenceQueue(infer_batch)
    transports = [VirtualTransport(queue, lambda number: 2) for _ in range(5)]
    for i, transport in enumerate(transports):
        transport.submit(request(0, tick=i % 2))
    transports[4].close()
    chunks = [reply.chunk for transport in transports[:4] for reply in transport.poll(3)]
    assert batch_sizes == [4]
    assert [chunk.observation_tick for chunk in chunks if chunk is not None] == [0, 1, 0, 1]
    assert [chunk.actions[0, 0] for chunk in chunks if chunk is not None] == [0, 1, 2, 3]


def test_one_bad_request_does_not_spoil_the_batch() -> None:
    def infer_batch(requests: list[Request]) -> list[ActionChunk]:
        if any(request.observation.tick == 1 for request in requests):
            raise ArithmeticError("tick 1 is unlucky")
        return batched(make_policy())(requests)

    transport = VirtualTransport(infer_batch, lambda number: 0)
    for tick in range(3):
        transport.submit(request(tick, tick))
    replies = transport.poll(9)
    assert [reply.error for reply in replies] == [None, "ArithmeticError: tick 1 is unlucky", None]


def test_a_batch_of_the_wrong_length_is_an_error() -> None:
    transport = VirtualTransport(lambda requests: [], lambda number: 0)
    transport.submit(request(0))
    [reply] = transport.poll(0)
    assert reply.error == "ValueError: infer_batch returned 0 chunks for 1 observations"


def test_a_policy_with_its_own_batching_is_used_as_it_is() -> None:
    class Batcher(TaggedPolicy):
        def infer_batch(self, observations: list[Observation], prefixes: list[FloatArray]) -> list[ActionChunk]:
            return [self.infer(o, p) for o, p in zip(observations, prefixes, strict=True)][::-1]

    chunks = batched(Batcher(make_metadata(8, 4)))([request(0, 1), request(1, 2)])
    assert [chunk.observation_tick for chunk in chunks] == [2, 1]


def test_the_worker_thread_answers_in_order_and_survives_failures() -> None:
    transport = ThreadTransport(make_policy(failures=frozenset({1}), nans=frozenset({2})), WallClock())
    replies: list[Reply] = []
    for number in range(4):
        transport.submit(request(number, tick=number))
        replies += wait_for(transport, 1)
    transport.close()
    assert [reply.request_id for reply in replies] == [0, 1, 2, 3]
    assert [reply.error is None for reply in replies] == [True, False, False, True]
    assert replies[1].error == "OSError: call 1: the server is gone"
    assert "must be finite" in str(replies[2].error)


def test_of_the_requests_that_wait_only_the_newest_is_answered() -> None:
    """A request that is followed by another was given up: a slow policy must not work through old questions."""
    may_go, is_busy = threading.Event(), threading.Event()

    class Slow(TaggedPolicy):
        def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
            is_busy.set()
            assert may_go.wait(PATIENCE_S)
            return super().infer(observation, action_prefix)

    transport = ThreadTransport(Slow(make_metadata(8, 4)), WallClock())
    transport.submit(request(0))
    assert is_busy.wait(PATIENCE_S)
    for number in (1, 2, 3):
        transport.submit(request(number))
    may_go.set()
    assert [reply.request_id for reply in wait_for(transport, 2)] == [0, 3]
    transport.close()


def test_submit_and_poll_do_not_wait_for_a_slow_policy() -> None:
    may_go = threading.Event()

    class Slow(TaggedPolicy):
        def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
            assert may_go.wait(PATIENCE_S)
            return super().infer(observation, action_prefix)

    transport = ThreadTransport(Slow(make_metadata(8, 4)), WallClock())
    transport.submit(request(0))
    assert transport.poll(0) == []
    may_go.set()
    assert [reply.request_id for reply in wait_for(transport, 1)] == [0]
    transport.close()


@pytest.mark.parametrize(("latency_s", "own_s"), [(0.06, 0.0), (0.0, 0.06), (0.06, 0.04)])
def test_latency_is_padded_up_to_the_total_and_never_cut(latency_s: float, own_s: float) -> None:
    class Slow(TaggedPolicy):
        def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
            time.sleep(own_s)
            return super().infer(observation, action_prefix)

    clock = WallClock()
    transport = ThreadTransport(Slow(make_metadata(8, 4)), clock, latency_s=lambda number: latency_s)
    start_s = clock.now_s()
    transport.submit(request(0))
    wait_for(transport, 1)
    took_s = clock.now_s() - start_s
    transport.close()
    assert took_s >= max(latency_s, own_s)


def test_close_ends_the_worker_and_drops_what_is_pending() -> None:
    before = set(threading.enumerate())
    transport = ThreadTransport(make_policy(), WallClock(), latency_s=lambda number: 1000.0)
    [worker] = set(threading.enumerate()) - before
    transport.submit(request(0))
    transport.close()
    transport.close()
    assert not worker.is_alive()
    assert transport.poll(0) == []
    with pytest.raises(RuntimeError, match="request 1 was submitted after close"):
        transport.submit(request(1))


def test_warm_up_measures_every_call() -> None:
    clock = VirtualClock()

    class Warming(TaggedPolicy):
        def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
            clock.advance(8.0 if self.num_calls == 0 else 0.5)
            return super().infer(observation, action_prefix)

    policy: TaggedPolicy = Warming(make_metadata(8, 4))
    assert warm_up(policy, make_observation(0), 3, clock) == [8.0, 0.5, 0.5]
    assert [prefix.shape for prefix in policy.seen_prefixes] == [(0, 4)] * 3
    with pytest.raises(ValueError, match="got 0"):
        warm_up(policy, make_observation(0), 0, clock)


def test_latency_of_the_right_request_is_used() -> None:
    asked: list[int] = []

    def latency_of(number: int) -> float:
        asked.append(number)
        return 0.0

    transport = ThreadTransport(make_policy(), WallClock(), latency_s=latency_of)
    for number in (7, 8):
        transport.submit(request(number))
        wait_for(transport, 1)
    transport.close()
    assert asked == [0, 1]
