"""The inference thread: whose request is answered, when, and what a failure costs the others."""

import logging
import math
import queue
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from cerebella.interfaces import Guidance
from cerebella.serving.batching import ServiceTimes
from cerebella.serving.query import Query
from cerebella.serving.scheduler import Job, Result, Scheduler
from cerebella.types import ActionChunk, FloatArray, Observation

from .gate import NO_PREFIX, WAIT_S, BatchPolicy, GatedPolicy, guided_metadata, observed


class Desk:
    """A scheduler with a policy, and what came of the requests."""

    def __init__(self, policy: BatchPolicy, max_batch: int = 8, max_pending: int = 64) -> None:
        self.policy = policy
        self.results: queue.Queue[tuple[str, Result]] = queue.Queue()
        self.batches: list[int] = []
        self.scheduler = Scheduler(policy, max_batch, max_pending, on_batch=lambda size, _: self.batches.append(size))
        is_warm = threading.Event()
        self.scheduler.start(ServiceTimes, lambda error: is_warm.set())
        assert is_warm.wait(WAIT_S)

    def ask(self, session: str, tick: int, due_s: float = math.inf, guidance: Guidance | None = None) -> Job:
        query = Query(observed(tick, value=tick), NO_PREFIX, guidance)
        name = f"{session}:{tick}"
        job = Job(session, query, time.monotonic(), due_s, lambda result: self.results.put((name, result)))
        self.scheduler.submit(job)
        return job

    def take(self, number: int) -> dict[str, Result]:
        return dict(self.results.get(timeout=WAIT_S) for _ in range(number))


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk(GatedPolicy())
    yield desk
    assert isinstance(desk.policy, GatedPolicy)
    desk.policy.go(100)
    desk.scheduler.close()


def gate(desk: Desk) -> GatedPolicy:
    assert isinstance(desk.policy, GatedPolicy)
    return desk.policy


def test_the_newest_observation_of_a_session_wins(desk: Desk) -> None:
    desk.ask("a", 0)
    gate(desk).wait_until_busy()
    desk.ask("a", 1)
    desk.ask("a", 2)
    desk.ask("a", 3)
    gate(desk).go(2)
    results = desk.take(4)
    assert {name: result.outcome for name, result in results.items()} == {
        "a:0": "answered",  # it was in the policy already
        "a:1": "superseded",
        "a:2": "superseded",
        "a:3": "answered",
    }
    assert desk.policy.batches == [[0], [3]]


def test_sessions_do_not_touch_each_other(desk: Desk) -> None:
    desk.ask("first", 0)
    gate(desk).wait_until_busy()
    for tick, session in enumerate("abcabc", start=1):
        desk.ask(session, tick)
    gate(desk).go(2)
    results = desk.take(7)
    answered = {name: result.answer for name, result in results.items() if result.answer is not None}
    assert set(answered) == {"first:0", "a:4", "b:5", "c:6"}
    for name, answer in answered.items():
        tick = int(name.split(":")[1])
        assert answer.chunk.observation_tick == tick
        assert answer.chunk.actions[0, 3] == tick
    assert answered["a:4"].batch_size == 3
    assert answered["a:4"].queue_s > 0


def test_the_most_urgent_are_served_first(desk: Desk) -> None:
    now_s = time.monotonic()
    desk.ask("first", 0)
    gate(desk).wait_until_busy()
    for tick, due_s in ((1, 900), (2, 700), (3, math.inf), (4, 800)):
        desk.ask(str(tick), tick, now_s + due_s)
    desk.scheduler._max_batch = 2
    gate(desk).go(3)
    desk.take(5)
    assert desk.policy.batches == [[0], [2, 4], [1, 3]]


def test_a_full_queue_refuses_a_new_session_and_keeps_the_others() -> None:
    desk = Desk(GatedPolicy(), max_pending=2)
    desk.ask("a", 0)
    gate(desk).wait_until_busy()
    desk.ask("b", 1)
    desk.ask("c", 2)
    desk.ask("d", 3)
    desk.ask("b", 4)  # b waits already: its newer observation takes no more room
    assert desk.scheduler.num_pending == 2
    gate(desk).go(2)
    outcomes = {name: result.outcome for name, result in desk.take(5).items()}
    assert outcomes == {
        "a:0": "answered",
        "b:1": "superseded",
        "c:2": "answered",
        "d:3": "overloaded",
        "b:4": "answered",
    }
    desk.scheduler.close()


def test_a_cancelled_request_is_not_worked_on(desk: Desk) -> None:
    desk.ask("a", 0)
    gate(desk).wait_until_busy()
    desk.scheduler.cancel(desk.ask("b", 1))
    desk.ask("c", 2)
    gate(desk).go(2)
    assert set(desk.take(2)) == {"a:0", "c:2"}
    assert desk.policy.batches == [[0], [2]]


