"""What an executor did: one record per command, one per request, events, and counters that add up.

A `TraceSink` gets everything an executor saw and did, in order, while it happens: enough to play it again bit by bit.
"""

from collections import Counter, deque
from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from cerebella.interfaces import Reply
from cerebella.types import FloatArray, Observation

State = Literal["run", "start", "stop", "hold", "human", "filter"]
Outcome = Literal["used", "late", "rejected", "superseded", "timed out", "discarded", "in flight"]


@dataclass(frozen=True, slots=True, eq=False)
class TickRecord:
    """One command.

    Args:
        tick: the step of the policy rate that it belongs to.
        state: who decided: `run` (a row of a chunk), `start` (a row, approached slowly from the measured pose), `stop`
            (coming to rest within the limits), `hold` (standing still), `human` (an operator), `filter` (an
            `ActionFilter` that has taken over).
        values: what was sent, float32[action_dim], raw units.
        raw: what was wanted, before the embodiment's limits.
        chunk_id: id of the request whose chunk ran; -1 in other states.
        row: row of that chunk; -1 in other states.
        observation_tick: tick of the observation that the chunk was computed from; -1 in other states.
        sent_s: when it was sent, seconds of the clock that drove the loop.
        is_promised: the row repeats what an older chunk had promised; the chunk's own decision comes later.
        control_tick: number of the command; with `control_hz` above `policy_hz` several share a tick.
        phase: where in its tick the command lies, 0 <= phase < 1.
        prompt: the instruction that was followed.
    """

    tick: int
    state: State
    values: FloatArray
    raw: FloatArray
    chunk_id: int
    row: int
    observation_tick: int
    sent_s: float
    is_promised: bool = False
    control_tick: int = -1
    phase: float = 0.0
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened beside commands and requests.

    Args:
        tick: the step in which it was noticed.
        name: constant per kind, e.g. `pause`, `resume`, `task`, `take over`, `hand back`, `underrun`, `stale camera`.
        details: plain JSON values.
    """

    tick: int
    name: str
    details: Mapping[str, str | int | float | bool] = field(default_factory=dict)


class TraceSink(Protocol):
    """Gets everything that enters and leaves an executor, from the control thread, in the order in which it happens."""

    def observation(self, observation: Observation, now_s: float) -> None:
        """Phase 1 of a tick began."""
        ...

    def reply(self, reply: Reply, tick: int, phase: float) -> None:
        """A reply was taken from the transport; also one that is then ignored."""
        ...

    def tick(self, record: TickRecord) -> None:
        """A command was decided."""
        ...

    def request(self, record: "RequestRecord") -> None:
        """A request was made (`in flight`), and once more when it ended."""
        ...

    def event(self, event: Event) -> None:
        """Something else happened."""
        ...


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One inference, from the request to its end.

    Args:
        id: counts up from 0 within an executor.
        observation_tick, submitted_s: when it was asked.
        action_prefix: what was promised, float32[p, action_dim].
        promised_delay: d in ticks; 0 where nothing is promised (other modes, no running chunk).
        arrival_tick: the tick in which the reply was taken; -1 before.
        num_ticks_waited: commands sent (rows and holds) between the observation and the arrival; -1 before.
        consumed: r, the rows played in that time (a fraction after a slow-down): the row at which the new chunk took
            over; -1 before and when it did not.
        outcome: `used`; `late` (used, r beyond the promise); `rejected` (by a check of the reply); `superseded`
            (accepted, and replaced before any of its rows ran); `timed out` (asked again); `discarded` (pause, task
            change, take-over, or too late to be worth a jump); or still `in flight`.
        reason: why it was rejected, else empty.
        duration_s: the inference's own time as the policy measured it; 0 before and when it failed.
        is_bridged: it disagreed with what had been sent, so the hand-over was a motion within the limits.
        is_broken: other rows were sent than it had promised.
        is_guided: the policy was shown the running plan instead of a prefix.
    """

    id: int
    observation_tick: int
    submitted_s: float
    action_prefix: FloatArray
    promised_delay: int
    arrival_tick: int = -1
    num_ticks_waited: int = -1
    consumed: float = -1
    outcome: Outcome = "in flight"
    reason: str = ""
    duration_s: float = 0.0
    is_bridged: bool = False
    is_broken: bool = False
    is_guided: bool = False


@dataclass(slots=True)
class Counters:
    """What happened, in numbers.

    Args:
        num_ticks: commands sent. num_holds: those that were no row of a chunk and no order of somebody else: coming to
            rest and standing still.
        num_stops: how often an asynchronous mode left its plan and began to stop (out of rows, an order, a fault). num_slowed: commands that played a
            plan slower than its own speed because it was about to end.
        num_requests: inferences asked for.
        outcomes: how they ended, by outcome; with the one in flight they sum up to `num_requests`.
        num_bridged: hand-overs that disagreed with what had been sent.
        num_untrained: requests whose promised delay is beyond the policy's largest trained prefix.
        num_delay_clamped: requests whose estimated delay did not fit `d <= s <= H - d`.
        num_broken_promises: requests whose promised rows were then not sent (a filter, a stall); their replies are
            refused.
        num_clipped: commands changed by the range. num_limited: by any limit of motion (range, velocity, ...).
        num_skipped_ticks: control ticks that were never offered to the executor (a stalled control loop).
        num_ignored_replies: replies to no open request (duplicates, strays, answers to a request that was given up).
        num_withheld: requests that were due and not made, because the observation was not fit for it.
        rejections: rejected replies per kind of reason.
    """

    num_ticks: int = 0
    num_holds: int = 0
    num_requests: int = 0
    num_stops: int = 0
    num_slowed: int = 0
    num_bridged: int = 0
    num_untrained: int = 0
    num_delay_clamped: int = 0
    num_broken_promises: int = 0
    num_clipped: int = 0
    num_limited: int = 0
    num_skipped_ticks: int = 0
    num_ignored_replies: int = 0
    num_withheld: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)

    @property
    def num_late(self) -> int:
        """Replies used with a hand-over beyond the promised rows."""
        return self.outcomes["late"]

    @property
    def num_rejected(self) -> int:
        """Replies that were not executed; `rejections` says why."""
        return self.outcomes["rejected"]

    @property
    def idle_share(self) -> float:
        """Share of the commands without a row, 0..1; r / (s + r) in mode `sync`. 0 before the first command."""
        return self.num_holds / self.num_ticks if self.num_ticks else 0.0


def keep(num_kept: int | None) -> MutableSequence[Any]:
    """Where records go: a list, or the newest `num_kept` of them (a deque, which has no slices)."""
    return [] if num_kept is None else deque(maxlen=num_kept)


def commands(trace: Sequence[TickRecord]) -> FloatArray:
    """All commands of a trace, float32[num_ticks, action_dim], raw units.

    Raises:
        ValueError: the trace is empty, so the width is unknown.
    """
    if not trace:
        raise ValueError("the trace is empty: no command was sent")
    return np.stack([record.values for record in trace])
