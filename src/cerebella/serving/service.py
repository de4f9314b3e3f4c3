"""One policy behind all dialects: validated queries in, answers out, on the event loop; inference on its own thread."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np

from cerebella.interfaces import Policy, PolicyMetadata
from cerebella.serving.errors import PeerGone, Reason, RequestFailed
from cerebella.serving.metrics import Metrics
from cerebella.serving.query import Answer, Query
from cerebella.serving.scheduler import Job, Result, Scheduler
from cerebella.serving.warm_up import warm_up

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceConfig:
    """How requests are scheduled.

    Args:
        max_batch: requests evaluated together at most; 1 if the policy has no `infer_batch`.
        max_pending: requests that wait at most (one per session); further ones end as `overloaded`.
        max_inference_s: after so many seconds in one inference the server reports itself as not ready.
    """

    max_batch: int = 8
    max_pending: int = 256
    max_inference_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_pending", "max_inference_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0; got {getattr(self, name)}")


class Service:
    """A policy that many connections ask at once. All methods but `warm_up` belong to the event loop.

    Args:
        policy: called from the inference thread only.
        config: how requests are scheduled.

    Attributes:
        metadata: of the policy. server_id: random per start, so that a client notices a restart.
        metrics: what was counted.
    """

    def __init__(self, policy: Policy, config: ServiceConfig | None = None) -> None:
        self.config = config or ServiceConfig()
        self.metadata: PolicyMetadata = policy.metadata
        self.server_id = secrets.token_hex(8)
        self.metrics = Metrics()
        self._policy = policy
        can_batch = getattr(policy, "infer_batch", None) is not None
        self.max_batch = self.config.max_batch if can_batch else 1
        self._scheduler = Scheduler(policy, self.max_batch, self.config.max_pending, on_batch=self.metrics.batch)
        self._workers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="cerebella-decode")
        self._is_warm = False
        self._opened = asyncio.Event()  # warm, or never to be
        self._is_draining = False
        self._num_open = 0
        self.metrics.watch(lambda: self._scheduler.num_pending, lambda: self.is_ready)

    @property
    def is_ready(self) -> bool:
        """Warm, not draining, and the policy is not stuck in one inference."""
        return self.state == "ready"

    @property
    def is_stuck(self) -> bool:
        """One inference has taken longer than `max_inference_s`."""
        return self._scheduler.busy_s() > self.config.max_inference_s

    @property
    def state(self) -> str:
        """`ready`, or why not: `warming up`, `shutting down`, `stuck in one inference`."""
        if self._is_draining:
            return "shutting down"
        if not self._is_warm:
            return "warming up"
        return "stuck in one inference" if self.is_stuck else "ready"

    async def warm_up(self, on_progress: Callable[[str], None] = lambda text: None) -> None:
        """Run the policy until later calls find everything compiled, and learn how long each batch size takes. Once.

        Raises:
            Exception: whatever the policy raises; then the server must not open.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish(error: Exception | None) -> None:
            if done.cancelled():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def on_warm(error: Exception | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before the warm-up has
                loop.call_soon_threadsafe(finish, error)

        self._scheduler.start(lambda: warm_up(self._policy, self.max_batch, on_progress), on_warm)
        await done
        self._is_warm = True
        self._opened.set()

    async def wait_until_warm(self) -> None:
        """Return once `warm_up` is done.

        Raises:
            PeerGone: the server shuts down instead.
        """
        await self._opened.wait()
        if not self._is_warm:
            raise PeerGone("the server is shutting down", is_draining=True)

    async def infer(self, session: str, query: Query, dialect: str) -> Answer:
        """Ask the policy, and wait; see `submit`.

        Raises:
            RequestFailed: no chunk; says why in words that may be sent.
        """
        return answer_of(await self.submit(session, query, dialect))

    def submit(self, session: str, query: Query, dialect: str) -> "asyncio.Future[Result]":
        """Ask the policy; the future's result says how it ended. Cancel the future to withdraw the question.

        A newer query of the same session ends an older one that has not been started as `superseded`.

        Args:
            session: unique per robot; begin it with the peer's id, so that no two connections meet in one.
            query: see `Query`. dialect: label for the metrics.
        """
        if not self._is_warm:
            raise RuntimeError("Service.submit was called before warm_up was done")
        started_s = time.monotonic()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def finish(result: Result) -> None:
            if not future.done():
                future.set_result(result)

        def hand_over(result: Result) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before a stuck policy has
                loop.call_soon_threadsafe(finish, result)

        job = Job(session, query, arrived_s=started_s, due_s=started_s + query.deadline_s, on_done=hand_over)

        def settle(future: "asyncio.Future[Result]") -> None:
            self._num_open -= 1
            if future.cancelled():
                self._scheduler.cancel(job)
            ended_s = time.monotonic()
            outcome = "cancelled" if future.cancelled() else future.result().outcome
            self.metrics.request(dialect, outcome, ended_s - started_s, is_late=ended_s > job.due_s)

        self._num_open += 1
        future.add_done_callback(settle)
        self.metrics.asked(session)
        if self._is_draining:
            finish(Result("draining", text="the server is shutting down"))
        else:
            self._scheduler.submit(job)
        return future

    async def offload(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run something slow (decoding pictures) on a worker thread, so that the event loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, lambda: function(*args, **kwargs))

    def reject(self, dialect: str, reason: Reason) -> None:
        """Count a message or a connection that was refused."""
        self.metrics.rejected(dialect, reason)

    def forget(self, session: str) -> None:
        """End what is pending of a session (an episode ended, a client asked for a reset)."""
        self._scheduler.forget(session)

    def drain(self) -> None:
        """Refuse further queries; those under way go on."""
        self._is_draining = True
        self._opened.set()

    async def close(self) -> None:
        """End the inference thread; what still waits ends as `draining`."""
        self._is_draining = True
        await asyncio.to_thread(self._scheduler.close)
        self._workers.shutdown(wait=False, cancel_futures=True)

    @property
    def num_open(self) -> int:
        """Queries that are waiting or being worked on."""
        return self._num_open

    def empty_prefix(self) -> np.ndarray:
        """No action prefix: float32[0, action_dim]."""
        return np.zeros((0, self.metadata.embodiment.action_dim), dtype=np.float32)


def answer_of(result: Result) -> Answer:
    """The answer in a result.

    Raises:
        RequestFailed: there is none.
    """
    if result.answer is None:
        raise RequestFailed(result.outcome, result.text, result.error_id)
    return result.answer
