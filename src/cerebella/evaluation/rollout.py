"""Episodes under an executor: many at once on the virtual clock, or one after the other on the wall clock."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cerebella.evaluation.delays import DelayTrace, constant_trace
from cerebella.evaluation.metrics import CommandLog, command_log, episode_metrics, plan_disagreement
from cerebella.interfaces import Environment, Policy, Reply, Request, Status, Transport
from cerebella.runtime.clock import Clock, VirtualClock, WallClock
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.drive import drive
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.trace import RequestRecord
from cerebella.runtime.transport import InferenceQueue, ThreadTransport, VirtualTransport, batched
from cerebella.types import Action, ActionChunk, ImageArray, Observation

MakeEnvironment = Callable[[], Environment]
PolicySource = Policy | Callable[[Environment], Policy]
"""A policy that serves every environment (then their requests share batches), or one made for each from the environment
itself, as an expert that needs the truth."""


@runtime_checkable
class DrawsWhenAsked(Protocol):
    """An environment whose pictures take much longer than its numbers: on the virtual clock they are drawn for requests only."""

    def measure(self) -> Observation:
        """As `Environment.observe`, without pictures."""
        ...

    def look(self) -> dict[str, ImageArray]:
        """The pictures of `Environment.observe`."""
        ...


@dataclass(frozen=True, eq=False)
class Episode:
    """What happened in one episode.

    Args:
        seed, prompt, status: as the environment says. task: the environment's name.
        log: the command stream. requests: one record per inference.
        metrics: the row's numbers: the environment's own and the executor's.
        snapshots: one per tick, before the command was applied, and the final one; empty unless asked for.
    """

    seed: int
    prompt: str
    task: str
    status: Status
    log: CommandLog
    requests: Sequence[RequestRecord]
    metrics: dict[str, float | None]
    snapshots: Sequence[Any] = field(default_factory=tuple)


def rollout_virtual(
    policy: PolicySource,
    make_environment: MakeEnvironment,
    config: ExecutorConfig,
    delay: int | DelayTrace,
    seeds: Sequence[int],
    *,
    batch: int = 32,
    max_ticks: int = 10_000,
    on_episode: Callable[[Episode], None] | None = None,
) -> list[Episode]:
    """Run one episode per seed on the virtual clock, `batch` of them in lock step, every reply `delay` ticks late.

    All requests that are open when the first reply is due are answered by one `infer_batch`, each from its own
    observation as it was. A finished episode's place is taken by the next seed. The same seeds give the same episodes, in
    the order of `seeds`.

    Args:
        delay: ticks between every observation and the arrival of its reply, or a trace of them.
        max_ticks: stop an episode after so many ticks even if it is not done.
        on_episode: called as each one ends, in the order in which they end.

    Raises:
        ValueError: a negative delay, no seed, or a batch below 1.
    """
    trace = delay if isinstance(delay, DelayTrace) else constant_trace(delay)
    if batch < 1:
        raise ValueError(f"batch must be 1 or more environments; got {batch}")
    source = _shared_queue(policy)
    waiting = iter(enumerate(seeds))
    finished: dict[int, Episode] = {}
    running: list[_Run] = []
    for _ in range(min(batch, len(seeds))):
        run = _next_run(waiting, make_environment(), source, config, trace)
        if run is not None:
            running.append(run)
    while running:
        for run in running:
            run.observe()
        for run in running:
            run.act()
        survivors: list[_Run] = []
        for run in running:
            if not run.is_done(max_ticks):
                survivors.append(run)
                continue
            finished[run.index] = episode = run.finish()
            if on_episode is not None:
                on_episode(episode)
            successor = _next_run(waiting, run.environment, source, config, trace)
            if successor is not None:
                survivors.append(successor)
        running = survivors
    return [finished[index] for index in range(len(seeds))]


def rollout_wall(
    policy: PolicySource,
    environment: Environment,
    config: ExecutorConfig,
    latency_s: Callable[[int], float] | None,
    seeds: Sequence[int],
    *,
    delay_estimator: DelayEstimator,
    budget_s: float = float("inf"),
    max_ticks: int = 10_000,
    clock: Clock | None = None,
    on_episode: Callable[[Episode], None] | None = None,
    with_snapshots: bool = False,
) -> list[Episode]:
    """Run episodes on the wall clock with a worker thread for the inference: what a robot would do, at its rate.

    Args:
        latency_s: number of a request (over all episodes) to the total seconds that its reply takes at least.
        delay_estimator: shared by the episodes, as a robot's would be.
        budget_s: no new episode starts after so many seconds; the first always does.
        with_snapshots: keep `environment.snapshot()` of every tick, for a video.
    """
    clock = clock or WallClock()
    episodes: list[Episode] = []
    num_requests = 0
    start_s = clock.now_s()
    for seed in seeds:
        if episodes and clock.now_s() - start_s > budget_s:
            break
        environment.reset(seed)
        own = policy(environment) if callable(policy) else policy
        first = num_requests
        recorder = _ChunkRecorder(
            ThreadTransport(own, clock, None if latency_s is None else lambda k, first=first: latency_s(first + k))
        )
        executor = Executor(own.metadata, config, recorder, delay_estimator)
        prompt = environment.observe().prompt
        snapshots = _Snapshots(environment) if with_snapshots else None
        try:
            drive(environment, executor, clock, max_ticks, snapshots)
        finally:
            executor.close()
        num_requests += len(executor.requests)
        kept = snapshots.kept if snapshots else ()
        episode = _episode(seed, prompt, environment, executor, recorder, kept)
        episodes.append(episode)
        if on_episode is not None:
            on_episode(episode)
    return episodes


class _ChunkRecorder:
    """A transport that remembers the chunks passing through it, to compare successive plans."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.chunks: dict[int, ActionChunk] = {}

    def submit(self, request: Request) -> None:
        self._transport.submit(request)

    def poll(self, tick: int) -> list[Reply]:
        replies = self._transport.poll(tick)
        for reply in replies:
            if reply.chunk is not None:
                self.chunks[reply.request_id] = reply.chunk
        return replies

    def close(self) -> None:
        self._transport.close()


