"""The one inference thread: takes what waits, batch by batch, and hands results back.

Requests belong to sessions. A session has at most one request waiting: a newer one takes the place of an older one, which
ends as `superseded`. What is already in the policy is finished. Each time the policy becomes free, `choose_batch` decides
what it does next.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cerebella.interfaces import Policy
from cerebella.serving.batching import ServiceTimes, Waiting, choose_batch
from cerebella.serving.errors import Outcome
from cerebella.serving.evaluate import evaluate
from cerebella.serving.query import Answer, Query

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Result:
    """How a request ended: with an answer, or with an outcome other than `answered` and words for the client."""

    outcome: Outcome
    answer: Answer | None = None
    text: str = ""
    error_id: str = ""


@dataclass(frozen=True, eq=False)
class Job:
    """One request on its way.

    Args:
        session: whose it is. query: what is asked.
        arrived_s, due_s: monotonic seconds; due_s is inf without a deadline.
        on_done: called once, from any thread, quickly.
    """

    session: str
    query: Query
    arrived_s: float
    due_s: float
    on_done: Callable[[Result], None]


class Scheduler:
    """Runs a policy on its own thread. Methods may be called from any thread and do not wait, except `close`.

    Args:
        policy: called from the inference thread only.
        max_batch, max_pending: requests evaluated together, and requests that wait, at most.
        on_batch: told of every inference: batch size and seconds.
    """

    def __init__(
        self, policy: Policy, max_batch: int, max_pending: int, on_batch: Callable[[int, float], None] | None = None
    ) -> None:
        self._policy = policy
        self._max_batch = max_batch
        self._max_pending = max_pending
        self._on_batch = on_batch
        self._law = ServiceTimes()
        self._condition = threading.Condition()
        self._pending: dict[str, Job] = {}
        self._is_closed = False
        self._busy_since_s: float | None = None
        self._is_warm = False
        self._begin: tuple[Callable[[], ServiceTimes], Callable[[Exception | None], None]] | None = None
        self._thread = threading.Thread(target=self._work, name="cerebella-inference", daemon=True)

    def start(self, warm_up: Callable[[], ServiceTimes], on_warm: Callable[[Exception | None], None]) -> None:
        """Begin: first `warm_up`, on the thread that will ask the policy later, then work.

        `on_warm` is called once from that thread, with what `warm_up` raised if it did; then nothing is worked on.
        """
        self._begin = (warm_up, on_warm)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a request; an older one of its session that still waits ends as `superseded`."""
        with self._condition:
            older = self._pending.get(job.session)
            is_full = older is None and len(self._pending) >= self._max_pending
            is_closed = self._is_closed
            if not is_full and not is_closed:
                self._pending[job.session] = job
                self._condition.notify()
        if is_closed:
            job.on_done(Result("draining", text="the server is shutting down"))
        elif is_full:
            job.on_done(Result("overloaded", text=f"the queue is full ({self._max_pending} robots wait)"))
        elif older is not None:
            older.on_done(Result("superseded", text="a newer observation of this session came first"))

    def cancel(self, job: Job) -> None:
        """Forget a request whose client has left; nothing is called back if it still waited."""
        with self._condition:
            if self._pending.get(job.session) is job:
                del self._pending[job.session]

    def forget(self, session: str) -> None:
        """End what waits for a session as `superseded`."""
        with self._condition:
            job = self._pending.pop(session, None)
        if job is not None:
            job.on_done(Result("superseded", text="the session was reset"))

    @property
    def num_pending(self) -> int:
        """Requests that wait."""
        return len(self._pending)

    def busy_s(self) -> float:
        """Seconds since the running inference began; 0 if none runs."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread after the inference under way; what waits ends as `draining`. May be called twice.

        A warm-up under way is not waited for, and a policy that does not return for `timeout_s` is left behind.
        """
        with self._condition:
            self._is_closed = True
            waiting = list(self._pending.values())
            self._pending.clear()
            self._condition.notify()
        for job in waiting:
            job.on_done(Result("draining", text="the server is shutting down"))
        if self._is_warm:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.error("the policy's inference did not return within %g s of the end of the server", timeout_s)

    def _work(self) -> None:
        assert self._begin is not None
        warm_up, on_warm = self._begin
        try:
            self._law = warm_up()
        except Exception as error:  # handed over to whoever waits for the warm-up
            on_warm(error)
            return
        self._is_warm = True
        on_warm(None)
        while True:
            with self._condition:
                while not self._pending and not self._is_closed:
                    self._condition.wait()
                if self._is_closed:
                    return
                jobs = self._take()
            self._run(jobs)

    def _take(self) -> list[Job]:
        jobs = list(self._pending.values())
        if len(jobs) > 1:
            waiting = [Waiting(job.due_s, job.arrived_s, job.query.guidance is not None) for job in jobs]
            jobs = [jobs[i] for i in choose_batch(waiting, time.monotonic(), self._max_batch, self._law)]
        for job in jobs:
            del self._pending[job.session]
        return jobs

    def _run(self, jobs: Sequence[Job]) -> None:
        started_s = time.monotonic()
        self._busy_since_s = started_s
        outcomes = evaluate(self._policy, [job.query for job in jobs])
        self._busy_since_s = None
        duration_s = time.monotonic() - started_s
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Exception):
                job.on_done(_failure(job, outcome))
            else:
                answer = Answer(outcome, duration_s, started_s - job.arrived_s, len(jobs))
                job.on_done(Result("answered", answer))
        if not any(isinstance(outcome, Exception) for outcome in outcomes):
            self._law.add(len(jobs), duration_s)
        if self._on_batch is not None:
            self._on_batch(len(jobs), duration_s)


def _failure(job: Job, error: Exception) -> Result:
    """The trace goes to the log; the client learns the words of a ValueError, which are meant for people, or nothing."""
    error_id = secrets.token_hex(4)
    log.error("error %s: the policy failed for session %s", error_id, job.session, exc_info=error)
    text = "the policy failed"
    if isinstance(error, ValueError):
        text += f": {' '.join(str(error).split())[:300]}"
    return Result("failed", text=text, error_id=error_id)
