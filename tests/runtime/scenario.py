"""Random scenarios for the executor, and the law book that every one of them must obey.

A scenario is everything that can vary: horizons, mode, limits, the delay of each reply, which inferences fail, which
ticks the control loop misses. It is drawn from a seed, played on integer ticks, and judged from its log alone. The
judge does not reuse the executor's arithmetic: a command proves by its tag where it comes from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cerebella.interfaces import Reply, Request
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import GUIDED_MODES, ExecutorConfig, Mode
from cerebella.runtime.trace import RequestRecord, TickRecord
from cerebella.runtime.transport import VirtualTransport, batched
from cerebella.types import Action, FloatArray

from .tagged import CHANNELS, LIMIT, TaggedPolicy, make_embodiment, make_metadata, make_observation


@dataclass(frozen=True)
class Scenario:
    mode: Mode
    horizon: int
    execute_horizon: int
    max_trained_prefix: int
    initial_delay: int
    num_warmup: int
    value_limit: float
    delays: tuple[int, ...]
    failures: frozenset[int]
    nans: frozenset[int]
    forgets: frozenset[int]
    ticks: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Log:
    scenario: Scenario
    executor: Executor
    policy: TaggedPolicy
    commands: list[Action]
    most_in_flight: int


class WatchedTransport:
    """Counts the requests that are open at the same time; an answered one counts until the reply is handed over."""

    def __init__(self, inner: VirtualTransport) -> None:
        self.most_in_flight = 0
        self._inner = inner
        self._num_in_flight = 0

    def submit(self, request: Request) -> None:
        self._num_in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._num_in_flight)
        self._inner.submit(request)

    def poll(self, tick: int) -> list[Reply]:
        replies = self._inner.poll(tick)
        self._num_in_flight -= len(replies)
        return replies

    def close(self) -> None:
        self._inner.close()


def draw(mode: Mode, seed: int) -> Scenario:
    """Half of the scenarios are calm (steady delays, nothing fails); the others have jitter, bursts, faults, stalls."""
    rng = np.random.default_rng(seed)
    horizon = int(rng.integers(1, 17))
    num_ticks = int(rng.integers(30, 61))
    base, is_calm = int(rng.integers(0, 8)), bool(rng.integers(2))
    delays = np.full(num_ticks + 2, base)
    fails = np.zeros((3, num_ticks + 2), dtype=bool)
    gaps = np.ones(num_ticks, dtype=int)
    if not is_calm:
        delays += rng.integers(0, 4, size=delays.shape)
        delays[rng.random(delays.shape) < 0.1] += int(rng.integers(5, 3 * horizon + 6))
        fails = rng.random(fails.shape) < rng.choice([0.0, 0.05, 0.3])
        gaps += np.where(rng.random(gaps.shape) < rng.choice([0.0, 0.1]), rng.integers(1, 9, size=gaps.shape), 0)
    sets = [frozenset(np.flatnonzero(row).tolist()) for row in fails]
    return Scenario(
        mode=mode,
        horizon=horizon,
        execute_horizon=int(rng.integers(1, horizon + 1)),
        max_trained_prefix=int(rng.integers(0, horizon + 1)),
        initial_delay=int(rng.integers(0, 9)),
        num_warmup=int(rng.integers(0, 3)),
        value_limit=float(rng.choice([LIMIT, 1.5])),
        delays=tuple(delays.tolist()),
        failures=sets[0],
        nans=sets[1],
        forgets=sets[2],
        ticks=tuple((gaps.cumsum() + int(rng.integers(100))).tolist()),
        values=tuple(rng.normal(size=num_ticks).tolist()),
    )


def play(scenario: Scenario) -> Log:
    metadata = make_metadata(scenario.horizon, scenario.max_trained_prefix, make_embodiment(scenario.value_limit))
    policy = TaggedPolicy(metadata, scenario.failures, scenario.nans, scenario.forgets)
    transport = WatchedTransport(VirtualTransport(batched(policy), scenario.delays.__getitem__))
    config = ExecutorConfig(scenario.mode, scenario.execute_horizon, reply_timeout=10_000, degrade_after=None)
    estimator = DelayEstimator(scenario.initial_delay, window=10, num_warmup=scenario.num_warmup)
    executor = Executor(metadata, config, transport, estimator)
    commands: list[Action] = []
    for tick, value in zip(scenario.ticks, scenario.values, strict=True):
        executor.observe(make_observation(tick, value))
        commands.append(executor.command())
    executor.close()
    return Log(scenario, executor, policy, commands, transport.most_in_flight)


def judge(log: Log) -> None:
    """Raise an AssertionError for the first broken invariant (E-numbers of the executor's specification)."""
    trace, requests = log.executor.trace, log.executor.requests
    _judge_commands(log, trace)
    num_runs_before = np.concatenate([[0], np.cumsum([record.state == "run" for record in trace])])
    index_of = {record.tick: i for i, record in enumerate(trace)}
    for i, record in enumerate(trace):
        if record.state == "run":
            _judge_row(record, i, index_of, num_runs_before, requests)
        else:
            _judge_hold(log, i)
    _judge_order(trace)
    runs = np.asarray([r.values for r in trace if r.state == "run"], dtype=np.float32).reshape(-1, len(CHANNELS))
    for request in requests:
        _judge_request(log, request, index_of, num_runs_before, runs)
    _judge_counters(log)


def _judge_commands(log: Log, trace: Sequence[TickRecord]) -> None:
    """E-1: exactly one command per offered tick, in order, the one in the trace; finite and in range."""
    assert [command.tick for command in log.commands] == list(log.scenario.ticks)
    assert [record.tick for record in trace] == list(log.scenario.ticks)
    sent = np.stack([command.values for command in log.commands])
    assert np.array_equal(sent, np.stack([record.values for record in trace]))
    assert np.isfinite(sent).all()
    assert np.abs(sent[:, 3]).max() <= np.float32(log.scenario.value_limit)


def _judge_row(
    record: TickRecord, i: int, index_of: dict[int, int], num_runs_before: np.ndarray, requests: Sequence[RequestRecord]
) -> None:
    """E-2, E-6: row k is the k-th row really executed since the chunk's observation; the tag agrees with the trace.

    Without a hold or a missed tick in between this says: the intended tick is the current tick.
    """
    request = requests[record.chunk_id]
    assert request.observation_tick == record.observation_tick <= request.arrival_tick <= record.tick
    assert record.row == num_runs_before[i] - num_runs_before[index_of[record.observation_tick]]
    call, row, intended_tick, _ = (int(x) for x in record.values)
    num_promised = len(request.action_prefix)
    if record.row >= num_promised:
        assert (call, row, intended_tick) == (record.chunk_id, record.row, record.observation_tick + record.row)
    else:
        assert call < record.chunk_id
    origin_tick = intended_tick - row
    origin = index_of[origin_tick]
    assert row == num_runs_before[i] - num_runs_before[origin]
    num_idle = (record.tick - origin_tick) - (num_runs_before[i] - num_runs_before[origin])
    assert intended_tick + num_idle == record.tick


def _judge_hold(log: Log, i: int) -> None:
    """Holding repeats the last command (the measured pose before the first), and only happens while an answer is due."""
    trace = log.executor.trace
    record = trace[i]
    if i:
        assert np.array_equal(record.values, trace[i - 1].values)
    else:
        assert record.values[3] == np.clip(np.float32(log.scenario.values[0]), *_bounds(log.scenario))
    waiting = [r for r in log.executor.requests if r.observation_tick <= record.tick]
    last = waiting[-1]
    assert last.outcome == "in flight" or last.arrival_tick > record.tick or last.outcome == "rejected"


def _judge_order(trace: Sequence[TickRecord]) -> None:
    """E-3: never back to an older plan; rows of one chunk follow each other without gap or repetition."""
    runs = [record for record in trace if record.state == "run"]
    for before, after in pairwise(runs):
        assert after.chunk_id >= before.chunk_id
        assert after.values[0] >= before.values[0]
        if after.chunk_id == before.chunk_id:
            assert after.row == before.row + 1


def _judge_request(
    log: Log,
    request: RequestRecord,
    index_of: dict[int, int],
    num_runs_before: np.ndarray,
    runs: FloatArray,
) -> None:
    """E-4, E-5, E-6 for one request, against the commands that were really sent."""
    scenario, prefix = log.scenario, request.action_prefix
    first = num_runs_before[index_of[request.observation_tick]]
    longest = min(scenario.execute_horizon, scenario.horizon - scenario.execute_horizon)
    if scenario.mode == "prefix":
        longest = min(longest, scenario.max_trained_prefix)
    is_promising = scenario.mode in ("prefix", *GUIDED_MODES)
    assert len(prefix) <= (longest if is_promising else 0)
    is_answered = request.outcome != "in flight"
    arrival = index_of[request.arrival_tick] if is_answered else len(index_of)
    num_consumed = num_runs_before[arrival] - first
    num_kept = num_consumed if request.outcome == "rejected" else len(runs) - first
    num_kept = min(num_kept, len(prefix))
    assert np.array_equal(runs[first : first + num_kept], prefix[:num_kept])
    if request.outcome in ("used", "late"):
        assert request.consumed == num_consumed
        taken = log.executor.trace[arrival]
        assert (taken.state, taken.chunk_id, taken.row) == ("run", request.id, request.consumed)
        assert (request.outcome == "late") == (is_promising and request.consumed > len(prefix))
    has_faulty_prefix = scenario.mode == "prefix" and request.id in scenario.forgets and len(prefix) > 0
    value = abs(scenario.values[index_of[request.observation_tick]])
    is_far = value > 1.5 * scenario.value_limit + 1e-5 and len(prefix) < scenario.horizon
    is_bad = request.id in scenario.failures | scenario.nans or has_faulty_prefix or is_far
    if is_answered:
        assert request.num_ticks_waited == arrival - index_of[request.observation_tick]
        assert (request.outcome == "rejected") == is_bad
        _judge_question(log, request)


def _judge_question(log: Log, request: RequestRecord) -> None:
    """E-5 from the other side: the policy was asked what the record says; guided, with the promised rows first."""
    prefix = request.action_prefix
    if log.scenario.mode not in GUIDED_MODES:
        assert np.array_equal(log.policy.seen_prefixes[request.id], prefix)
        return
    assert len(log.policy.seen_prefixes[request.id]) == 0
    guided = [r.id for r in log.executor.requests if r.is_guided]
    if request.is_guided:
        guidance = log.policy.seen_guidances[guided.index(request.id)]
        assert guidance.num_frozen == len(prefix)
        assert guidance.execute_horizon == log.scenario.execute_horizon
        assert guidance.use_jacobian == (log.scenario.mode != "guided_identity")
        assert guidance.num_candidates == (16 if log.scenario.mode == "best_of_n" else 0)
        assert np.array_equal(guidance.plan[: len(prefix)], prefix)
    else:
        assert len(prefix) == 0


def _judge_counters(log: Log) -> None:
    """E-9: at most one request open; each ends in exactly one way; the counters agree with the records."""
    executor, counters = log.executor, log.executor.counters
    trace, ends = executor.trace, [request.outcome for request in executor.requests]
    assert log.most_in_flight <= 1
    assert counters.num_requests == len(ends)
    assert [request.id for request in executor.requests] == list(range(len(ends)))
    for outcome in ("used", "late", "rejected", "superseded"):
        assert counters.outcomes[outcome] == ends.count(outcome)
    assert "in flight" not in ends[:-1]
    assert sum(counters.rejections.values()) == counters.num_rejected
    assert counters.num_ticks == len(trace)
    assert counters.num_holds == sum(record.state == "hold" for record in trace)
    assert counters.num_skipped_ticks == trace[-1].tick - trace[0].tick + 1 - len(trace)
    starved = [a.state == "run" and b.state == "hold" for a, b in pairwise(trace)]
    assert counters.num_stops == (0 if log.scenario.mode == "sync" else sum(starved))
    assert counters.num_limited == sum(not np.array_equal(record.values, record.raw) for record in trace)
    assert counters.num_ignored_replies == 0


def _bounds(scenario: Scenario) -> tuple[np.float32, np.float32]:
    return np.float32(-scenario.value_limit), np.float32(scenario.value_limit)