class _DrawingTransport:
    """Adds the pictures of its environment to every request, at the tick of its observation."""

    def __init__(self, transport: Transport, environment: DrawsWhenAsked) -> None:
        self._transport, self._environment = transport, environment

    def submit(self, request: Request) -> None:
        seen = replace(request.observation, images=self._environment.look())
        self._transport.submit(replace(request, observation=seen))

    def poll(self, tick: int) -> list[Reply]:
        return self._transport.poll(tick)

    def close(self) -> None:
        self._transport.close()


class _Snapshots:
    """Keeps `environment.snapshot()` now and whenever it is called after a tick.

    Raises:
        ValueError: the environment has no snapshots, so no video can be made of it.
    """

    def __init__(self, environment: Environment) -> None:
        take = getattr(environment, "snapshot", None)
        if take is None:
            raise ValueError(f"{type(environment).__name__} has no snapshot(): no video can be made of it")
        self._take: Callable[[], Any] = take
        self.kept: list[Any] = [take()]

    def __call__(self, observation: Observation, action: Action) -> None:
        self.kept.append(self._take())


class _Run:
    """One environment with its executor, in lock step with others."""

    def __init__(
        self,
        index: int,
        seed: int,
        environment: Environment,
        source: Callable[[Environment], tuple[Policy, InferenceQueue]],
        config: ExecutorConfig,
        delays: DelayTrace,
    ) -> None:
        environment.reset(seed)
        policy, queue = source(environment)
        self.index = index
        self.environment = environment
        self._seed = seed
        self._clock = VirtualClock()
        transport: Transport = VirtualTransport(queue, lambda number: delays(seed, number))
        self._measure = environment.observe
        if isinstance(environment, DrawsWhenAsked):
            transport, self._measure = _DrawingTransport(transport, environment), environment.measure
        self._recorder = _ChunkRecorder(transport)
        estimator = DelayEstimator(initial=delays.initial, margin=delays.margin)
        self._executor = Executor(policy.metadata, config, self._recorder, estimator)
        self._prompt = ""
        self._observation: Observation | None = None

    def observe(self) -> None:
        self._observation = self._measure()
        self._prompt = self._observation.prompt
        self._executor.observe(self._observation, self._clock.now_s())

    def act(self) -> None:
        action: Action = self._executor.command(self._clock.now_s())
        self.environment.apply(action)
        self._clock.advance(1.0 / self.environment.embodiment.control_hz)

    def is_done(self, max_ticks: int) -> bool:
        return self.environment.status().is_done or len(self._executor.trace) >= max_ticks

    def finish(self) -> Episode:
        self._executor.close()
        return _episode(self._seed, self._prompt, self.environment, self._executor, self._recorder, ())


def _shared_queue(policy: PolicySource) -> Callable[[Environment], tuple[Policy, InferenceQueue]]:
    """One queue for a policy that serves all environments; one each for policies made from their environment."""
    if callable(policy):

        def make(environment: Environment) -> tuple[Policy, InferenceQueue]:
            own = policy(environment)
            return own, InferenceQueue(batched(own))

        return make
    queue = InferenceQueue(batched(policy))
    return lambda environment: (policy, queue)


def _next_run(
    waiting: Iterator[tuple[int, int]],
    environment: Environment,
    source: Callable[[Environment], tuple[Policy, InferenceQueue]],
    config: ExecutorConfig,
    delays: DelayTrace,
) -> _Run | None:
    following = next(waiting, None)
    return None if following is None else _Run(*following, environment, source, config, delays)


def _episode(
    seed: int,
    prompt: str,
    environment: Environment,
    executor: Executor,
    recorder: _ChunkRecorder,
    snapshots: Sequence[Any],
) -> Episode:
    log = command_log(executor.trace, environment.embodiment)
    status = environment.status()
    metrics: dict[str, float | None] = {name: float(value) for name, value in status.metrics.items()}
    metrics |= episode_metrics(log, executor.requests)
    metrics["underruns"] = executor.counters.num_stops
    metrics["num_delay_clamped"] = executor.counters.num_delay_clamped
    metrics["num_untrained"] = executor.counters.num_untrained
    metrics["plan_disagreement_m"] = _mean_disagreement(executor.requests, recorder.chunks, log.positions)
    return Episode(
        seed=seed,
        prompt=prompt,
        task=environment.embodiment.name,
        status=status,
        log=log,
        requests=tuple(executor.requests),
        metrics=metrics,
        snapshots=tuple(snapshots),
    )


def _mean_disagreement(
    requests: Sequence[RequestRecord], chunks: dict[int, ActionChunk], positions: Sequence[int]
) -> float | None:
    """Mean over successive accepted plans, metres."""
    columns = list(positions)
    accepted = [r for r in requests if r.consumed >= 0 and r.id in chunks]
    values: list[float] = []
    for old, new in pairwise(accepted):
        shift = round((new.arrival_tick - new.consumed) - (old.arrival_tick - old.consumed))
        old_rows, new_rows = chunks[old.id].actions[:, columns], chunks[new.id].actions[:, columns]
        value = plan_disagreement(old_rows, new_rows, shift, len(new.action_prefix))
        if value is not None:
            values.append(value)
    return float(np.mean(values)) if values else None
