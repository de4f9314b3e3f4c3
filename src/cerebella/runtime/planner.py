"""The thinking half of the executor: when to ask, what to promise, what to do with an answer.

It leaves a running `Plan`; the moving half (`executor`) plays it.
"""

import math
from collections import deque
from collections.abc import MutableSequence, Sequence

import numpy as np

from cerebella.interfaces import Guidance, PolicyMetadata, Reply, Request, Transport
from cerebella.runtime import chunks, late
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.executor_config import GUIDED_MODES, PROMISING_MODES, ExecutorConfig, Mode
from cerebella.runtime.interpolation import Vector
from cerebella.runtime.motion import MotionLimiter
from cerebella.runtime.operator import Operator
from cerebella.runtime.plan import Plan, blend, forecast, make_plan
from cerebella.runtime.request_book import RequestBook
from cerebella.runtime.trace import Counters, Event, RequestRecord, TraceSink
from cerebella.types import ActionChunk, FloatArray, Observation

SAME = 1e-6
"""Positions and rows closer than this (policy ticks) are the same."""


class InferenceFailure(RuntimeError):
    """Too many inferences in a row were rejected; the message says why the last one was."""


class Planner(Operator):
    """Keeps one question on its way and one plan running. See `executor.Executor` for the arguments."""

    def __init__(
        self,
        metadata: PolicyMetadata,
        config: ExecutorConfig,
        transport: Transport,
        delay_estimator: DelayEstimator,
        sinks: Sequence[TraceSink],
    ) -> None:
        chunks.check_execute_horizon(config.execute_horizon, metadata.horizon)
        super().__init__()
        embodiment = metadata.embodiment
        self.metadata = metadata
        self.config = config
        self.counters = Counters()
        self._sinks = tuple(sinks)
        self._book = RequestBook(config, self.counters, self._tell_request)
        self._transport = transport
        self._delay_estimator = delay_estimator
        self._limiter = MotionLimiter(embodiment, embodiment.control_hz)
        self._step = embodiment.policy_hz / embodiment.control_hz
        self._plan: Plan | None = None
        self._committed: deque[Vector] = deque()
        self._ensemble: list[tuple[float, FloatArray, int]] = []
        self._observation: Observation | None = None
        self._row_at_request = 0.0
        self._num_ticks_since_request = 0
        self._num_untrained_in_row = 0
        self._is_degraded = False
        self._is_approaching = False
        self._is_blocked = False
        self._is_blind = False
        self._is_fit_to_ask = True
        self._is_altered = False
        self._is_clipped = False
        self._takeover_ticks = 0

    @property
    def requests(self) -> MutableSequence[RequestRecord]:
        """One record per inference, the oldest first."""
        return self._book.records

    @property
    def mode(self) -> Mode:
        """The mode now: `sync` while a policy that is too slow for its own mode is waited for."""
        return "sync" if self._is_degraded else self.config.mode

    def _drop_plan(self, reason: str) -> None:
        """Nothing that was thought before now is played after it."""
        self._plan = None
        self._committed.clear()
        self._ensemble.clear()
        self._is_approaching = False
        self._book.discard(reason)

    def _tell(self, name: str, **details: str | float | bool) -> None:
        tick = -1 if self._observation is None else self._observation.tick
        for sink in self._sinks:
            sink.event(Event(tick, name, details))

    def _tell_request(self, record: RequestRecord) -> None:
        for sink in self._sinks:
            sink.request(record)

    # Asking

    def _is_request_due(self, position: float) -> bool:
        assert self._observation is not None
        if self.is_idle or self._is_blocked or self._is_blind or self._takeover_ticks:
            return False
        plan = self._plan
        is_due = plan is None or (
            not self._is_approaching and (plan.is_over or plan.row_at(position) >= self.config.execute_horizon - SAME)
        )
        if not is_due or not self._book.may_ask(self._observation.tick):
            return False
        self.counters.num_withheld += not self._is_fit_to_ask
        return self._is_fit_to_ask

    def _submit(self, observation: Observation, position: float, now_s: float) -> None:
        delay, prefix = self._promise(position)
        guidance = self._guidance(position, prefix)
        policy_hz = self.metadata.embodiment.policy_hz
        left = math.inf if self._plan is None else self._plan.num_left(position) / policy_hz
        record = RequestRecord(
            self._book.next_id, observation.tick, now_s, prefix, delay, is_guided=guidance is not None
        )
        self._row_at_request = 0.0 if self._plan is None else self._plan.row_at(observation.tick)
        self._num_ticks_since_request = 0
        self._book.open(record)
        sent = prefix if guidance is None else prefix[:0]
        self._transport.submit(Request(record.id, observation, sent, delay, guidance, left or math.inf))

    def _promise(self, position: float) -> tuple[int, FloatArray]:
        """The delay to promise and the prefix that keeps the promise: (0, empty) where nothing is promised.

        Where commands run between the rows, the row that they are on their way to is promised, too.
        """
        nothing = 0, np.zeros((0, self.metadata.embodiment.action_dim), dtype=np.float32)
        plan = self._plan
        if self.mode not in PROMISING_MODES or plan is None or plan.is_over or self._is_altered or self._is_clipped:
            return nothing
        estimate = self._delay_estimator.estimate()
        estimate += estimate > 0 and self._step < 1.0
        delay = chunks.clamp_delay(estimate, self.config.execute_horizon, self.metadata.horizon)
        self.counters.num_delay_clamped += delay < estimate
        longest = self.metadata.max_trained_prefix if self.mode == "prefix" else self.metadata.horizon
        self.counters.num_untrained += delay > longest
        num_rows = min(delay, longest, math.ceil(plan.num_left(position)))
        commands, rows = forecast(plan, self._limiter, position, num_rows)
        self._committed = deque(commands)
        return delay, rows

    def _guidance(self, position: float, promised: FloatArray) -> Guidance | None:
        plan = self._plan
        if self.mode not in GUIDED_MODES or plan is None or plan.is_over:
            return None
        row = plan.row_at(math.floor(position))
        rest = [
            plan.path.at(row + i).astype(np.float32) for i in range(len(promised), math.floor(len(plan.rows) - row))
        ]
        rows = np.concatenate([promised, *(values[None] for values in rest)])
        if not len(rows):
            return None
        return Guidance(
            rows,
            len(promised),
            self.config.execute_horizon,
            use_jacobian=self.mode != "guided_identity",
            num_candidates=self.config.num_candidates if self.mode == "best_of_n" else 0,
        )

    # Listening

    def _take_replies(self, position: float) -> None:
        assert self._observation is not None
        tick = self._observation.tick
        for reply in self._transport.poll(tick):
            for sink in self._sinks:
                sink.reply(reply, tick, position - tick)
            request = self._book.in_flight
            if request is None or reply.request_id != request.id:
                self.counters.num_ignored_replies += 1
                continue
            request.arrival_tick = tick
            request.num_ticks_waited = self._num_ticks_since_request
            reason = self._objection(request, reply)
            if reply.chunk is None or reason:
                self._reject(request, reason, tick)
            else:
                self._delay_estimator.record(request.num_ticks_waited)
                self._accept(request, reply.chunk, position)

    def _objection(self, request: RequestRecord, reply: Reply) -> str:
        if reply.chunk is None:
            return f"inference failed: {reply.error}"
        if request.is_broken:
            return "promise broken: other rows were sent than the request had promised"
        if not reply.chunk.actions.any() and self._is_far(self._limiter.position_without_targets):
            return "all zero: every number of the chunk is 0, far from where the robot is"
        nothing = request.action_prefix[:0]
        return chunks.objection(
            reply.chunk,
            observation_tick=request.observation_tick,
            action_prefix=nothing if request.is_guided else request.action_prefix,
            horizon=self.metadata.horizon,
            policy_id=self.metadata.policy_id,
            low=self._limiter.low,
            high=self._limiter.high,
            max_outside=self.config.max_outside,
        )

    def _reject(self, request: RequestRecord, reason: str, tick: int) -> None:
        self._book.reject(request, reason, tick)
        self._committed.clear()
        most, num = self.config.max_consecutive_failures, self._book.num_failures
        if most is not None and num >= most:
            raise InferenceFailure(f"{num} inferences in a row were rejected; the last: {reason}")

    def _accept(self, request: RequestRecord, chunk: ActionChunk, position: float) -> None:
        """Take over, or not: see `late`."""
        plan = self._plan
        consumed = 0.0 if plan is None else plan.row_at(position) - self._row_at_request
        num_promised = len(request.action_prefix)
        request.duration_s = chunk.duration_s
        rows = chunks.continue_prefix(chunk, request.action_prefix).actions
        decision = "in time"
        if self.config.mode in PROMISING_MODES:
            decision = self._decide(request, rows, consumed, position)
            self._watch_training(consumed)
        if decision == "discard":
            self._book.discard_late(request)
            return
        if plan is not None and plan.record.arrival_tick == request.arrival_tick and plan.num_played == 0:
            self._book.supersede(plan.record)
        request.consumed = int(consumed) if consumed == int(consumed) else consumed
        request.is_bridged = decision == "bridge"
        self.counters.num_bridged += request.is_bridged
        is_promising = self.config.mode in PROMISING_MODES
        self._book.use(request, is_late=is_promising and consumed > num_promised + SAME)
        is_at_rest = plan is None or plan.is_over
        if self.config.mode == "ensemble":
            rows = self._blended(rows, position - consumed, chunk.observation_tick)
        stop_row = max(self.config.execute_horizon, consumed + 1.0) if self.mode == "sync" else math.inf
        self._plan = make_plan(request, chunk, rows, position, consumed, stop_row, self.metadata.embodiment, plan)
        self._is_approaching = is_at_rest and self._is_far(self._plan.path.at(consumed))

    def _decide(self, request: RequestRecord, rows: FloatArray, consumed: float, position: float) -> late.Decision:
        plan, first, last = self._plan, len(request.action_prefix), math.ceil(consumed - SAME)
        if plan is None or consumed <= first + SAME:
            return "in time"
        sent = [plan.path.at(self._row_at_request + i) for i in range(first, last)]
        missed = [rows[min(i, len(rows) - 1)] for i in range(first, last)]
        worst = max((self._limiter.gap(a, b) for a, b in zip(sent, missed, strict=True)), default=0.0)
        return late.decide(
            consumed,
            request.promised_delay,
            first,
            worst * self._step,
            self.config.late_tolerance,
            plan.num_left(position) > request.promised_delay + 1,
            self._book.num_discards,
            self.config.max_discards,
        )

    def _watch_training(self, consumed: float) -> None:
        """Switch to waiting when the delay has outgrown the training for long, and back when it fits again."""
        longest = self.metadata.max_trained_prefix if self.config.mode == "prefix" else self.metadata.horizon // 2
        if self.config.degrade_after is None:
            return
        if self._is_degraded:
            if self._delay_estimator.estimate() <= longest:
                self._is_degraded = False
                self._num_untrained_in_row = 0
                self._tell("recovered", mode=self.config.mode)
            return
        self._num_untrained_in_row = self._num_untrained_in_row + 1 if consumed > longest else 0
        if self._num_untrained_in_row >= self.config.degrade_after:
            self._is_degraded = True
            self._tell(
                "degraded",
                inequality=f"delay r = {consumed:g} ticks > longest trained prefix {longest}",
                knob="make the inference faster, or post-train with longer prefixes; until then mode sync",
            )

    def _blended(self, rows: FloatArray, start: float, observation_tick: int) -> FloatArray:
        horizon = self.metadata.horizon
        if self._plan is None or self._plan.is_over:
            self._ensemble.clear()
        kept = [entry for entry in self._ensemble if entry[0] + horizon > start]
        self._ensemble = [*kept, (start, rows, observation_tick)]
        decay = self.config.ensemble_decay
        weighted = [(s, r, math.exp(-decay * (observation_tick - tick))) for s, r, tick in self._ensemble]
        return blend(weighted, start, horizon, self.metadata.embodiment)

    def _is_far(self, target: Vector) -> bool:
        return self._limiter.distance(target) * self._step > self.config.start_tolerance
