"""How a request reaches the policy and how its reply comes back: on virtual time, or through a worker thread.

A transport holds no logic of the asynchronous rule. A failed inference comes back as a reply with an error; the
executor decides what that means.
"""

import queue
import threading
from collections.abc import Callable

import numpy as np

from cerebella.interfaces import Policy, Reply, Request
from cerebella.runtime.clock import Clock
from cerebella.types import ActionChunk, Observation

InferBatch = Callable[[list[Request]], list[ActionChunk]]
"""Many requests in, one chunk for each out, in the same order."""

_JOIN_TIMEOUT_S = 30.0


def batched(policy: Policy) -> InferBatch:
    """Answers requests by the policy's own `infer_batch` if it has one, else by its `infer`, one after the other.

    Requests with guidance go to its `infer_guided_batch` or `infer_guided`; a policy that has neither fails.
    """
    plainly = getattr(policy, "infer_batch", None) or _one_by_one(policy.infer)
    one_guided = getattr(policy, "infer_guided", None)
    guided = getattr(policy, "infer_guided_batch", None) or (one_guided and _one_by_one(one_guided))

    def infer_batch(requests: list[Request]) -> list[ActionChunk]:
        chunks: dict[int, ActionChunk] = {}
        plain = [request for request in requests if request.guidance is None]
        if plain:
            answers = plainly([request.observation for request in plain], [request.action_prefix for request in plain])
            chunks |= zip(map(id, plain), answers, strict=True)
        drawn = [request for request in requests if request.guidance is not None]
        if drawn:
            if guided is None:
                raise ValueError(
                    f"the policy {policy.metadata.policy_id} has no infer_guided, which a request with guidance needs"
                )
            answers = guided([request.observation for request in drawn], [request.guidance for request in drawn])
            chunks |= zip(map(id, drawn), answers, strict=True)
        return [chunks[id(request)] for request in requests]

    return infer_batch


def _one_by_one(infer: Callable[..., ActionChunk]) -> Callable[..., list[ActionChunk]]:
    return lambda *columns: [infer(*row) for row in zip(*columns, strict=True)]


class InferenceQueue:
    """Requests of many executors, evaluated together when the first of them is needed.

    Executors that run in lock step (all observe, then all command) thereby share one batched inference per tick.
    Deterministic: the batch has the order in which requests were added.
    """

    def __init__(self, infer_batch: InferBatch) -> None:
        self._infer_batch = infer_batch
        self._num_added = 0
        self._pending: dict[int, Request] = {}
        self._replies: dict[int, Reply] = {}

    def add(self, request: Request) -> int:
        """Put a request in; returns a ticket for `take`."""
        ticket = self._num_added
        self._num_added += 1
        self._pending[ticket] = request.kept()
        return ticket

    def take(self, ticket: int) -> Reply:
        """The reply of a ticket, once. Evaluates everything that is pending, if this one still is."""
        if ticket in self._pending:
            requests = list(self._pending.values())
            self._replies.update(zip(self._pending, _evaluate(self._infer_batch, requests), strict=True))
            self._pending.clear()
        return self._replies.pop(ticket)

    def discard(self, ticket: int) -> None:
        """Forget a ticket that nobody will take."""
        self._pending.pop(ticket, None)
        self._replies.pop(ticket, None)


class VirtualTransport:
    """Replies after a stated number of ticks, whatever the inference really takes.

    Args:
        inference: an `infer_batch` function, or a queue shared with other executors.
        delays: request number (0, 1, ...) to ticks between the observation and the arrival; 0 arrives in its own tick.
    """

    def __init__(self, inference: InferenceQueue | InferBatch, delays: Callable[[int], int]) -> None:
        self._queue = inference if isinstance(inference, InferenceQueue) else InferenceQueue(inference)
        self._delays = delays
        self._num_submitted = 0
        self._due_ticks: dict[int, int] = {}

    def submit(self, request: Request) -> None:
        """Send a request; its reply is due `delays(number)` ticks after its observation."""
        delay = self._delays(self._num_submitted)
        if delay < 0:
            raise ValueError(f"the delay of request number {self._num_submitted} must be 0 or more ticks; got {delay}")
        self._num_submitted += 1
        self._due_ticks[self._queue.add(request)] = request.observation.tick + delay

    def poll(self, tick: int) -> list[Reply]:
        """The replies due by `tick`; ordered by due tick, then by submission."""
        due = sorted((due_tick, ticket) for ticket, due_tick in self._due_ticks.items() if due_tick <= tick)
        for _, ticket in due:
            del self._due_ticks[ticket]
        return [self._queue.take(ticket) for _, ticket in due]

    def close(self) -> None:
        """Take this transport's requests out of the queue."""
        for ticket in self._due_ticks:
            self._queue.discard(ticket)
        self._due_ticks.clear()


