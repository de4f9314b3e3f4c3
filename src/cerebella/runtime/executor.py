"""The executor: exactly one command per control tick, from whatever chunk is newest, inside every limit.

At every tick of the policy rate `observe(observation)` may submit one request; then `command()` returns the command of
each control tick. Two phases, so that many executors can run in lock step and share one batched inference. It has no
thread and no clock, and nothing that it waits for: what does not come is asked again, what does not fit is refused, and a
plan without a successor ends in a stop within the limits.

| mode       | asks                      | meanwhile    | the policy gets                                            |
|------------|---------------------------|--------------|------------------------------------------------------------|
| `sync`     | after s rows              | holds still  | no prefix                                                  |
| `naive`    | when row s is about to run| runs on      | no prefix                                                  |
| `ensemble` | the same                  | runs on      | no prefix; what several chunks say about a tick is averaged|
| `guided`   | the same                  | runs on      | the running plan, to be drawn to (inference-time RTC)      |
| `prefix`   | the same                  | runs on      | the rows promised for the next ticks                       |

A command passes three stations: the plan (`plan`), the filter if there is one, the limits of motion (`motion`).
"""

import math
from collections.abc import MutableSequence, Sequence
from dataclasses import replace

import numpy as np

from cerebella.interfaces import ActionFilter, PolicyMetadata, Takeover, Transport
from cerebella.runtime.camera_check import CameraCheck
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.plan import Plan, advance
from cerebella.runtime.planner import SAME, InferenceFailure, Planner
from cerebella.runtime.trace import State, TickRecord, TraceSink, keep
from cerebella.types import Action, FloatArray, Observation

__all__ = ["Executor", "InferenceFailure"]

_SENT_TOLERANCE = 1e-3
"""In control ticks of motion at full velocity: rounding of units, and nothing else."""


