"""The executor: exactly one command per tick, from whatever chunk is newest, in one of three modes.

Per tick n it is called twice. `observe(observation)` may submit one request; `command()` takes the replies that have
arrived and returns the command. Two phases, so that many executors can run in lock step and share one batched
inference. It has no thread and no clock; the rule itself is in `chunks`.

| mode     | asks                      | meanwhile                | the policy gets                     |
|----------|---------------------------|--------------------------|-------------------------------------|
| `sync`   | after s rows              | holds still              | no prefix                           |
| `naive`  | when row s is about to run| runs on                  | no prefix                           |
| `prefix` | when row s is about to run| runs on                  | the rows promised for the next ticks|
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from cerebella.interfaces import PolicyMetadata, Reply, Request, Transport
from cerebella.runtime import chunks
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.trace import Counters, Outcome, RequestRecord, TickRecord
from cerebella.types import Action, ActionChunk, FloatArray, Observation

Mode = Literal["sync", "naive", "prefix"]
MODES: tuple[str, ...] = get_args(Mode)


class InferenceFailure(RuntimeError):
    """Too many inferences in a row were rejected; the message says why the last one was."""


@dataclass(frozen=True)
class ExecutorConfig:
    """How chunks are run.

    Args:
        mode: one of `MODES`.
        execute_horizon: s, rows of a chunk before the next request; 1..H.
        max_consecutive_failures: so many rejected replies in a row end the run with an `InferenceFailure`.
    """

    mode: Mode
    execute_horizon: int
    max_consecutive_failures: int = 5

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"unknown mode {self.mode!r}; known modes: {', '.join(MODES)}")
        if self.max_consecutive_failures < 1:
            raise ValueError(f"max_consecutive_failures must be 1 or more; got {self.max_consecutive_failures}")


@dataclass(frozen=True, eq=False)
class _Plan:
    """The running chunk: limited to the embodiment's range, anchored in time; `raw` before it was limited."""

    request_id: int
    chunk: ActionChunk
    raw: FloatArray