def test_a_cancelled_request_does_not_take_its_successor_along(desk: Desk) -> None:
    desk.ask("a", 0)
    gate(desk).wait_until_busy()
    older = desk.ask("b", 1)
    desk.ask("b", 2)
    desk.scheduler.cancel(older)
    gate(desk).go(2)
    assert desk.take(3)["b:2"].outcome == "answered"


def test_a_session_can_be_reset(desk: Desk) -> None:
    desk.ask("a", 0)
    gate(desk).wait_until_busy()
    desk.ask("a", 1)
    desk.scheduler.forget("a")
    desk.scheduler.forget("nobody")
    gate(desk).go()
    results = desk.take(2)
    assert results["a:1"].outcome == "superseded"
    assert "reset" in results["a:1"].text


def test_the_end_answers_what_is_under_way_and_refuses_the_rest(desk: Desk) -> None:
    desk.ask("a", 0)
    gate(desk).wait_until_busy()
    desk.ask("b", 1)
    closing = threading.Thread(target=desk.scheduler.close)
    closing.start()
    assert desk.take(1)["b:1"].outcome == "draining"
    gate(desk).go()
    assert desk.take(1)["a:0"].outcome == "answered"
    closing.join(WAIT_S)
    assert not closing.is_alive()
    desk.ask("c", 2)
    assert desk.take(1)["c:2"].outcome == "draining"


class PickyPolicy(BatchPolicy):
    """Refuses tick 13, whoever else is in the batch, and forgets one answer of a batch of five."""

    def infer_batch(self, observations: list[Observation], prefixes: list[FloatArray]) -> list[ActionChunk]:  # pyright: ignore[reportIncompatibleMethodOverride]
        chunks = super().infer_batch(observations, prefixes)
        if any(observation.tick == 13 for observation in observations):
            raise ValueError("tick 13 brings\nbad luck")
        if any(observation.tick == 14 for observation in observations):
            raise OSError("a secret path")
        return chunks[:-1] if len(chunks) == 5 else chunks


def run_at_once(policy: BatchPolicy, *ticks: int) -> tuple[dict[str, Result], list[list[int]]]:
    """All of these in one batch: they are queued before the warm-up ends."""
    go, is_warm = threading.Event(), threading.Event()
    results: queue.Queue[tuple[str, Result]] = queue.Queue()
    scheduler = Scheduler(policy, 8, 64)

    def warm_up() -> ServiceTimes:
        assert go.wait(WAIT_S)
        return ServiceTimes()

    scheduler.start(warm_up, lambda error: is_warm.set())
    for tick in ticks:
        query = Query(observed(tick), NO_PREFIX)
        scheduler.submit(
            Job(str(tick), query, time.monotonic(), math.inf, lambda result, t=tick: results.put((str(t), result)))
        )
    go.set()
    done = dict(results.get(timeout=WAIT_S) for _ in ticks)
    scheduler.close()
    return done, policy.batches


def test_one_bad_request_spoils_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "cerebella.serving"):
        results, batches = run_at_once(PickyPolicy(), 11, 12, 13, 14)
    assert batches[0] == [11, 12, 13, 14]
    assert [results[tick].outcome for tick in ("11", "12", "13", "14")] == ["answered", "answered", "failed", "failed"]
    assert results["13"].text == "the policy failed: tick 13 brings bad luck"
    assert results["14"].text == "the policy failed"  # nothing of the inside
    assert results["14"].error_id in caplog.text
    assert "a secret path" in caplog.text


def test_a_policy_that_loses_an_answer_is_asked_one_by_one() -> None:
    results, batches = run_at_once(PickyPolicy(), 1, 2, 3, 4, 5)
    assert {result.outcome for result in results.values()} == {"answered"}
    assert [len(batch) for batch in batches] == [5, 1, 1, 1, 1, 1]


def test_guided_requests_have_their_own_call() -> None:
    desk = Desk(BatchPolicy(guided_metadata()))
    guidance = Guidance(np.full((3, 4), 5.0, dtype=np.float32), 1, 4)
    desk.ask("a", 1, guidance=guidance)
    answer = desk.take(1)["a:1"].answer
    assert answer is not None
    assert answer.chunk.actions[0, 0] == 5.0
    assert answer.chunk.actions[1, 0] == 2.0
    desk.scheduler.close()


def test_a_warm_up_that_fails_is_reported_and_nothing_runs() -> None:
    failures: queue.Queue[Exception | None] = queue.Queue()
    scheduler = Scheduler(BatchPolicy(), 8, 8)

    def warm_up() -> ServiceTimes:
        raise OSError("no memory")

    scheduler.start(warm_up, failures.put)
    assert str(failures.get(timeout=WAIT_S)) == "no memory"
    scheduler.close()