class ThreadTransport:
    """One worker thread calls the policy; the control thread never waits for it.

    Of the requests that wait while the worker is busy only the newest is answered: the others were given up.

    Args:
        policy: called from the worker thread only.
        clock: the one that drives the control loop.
        latency_s: request number (0, 1, ...) to the total seconds between submission and reply. A reply that is ready
            earlier waits; one that takes longer by itself comes when it is ready. None adds nothing.
    """

    def __init__(self, policy: Policy, clock: Clock, latency_s: Callable[[int], float] | None = None) -> None:
        self._infer_batch = batched(policy)
        self._clock = clock
        self._latency_s = latency_s
        self._num_submitted = 0
        self._requests: queue.SimpleQueue[tuple[Request, float] | None] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self._is_closed = threading.Event()
        self._worker = threading.Thread(target=self._work, name="cerebella-inference", daemon=True)
        self._worker.start()

    def submit(self, request: Request) -> None:
        """Hand a request to the worker."""
        if self._is_closed.is_set():
            raise RuntimeError(f"request {request.id} was submitted after close()")
        submitted_s = self._clock.now_s()
        latency_s = 0.0 if self._latency_s is None else self._latency_s(self._num_submitted)
        self._num_submitted += 1
        self._requests.put((request.kept(), submitted_s + latency_s))

    def poll(self, tick: int) -> list[Reply]:
        """Whatever the worker has finished; `tick` does not matter on the wall clock."""
        replies: list[Reply] = []
        while not self._replies.empty():
            replies.append(self._replies.get())
        return replies

    def close(self) -> None:
        """End the worker: an inference under way is waited for, its reply is dropped.

        Raises:
            RuntimeError: the policy did not return within half a minute.
        """
        self._is_closed.set()
        self._requests.put(None)
        self._worker.join(_JOIN_TIMEOUT_S)
        if self._worker.is_alive():
            raise RuntimeError(f"the policy's inference did not return within {_JOIN_TIMEOUT_S:g} s of close()")

    def _work(self) -> None:
        while (item := self._newest()) is not None and not self._is_closed.is_set():
            request, ready_s = item
            [reply] = _evaluate(self._infer_batch, [request])
            if self._is_closed.wait(max(0.0, ready_s - self._clock.now_s())):
                return
            self._replies.put(reply)

    def _newest(self) -> tuple[Request, float] | None:
        item = self._requests.get()
        while item is not None and not self._requests.empty():
            item = self._requests.get()
        return item


def warm_up(policy: Policy, observation: Observation, num_calls: int, clock: Clock) -> list[float]:
    """Call the policy before anything moves; returns the seconds of every call, the slow first one included."""
    if num_calls < 1:
        raise ValueError(f"num_calls must be 1 or more; got {num_calls}")
    infer_batch = batched(policy)
    empty = np.zeros((0, policy.metadata.embodiment.action_dim), dtype=np.float32)
    durations_s: list[float] = []
    for _ in range(num_calls):
        start_s = clock.now_s()
        infer_batch([Request(0, observation, empty, 0)])
        durations_s.append(clock.now_s() - start_s)
    return durations_s


def _evaluate(infer_batch: InferBatch, requests: list[Request]) -> list[Reply]:
    """One reply per request. If the batch fails, each request is tried alone, so that one cannot spoil the others."""
    try:
        chunks = infer_batch(requests)
        if len(chunks) != len(requests):
            raise ValueError(f"infer_batch returned {len(chunks)} chunks for {len(requests)} observations")
        if foreign := [chunk for chunk in chunks if not isinstance(chunk, ActionChunk)]:
            raise TypeError(f"the policy returned a {type(foreign[0]).__name__}, not an ActionChunk")
    except Exception as error:  # the boundary to a foreign policy: whatever it raises becomes a reply, and is counted
        if len(requests) > 1:
            return [reply for request in requests for reply in _evaluate(infer_batch, [request])]
        return [Reply(requests[0].id, error=f"{type(error).__name__}: {error}")]
    return [Reply(request.id, chunk=chunk) for request, chunk in zip(requests, chunks, strict=True)]
