"""A recording as arrays over its commands, for figures and export."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cerebella.runtime.recording.reader import Recording
from cerebella.runtime.trace import RequestRecord, TickRecord, commands
from cerebella.types import FloatArray


@dataclass(frozen=True, eq=False)
class Timeline:
    """n commands.

    Args:
        ticks: the records. seconds: float64[n] since the first one.
        sent, wanted: float32[n, action_dim], raw units, after and before the limits.
        requests: those that were made in this time. events: (seconds, name) of events and notes in it.
        start_s: clock of the first command.
    """

    ticks: list[TickRecord]
    seconds: NDArray[np.float64]
    sent: FloatArray
    wanted: FloatArray
    requests: list[RequestRecord]
    events: list[tuple[float, str]]
    start_s: float

    def spans(self, state: str) -> list[tuple[float, float]]:
        """(start, length) in seconds of every stretch of commands in a state."""
        is_inside = np.array([record.state == state for record in self.ticks])
        times = [*self.seconds.tolist(), float(self.seconds[-1]) + self._step_s()]
        return [(times[i], times[k] - times[i]) for i, k in stretches(is_inside)]

    def hand_overs(self) -> NDArray[np.int64]:
        """Indices of the commands with which a new chunk took over."""
        chunks = np.array([record.chunk_id for record in self.ticks])
        before = np.concatenate([[-1], chunks[:-1]])
        return np.flatnonzero((chunks >= 0) & (chunks != before))

    def request_spans(self) -> list[tuple[RequestRecord, float, float]]:
        """Each request with its start and end in seconds; one without an answer ends with the next, or with all."""
        tick_numbers = np.array([record.tick for record in self.ticks])
        last_s = float(self.seconds[-1])
        starts = [record.submitted_s - self.start_s for record in self.requests]
        spans: list[tuple[RequestRecord, float, float]] = []
        for i, record in enumerate(self.requests):
            end_s = starts[i + 1] if i + 1 < len(starts) else last_s
            if record.arrival_tick >= 0:
                index = min(int(np.searchsorted(tick_numbers, record.arrival_tick)), len(self.ticks) - 1)
                end_s = float(self.seconds[index])
            spans.append((record, starts[i], max(end_s, starts[i])))
        return spans

    def _step_s(self) -> float:
        return float(np.median(np.diff(self.seconds))) if len(self.seconds) > 1 else 0.0


def stretches(is_inside: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, end) of every stretch of bool[n] that is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_inside.astype(np.int8), [0]])))
    return [(int(i), int(k)) for i, k in zip(edges[::2], edges[1::2], strict=True)]


def timeline(recording: Recording, start_s: float = 0.0, end_s: float = float("inf")) -> Timeline:
    """The commands between two times, seconds since the first command of the recording.

    Raises:
        ValueError: there is no command in that time.
    """
    every = recording.ticks
    first_s = every[0].sent_s if every else 0.0
    ticks = [record for record in every if start_s <= record.sent_s - first_s <= end_s]
    if not ticks:
        last_s = every[-1].sent_s - first_s if every else 0.0
        raise ValueError(
            f"{recording.path} has no command between {start_s:g} and {end_s:g} s; it has {len(every)}, over {last_s:g} s"
        )
    low_s, high_s = ticks[0].sent_s, ticks[-1].sent_s
    seconds = np.array([record.sent_s - first_s for record in ticks])
    numbers = np.array([record.tick for record in ticks])
    happened = [*recording.events, *recording.notes]
    inside = [event for event in happened if numbers[0] <= event.tick <= numbers[-1]]
    return Timeline(
        ticks=ticks,
        seconds=seconds,
        events=[(float(seconds[np.searchsorted(numbers, event.tick)]), event.name) for event in inside],
        sent=commands(ticks),
        wanted=np.stack([record.raw for record in ticks]),
        requests=[record for record in recording.requests if low_s <= record.submitted_s <= high_s],
        start_s=first_s,
    )