class Executor(Planner):
    """Runs one episode; make a new one for the next (the delay estimator may be shared).

    Args:
        metadata: what the policy says about itself.
        config: mode, horizons, limits of patience.
        transport: the way to the policy.
        delay_estimator: tells the delay to promise, learns from every reply.
        action_filter: sees every command before the limits of motion do; may take the robot over for some ticks.
        camera_check: watches the pictures: with a stale one nothing is asked, without any the robot comes to rest.
        sinks: get everything that enters and leaves.

    Attributes:
        trace, requests, counters: see `trace`.

    Raises:
        ValueError: the execute horizon is not in 1..H, or commands are wanted less often than the policy has rows.
    """

    def __init__(
        self,
        metadata: PolicyMetadata,
        config: ExecutorConfig,
        transport: Transport,
        delay_estimator: DelayEstimator,
        *,
        action_filter: ActionFilter | None = None,
        camera_check: CameraCheck | None = None,
        sinks: Sequence[TraceSink] = (),
    ) -> None:
        embodiment = metadata.embodiment
        if embodiment.control_hz < embodiment.policy_hz:
            raise ValueError(
                f"{embodiment.name}: control_hz {embodiment.control_hz:g} is below policy_hz {embodiment.policy_hz:g}; "
                "every row of a chunk needs a command"
            )
        super().__init__(metadata, config, transport, delay_estimator, sinks)
        self.trace: MutableSequence[TickRecord] = keep(config.num_kept)
        self._filter = action_filter
        self._camera_check = camera_check
        self._position = -math.inf
        self._last_state: State | None = None
        self._control_tick = -1
        self._is_awaiting_command = False

    def observe(self, observation: Observation, now_s: float | None = None, phase: float = 0.0) -> None:
        """Phase 1 of tick `observation.tick`: take arrived replies, then submit a request if one is due.

        Args:
            observation: of the tick after the last one. If ticks are missing (a stalled loop), no row was played in
                them: the running plan moves back by as many, and they are counted.
            now_s: the driving clock, for the records; the observation's own time stamp if left out.
            phase: where in its tick the next command lies, 0 <= phase < 1; see `rates`.

        Raises:
            ValueError: a wrong state length, or a tick that is not after the last one.
            InferenceFailure: too many inferences failed in a row.
            RuntimeError: `command` was not called for the last tick.
        """
        if self._is_awaiting_command:
            raise RuntimeError(f"observe(tick {observation.tick}) before command() of the last observation")
        self.metadata.embodiment.check_state(observation.state)
        if self._observation is not None and observation.tick <= self._observation.tick:
            raise ValueError(
                f"observation.tick must be above the last one, {self._observation.tick}; got {observation.tick}"
            )
        if self.prompt is not None:
            observation = replace(observation, prompt=self.prompt)
        now_s = observation.timestamp_s if now_s is None else now_s
        for sink in self._sinks:
            sink.observation(observation, now_s)
        self._observation = observation
        self._is_awaiting_command = True
        self._pass_over(observation.tick + phase)
        self._check_robot(observation)
        self._check_cameras(observation, now_s)
        self._take_replies(observation.tick + phase)
        if self._book.give_up_if_overdue(observation.tick, self._delay_estimator.estimate()):
            self._committed.clear()
        if self._is_request_due(observation.tick + phase):
            self._submit(observation, observation.tick + phase, now_s)

    def command(self, now_s: float | None = None, phase: float = 0.0) -> Action:
        """Phase 2: the command of this control tick. In the first one of a tick arrived replies are taken once more.

        Every command is inside the embodiment's limits. Without a row to play it comes to rest and stays there.

        Args:
            now_s: the driving clock, for the records. phase: as in `observe`, growing within a tick.

        Raises:
            InferenceFailure: too many inferences failed in a row.
            RuntimeError: `observe` was not called for this tick, or the phase does not grow.
        """
        observation = self._observation
        if observation is None or observation.tick + phase <= self._position + SAME:
            raise RuntimeError("command() needs observe() first, once per tick, and a growing phase within a tick")
        position = observation.tick + phase
        if self._is_awaiting_command:
            self._take_replies(position)
            self._is_awaiting_command = False
        else:
            self._pass_over(position)
        self._position = position
        self._control_tick += 1
        self._num_ticks_since_request += phase < self._step - SAME
        record = self._next_record(observation, position, observation.timestamp_s if now_s is None else now_s)
        self._count(record)
        self.trace.append(record)
        for sink in self._sinks:
            sink.tick(record)
        return Action(values=record.values, tick=record.tick)

    def was_sent(self, values: FloatArray) -> None:
        """What the robot made of the last command, float32[action_dim]: some drivers limit by themselves.

        Where it is something else, what was promised is not what was sent, and nothing is promised meanwhile.
        """
        last = self.trace[-1].values
        was_clipped, self._is_clipped = self._is_clipped, bool(self._limiter.gap(values, last) > _SENT_TOLERANCE)
        if self._is_clipped:
            self._break_promise()
        if self._is_clipped and not was_clipped:
            self._tell("clipped by the robot")

    def close(self) -> None:
        """Close the transport; a request in flight stays `in flight` in the records."""
        self._transport.close()

    # Time

    def _pass_over(self, position: float) -> None:
        """Control ticks that were never offered: the robot stood still in them, so the plan waits."""
        missing = position - self._position - self._step
        if not math.isfinite(missing) or missing <= SAME:
            return
        self.counters.num_skipped_ticks += round(missing / self._step)
        if self._plan is not None:
            self._plan.start += missing
        self._ensemble = [(start + missing, rows, tick) for start, rows, tick in self._ensemble]

    # Moving

    def _next_record(self, observation: Observation, position: float, now_s: float) -> TickRecord:
        if self._takeover_ticks and (self.is_idle or self._is_blocked):  # people and faults come before any filter
            self._takeover_ticks = 0
            self._tell("filter interrupted")
        if self.human_values is not None:
            values = self.human_values
            return self._record(position, now_s, "human", self._limiter.follow(values, values), values)
        if self._takeover_ticks:
            return self._owned_by_filter(observation, position, now_s)
        if self._is_blocked:
            measured = self.metadata.embodiment.reference_of(observation.state)
            return self._record(position, now_s, "stop", self._limiter.follow(measured, measured), measured)
        if self._plan is not None and not self._plan.is_over and not self.is_idle:
            return self._played(observation, self._plan, position, now_s)
        return self._stopped(observation, position, now_s)

    def _played(self, observation: Observation, plan: Plan, position: float, now_s: float) -> TickRecord:
        if self._is_approaching:
            target = plan.path.at(plan.row_at(position))
            if self._limiter.distance(target) > 1.0:
                plan.start += self._step
                values = self._limiter.follow(target, target, speed=self.config.start_speed)
                return self._record(position, now_s, "start", values, target.astype(np.float32), plan)
            self._is_approaching = False
        played = advance(plan, position)
        if played is None:
            return self._stopped(observation, position, now_s)
        row, target, following = played
        is_slowed = plan.progress.speed < plan.progress.full_speed
        self.counters.num_slowed += is_slowed and not plan.is_over
        is_committed = bool(self._committed)
        if is_committed:
            target = self._committed.popleft()
            following = self._committed[0] if self._committed else following
        if self._filter is not None:
            action = Action(target.astype(np.float32), observation.tick)
            answer = self._filter.filter(observation, action)
            if isinstance(answer, Takeover):
                return self._taken_over(answer, position, now_s)
            self._is_altered = not np.array_equal(answer.values, action.values)
            if self._is_altered:
                following = following + (answer.values - target)
                target, is_committed = answer.values.astype(np.float64), False
                self._break_promise()
        values = self._limiter.follow(target, following, is_committed=is_committed)
        if is_committed and not self._limiter.is_on_reference:
            self._break_promise()
        raw = plan.raw[int(row)] if row == int(row) else target.astype(np.float32)
        return self._record(position, now_s, "run", values, raw, plan, row)

    def _stopped(self, observation: Observation, position: float, now_s: float) -> TickRecord:
        last = self.trace[-1] if self.trace else None
        last_command = Action(last.values, last.tick) if last else None
        raw = self.metadata.embodiment.hold(observation, last_command).values
        values = self._limiter.stop()
        state: State = "hold" if self._limiter.stands_still else "stop"
        return self._record(position, now_s, state, values, raw)

    def _owned_by_filter(self, observation: Observation, position: float, now_s: float) -> TickRecord:
        """A filter has claimed this tick: its own command, or the robot back (then it comes to rest)."""
        assert self._filter is not None
        action = Action(self._limiter.state.position.astype(np.float32), observation.tick)
        answer = self._filter.filter(observation, action)
        if isinstance(answer, Takeover):
            return self._taken_over(answer, position, now_s)
        self._takeover_ticks = 0
        self._tell("filter hands back")
        return self._stopped(observation, position, now_s)

    def _taken_over(self, claim: Takeover, position: float, now_s: float) -> TickRecord:
        if not self._takeover_ticks:
            self._drop_plan(f"take-over by a filter: {claim.reason}")
            self._tell("filter takes over", reason=claim.reason, remaining_ticks=claim.remaining_ticks)
        self._takeover_ticks = claim.remaining_ticks
        values = claim.action.values
        return self._record(position, now_s, "filter", self._limiter.follow(values, values), values)

    def _break_promise(self) -> None:
        self._committed.clear()
        if self._book.in_flight is not None and not self._book.in_flight.is_broken:
            self._book.in_flight.is_broken = len(self._book.in_flight.action_prefix) > 0
            self.counters.num_broken_promises += self._book.in_flight.is_broken

    def _record(
        self,
        position: float,
        now_s: float,
        state: State,
        values: FloatArray,
        raw: FloatArray,
        plan: Plan | None = None,
        row: float = -1.0,
    ) -> TickRecord:
        assert self._observation is not None
        played = plan if state == "run" else None
        return TickRecord(
            tick=self._observation.tick,
            state=state,
            values=values,
            raw=raw,
            chunk_id=played.record.id if played else -1,
            row=int(row) if played else -1,
            observation_tick=played.chunk.observation_tick if played else -1,
            sent_s=now_s,
            is_promised=played is not None and row < len(played.record.action_prefix),
            control_tick=self._control_tick,
            phase=position - self._observation.tick,
            prompt=self._observation.prompt,
        )

    def _count(self, record: TickRecord) -> None:
        counters = self.counters
        counters.num_ticks += 1
        counters.num_holds += record.state in ("stop", "hold")
        if record.state in ("stop", "hold") and self._last_state == "run" and self.mode != "sync":
            counters.num_stops += 1
            self._tell("stop", state=record.state)
        low, high = self._limiter.low, self._limiter.high
        counters.num_clipped += bool(((record.raw < low) | (record.raw > high)).any())
        counters.num_limited += not np.array_equal(record.values, record.raw)
        self._last_state = record.state

    # Watching the robot

    def _check_robot(self, observation: Observation) -> None:
        """Before the first command: begin where the robot is. Later: one that does not follow is blocked.

        Then the command comes back to where the robot is, and the next plan starts from there.
        """
        if self._last_state is None:
            self._limiter.reset(self.metadata.embodiment.reference_of(observation.state))
            return
        behind_s = self._limiter.lag_s(observation.state)
        if not self._is_blocked and behind_s > self.config.tracking_limit_s:
            self._is_blocked = True
            self._drop_plan("the robot does not follow")
            self._tell("blocked", behind_s=behind_s, limit_s=self.config.tracking_limit_s)
        elif self._is_blocked and behind_s < 0.5 * self.config.tracking_limit_s and self._limiter.is_at_rest:
            self._is_blocked = False
            self._tell("follows again", behind_s=behind_s)

    def _check_cameras(self, observation: Observation, now_s: float) -> None:
        if self._camera_check is None:
            return
        verdict = self._camera_check.check(observation, now_s)
        self._is_fit_to_ask = verdict.kind == "ok"
        if verdict.kind == "fault" and not self._is_blind:
            self._is_blind = True
            self._drop_plan("blind")
            self._tell("blind", reason=verdict.reason, view=verdict.view)
        elif verdict.kind == "ok" and self._is_blind:
            self._is_blind = False
            self._tell("sees again")