class Executor:
    """Runs one episode; make a new one for the next (the delay estimator may be shared).

    Args:
        metadata: what the policy says about itself.
        config: mode and execute horizon.
        transport: the way to the policy.
        delay_estimator: tells the delay to promise, learns from every reply.

    Attributes:
        trace, requests, counters: see `trace`.

    Raises:
        ValueError: the execute horizon is not in 1..H, or the embodiment's rates differ (a row is a tick).
    """

    def __init__(
        self, metadata: PolicyMetadata, config: ExecutorConfig, transport: Transport, delay_estimator: DelayEstimator
    ) -> None:
        chunks.check_execute_horizon(config.execute_horizon, metadata.horizon)
        embodiment = metadata.embodiment
        if embodiment.policy_hz != embodiment.control_hz:
            raise ValueError(
                f"{embodiment.name}: policy_hz {embodiment.policy_hz:g} differs from control_hz "
                f"{embodiment.control_hz:g}; this executor sends one row per tick and does not resample"
            )
        self.metadata = metadata
        self.config = config
        self.trace: list[TickRecord] = []
        self.requests: list[RequestRecord] = []
        self.counters = Counters()
        self._transport = transport
        self._delay_estimator = delay_estimator
        self._low = np.asarray([dimension.low for dimension in embodiment.actions], dtype=np.float32)
        self._high = np.asarray([dimension.high for dimension in embodiment.actions], dtype=np.float32)
        self._num_usable_rows = config.execute_horizon if config.mode == "sync" else metadata.horizon
        self._plan: _Plan | None = None
        self._observation: Observation | None = None
        self._in_flight: RequestRecord | None = None
        self._num_rows_since_request = 0
        self._num_ticks_since_request = 0
        self._num_failures = 0
        self._is_awaiting_command = False

    def observe(self, observation: Observation, now_s: float | None = None) -> None:
        """Phase 1 of tick `observation.tick`: take arrived replies, then submit a request if one is due.

        Args:
            observation: of the tick after the last one. If ticks are missing (a stalled loop), no row was executed in
                them: the running plan moves back by as many ticks, and they are counted.
            now_s: the driving clock, for the records; the observation's own time stamp if left out.

        Raises:
            ValueError: a wrong state length, or a tick that is not after the last one.
            InferenceFailure: too many inferences failed in a row.
            RuntimeError: `command` was not called for the last tick.
        """
        if self._is_awaiting_command:
            raise RuntimeError(f"observe(tick {observation.tick}) before command() of the last observation")
        self.metadata.embodiment.check_state(observation.state)
        self._skip_to(observation.tick)
        self._observation = observation
        self._is_awaiting_command = True
        self._take_replies(observation.tick)
        if self._in_flight is None and self._is_request_due(observation.tick):
            self._submit(observation, observation.timestamp_s if now_s is None else now_s)

    def command(self, now_s: float | None = None) -> Action:
        """Phase 2: take arrived replies, hand over if there is a new chunk, and return the command of this tick.

        Every command is inside the embodiment's range. Without a row to run it is `embodiment.hold`.

        Raises:
            InferenceFailure: too many inferences failed in a row.
            RuntimeError: `observe` was not called for this tick.
        """
        if self._observation is None or not self._is_awaiting_command:
            raise RuntimeError("command() needs observe() first, once per tick")
        observation = self._observation
        self._is_awaiting_command = False
        self._take_replies(observation.tick)
        record = self._next_record(observation, observation.timestamp_s if now_s is None else now_s)
        self.trace.append(record)
        self.counters.num_ticks += 1
        self.counters.num_clipped += not np.array_equal(record.values, record.raw)
        self._num_ticks_since_request += 1
        return Action(values=record.values, tick=record.tick)

    def close(self) -> None:
        """Close the transport; a request in flight stays `in flight` in the records."""
        self._transport.close()

    def _skip_to(self, tick: int) -> None:
        if not self.trace:
            return
        num_skipped = tick - self.trace[-1].tick - 1
        if num_skipped < 0:
            raise ValueError(f"observation.tick must be above the last one, {self.trace[-1].tick}; got {tick}")
        if num_skipped and self._plan is not None:
            self._plan = replace(self._plan, chunk=chunks.postpone(self._plan.chunk, num_skipped))
        self.counters.num_skipped_ticks += num_skipped

    def _is_request_due(self, tick: int) -> bool:
        return self._plan is None or chunks.row_at(self._plan.chunk, tick) >= self.config.execute_horizon

    def _submit(self, observation: Observation, now_s: float) -> None:
        delay, prefix = self._promise(observation.tick)
        request = Request(len(self.requests), observation, prefix, delay)
        self._in_flight = RequestRecord(request.id, observation.tick, now_s, prefix, delay)
        self.requests.append(self._in_flight)
        self.counters.num_requests += 1
        self._num_rows_since_request = 0
        self._num_ticks_since_request = 0
        self._transport.submit(request)

    def _promise(self, tick: int) -> tuple[int, FloatArray]:
        """The delay to promise and the prefix that keeps the promise: (0, empty) where nothing is promised."""
        action_dim = self.metadata.embodiment.action_dim
        is_running = self._plan is not None and chunks.row_at(self._plan.chunk, tick) < self._num_usable_rows
        if self.config.mode != "prefix" or self._plan is None or not is_running:
            return 0, chunks.promise(None, tick, 0, action_dim)
        estimate = self._delay_estimator.estimate()
        delay = chunks.clamp_delay(estimate, self.config.execute_horizon, self.metadata.horizon)
        self.counters.num_delay_clamped += delay < estimate
        self.counters.num_untrained += delay > self.metadata.max_trained_prefix
        num_rows = min(delay, self.metadata.max_trained_prefix)
        return delay, chunks.promise(self._plan.chunk, tick, num_rows, action_dim)

    def _take_replies(self, tick: int) -> None:
        for reply in self._transport.poll(tick):
            request = self._in_flight
            if request is None or reply.request_id != request.id:
                self.counters.num_unknown_replies += 1
                continue
            self._in_flight = None
            request.arrival_tick = tick
            request.num_ticks_waited = self._num_ticks_since_request
            reason = self._objection(request, reply)
            if reply.chunk is None or reason:
                self._reject(request, reason)
            else:
                self._accept(request, reply.chunk)

    def _objection(self, request: RequestRecord, reply: Reply) -> str:
        if reply.chunk is None:
            return f"inference failed: {reply.error}"
        return chunks.objection(
            reply.chunk,
            observation_tick=request.observation_tick,
            action_prefix=request.action_prefix,
            horizon=self.metadata.horizon,
            policy_id=self.metadata.policy_id,
            value_range=self._high - self._low,
        )

    def _reject(self, request: RequestRecord, reason: str) -> None:
        self._end(request, "rejected")
        request.reason = reason
        self.counters.rejections[reason.split(":")[0]] += 1
        self._num_failures += 1
        if self._num_failures >= self.config.max_consecutive_failures:
            raise InferenceFailure(f"{self._num_failures} inferences in a row were rejected; the last: {reason}")

    def _accept(self, request: RequestRecord, chunk: ActionChunk) -> None:
        """Splice: anchor the new chunk at the rows really consumed, with its prefix rows as promised."""
        self._num_failures = 0
        self._delay_estimator.record(request.num_ticks_waited)
        request.consumed = self._num_rows_since_request
        request.duration_s = chunk.duration_s
        is_late = self.config.mode == "prefix" and request.consumed > len(request.action_prefix)
        self._supersede_unused_plan(request.arrival_tick)
        self._end(request, "late" if is_late else "used")
        continued = chunks.continue_prefix(chunk, request.action_prefix)
        anchored = chunks.anchor(continued, request.arrival_tick, request.consumed)
        limited = replace(anchored, actions=chunks.limit(anchored.actions, self._low, self._high))
        self._plan = _Plan(request.id, limited, anchored.actions)

    def _supersede_unused_plan(self, tick: int) -> None:
        """A plan accepted in this very tick has not sent a row yet; what replaces it supersedes it."""
        if self._plan is not None and self.requests[self._plan.request_id].arrival_tick == tick:
            record = self.requests[self._plan.request_id]
            self.counters.outcomes[record.outcome] -= 1
            self._end(record, "superseded")

    def _end(self, request: RequestRecord, outcome: Outcome) -> None:
        request.outcome = outcome
        self.counters.outcomes[outcome] += 1

    def _next_record(self, observation: Observation, now_s: float) -> TickRecord:
        tick = observation.tick
        if self._plan is not None:
            row = chunks.row_at(self._plan.chunk, tick)
            if row < self._num_usable_rows:
                self._num_rows_since_request += 1
                return TickRecord(
                    tick=tick,
                    state="run",
                    values=self._plan.chunk.actions[row],
                    raw=self._plan.raw[row],
                    chunk_id=self._plan.request_id,
                    row=row,
                    observation_tick=self._plan.chunk.observation_tick,
                    sent_s=now_s,
                    is_promised=row < self._plan.chunk.prefix_length,
                )
        was_running = bool(self.trace) and self.trace[-1].state == "run"
        self.counters.num_underruns += was_running and self.config.mode != "sync"
        self.counters.num_holds += 1
        last_command = Action(self.trace[-1].values, self.trace[-1].tick) if self.trace else None
        raw = self.metadata.embodiment.hold(observation, last_command).values
        return TickRecord(tick, "hold", chunks.limit(raw, self._low, self._high), raw, -1, -1, -1, now_s)
