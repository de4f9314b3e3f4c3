"""Which requests are evaluated together next: a pure function, and how long a batch takes.

The worker is free, some requests wait, each with the moment until which its answer is of use. A larger batch costs less per
request, but makes the most urgent one wait for the others.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

Law = Callable[[int], float]
"""Batch size (1, 2, ...) to the seconds that one inference of it takes; not decreasing."""

_WINDOW = 64
_QUANTILE = 0.9


@dataclass(frozen=True)
class Waiting:
    """What the decision needs to know of one request, on one monotonic clock.

    Args:
        due_s: when its answer stops being of use; inf if never. arrived_s: when it came.
        is_guided: guided and plain requests cannot share an inference.
    """

    due_s: float
    arrived_s: float
    is_guided: bool = False


def choose_batch(waiting: Sequence[Waiting], now_s: float, max_batch: int, law: Law) -> list[int]:
    """The indices of `waiting` to evaluate now, most urgent first; never empty if something waits.

    1. A request that would be late even alone comes after all others; it is answered, but nobody is made late for it.
    2. The others go by deadline, then by arrival. The batch is the longest run of them that still meets the deadline of
       its first, that is with `now + law(size) <= due`.
    3. Such a run may be short because its first request is nearly late, and short batches are what overload is made of:
       every request behind it becomes nearly late as well. So if serving in this way would make any of them late, the
       first one or ones are passed over in favour of the run that serves the most requests in time per second.

    Args:
        waiting: one entry per session. now_s: when the inference would begin. max_batch: 1 or more.
    """
    solo_s = now_s + law(1)
    order = sorted(
        range(len(waiting)), key=lambda i: (solo_s > waiting[i].due_s, waiting[i].due_s, waiting[i].arrived_s)
    )
    if not order:
        return []
    order = [i for i in order if waiting[i].is_guided == waiting[order[0]].is_guided]
    due_s = [waiting[i].due_s for i in order]
    durations_s = [law(size) for size in range(1, min(max_batch, len(order)) + 1)]
    num_hopeful = sum(solo_s <= due for due in due_s)
    if not num_hopeful:
        return order[:max_batch]
    first = (
        0
        if _all_in_time(due_s[:num_hopeful], now_s, durations_s)
        else _best_start(due_s[:num_hopeful], now_s, durations_s)
    )
    size = _longest(due_s[first] - now_s, durations_s, len(order) - first)
    return order[first : first + size]


def _longest(slack_s: float, durations_s: Sequence[float], limit: int) -> int:
    """The largest batch, at most `limit`, that takes no longer than `slack_s`; at least 1."""
    size = 1
    while size < min(limit, len(durations_s)) and durations_s[size] <= slack_s:
        size += 1
    return size


def _all_in_time(due_s: Sequence[float], now_s: float, durations_s: Sequence[float]) -> bool:
    """Whether run after run, each as long as its first deadline allows, all deadlines are met."""
    start = 0
    while start < len(due_s):
        size = _longest(due_s[start] - now_s, durations_s, len(due_s) - start)
        now_s += durations_s[size - 1]
        if now_s > due_s[start]:
            return False
        start += size
    return True


def _best_start(due_s: Sequence[float], now_s: float, durations_s: Sequence[float]) -> int:
    """Where the run begins that serves most requests in time per second of inference; the earliest of equals."""

    def rate(start: int) -> float:
        size = _longest(due_s[start] - now_s, durations_s, len(due_s) - start)
        return size / max(durations_s[size - 1], 1e-9)

    return max(range(len(due_s)), key=lambda start: (rate(start), -start))


class ServiceTimes:
    """A `Law` that is measured: per batch size the 90th percentile of the last 64 durations.

    A size that was never measured is interpolated; one beyond the largest measured is taken as proportional. Before any
    measurement everything takes no time, so that batches are as large as they can be. Belongs to the inference thread.
    """

    def __init__(self) -> None:
        self._durations_s: dict[int, deque[float]] = {}
        self._quantiles_s: dict[int, float] = {}
        self._sizes: list[int] = []
        self._estimates_s: list[float] = []

    def add(self, size: int, duration_s: float) -> None:
        """Learn from one inference."""
        window = self._durations_s.setdefault(size, deque(maxlen=_WINDOW))
        window.append(duration_s)
        self._quantiles_s[size] = sorted(window)[math.ceil(_QUANTILE * len(window)) - 1]
        self._sizes = sorted(self._quantiles_s)
        self._estimates_s = list(accumulate((self._quantiles_s[known] for known in self._sizes), max))

    def __call__(self, size: int) -> float:
        """Seconds that a batch of this size takes."""
        if not self._sizes:
            return 0.0
        if size > self._sizes[-1]:
            return self._estimates_s[-1] * size / self._sizes[-1]
        return float(np.interp(size, self._sizes, self._estimates_s))

    def table(self, max_batch: int) -> list[float]:
        """Seconds of batches of 1 ... max_batch."""
        return [self(size) for size in range(1, max_batch + 1)]
