"""How many ticks the next inference will take: a high quantile of the recent ones, plus a margin if one wants it.

A sliding quantile follows a changing link where the last value or a constant does not, and it is less wasteful than
the maximum. Warm-up calls (compilation, caches) say nothing about the next call and are left out.
"""

import math
from collections import deque

import numpy as np


class DelayEstimator:
    """Promised delay from measured delays, in ticks. Used by the control thread only; may live over many episodes.

    Args:
        initial: the estimate before the first counted sample.
        window: how many of the newest samples count.
        quantile: 0..1; the sample at or above it is taken, so an estimate is always a delay that was seen.
        margin: ticks added. One tick more binds a policy that continues its promise to one row more of what it thought
            before, which costs more than now and then a late answer (`docs/study-async.md`).
        num_warmup: samples ignored at the start.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self, initial: int, window: int = 100, quantile: float = 0.95, margin: int = 0, num_warmup: int = 1
    ) -> None:
        for name, value, least in (
            ("initial", initial, 0),
            ("window", window, 1),
            ("margin", margin, 0),
            ("num_warmup", num_warmup, 0),
        ):
            if value < least:
                raise ValueError(f"DelayEstimator.{name} must be {least} or more; got {value}")
        if not 0.0 <= quantile <= 1.0:
            raise ValueError(f"DelayEstimator.quantile must be in 0..1; got {quantile}")
        self._initial = initial
        self._quantile = quantile
        self._margin = margin
        self._num_warmup_left = num_warmup
        self._samples: deque[int] = deque(maxlen=window)

    def record(self, num_ticks: int) -> None:
        """Add the ticks that passed between an observation and the arrival of its reply."""
        if num_ticks < 0:
            raise ValueError(f"a delay must be 0 or more ticks; got {num_ticks}")
        if self._num_warmup_left > 0:
            self._num_warmup_left -= 1
        else:
            self._samples.append(num_ticks)

    def estimate(self) -> int:
        """The delay to promise now, ticks.

        If every sample in the window is 0 (replies come inside their own tick) the estimate is 0, without the margin:
        then nothing is promised, and `sync`, `naive` and `prefix` send the same commands.
        """
        if not self._samples:
            return self._initial
        if not any(self._samples):
            return 0
        return int(np.quantile(np.asarray(self._samples), self._quantile, method="higher")) + self._margin


def to_ticks(duration_s: float, period_s: float) -> int:
    """Ticks until a reply that takes `duration_s` can be used: rounded up, as replies are looked for once per tick."""
    if duration_s < 0 or period_s <= 0:
        raise ValueError(f"need duration_s >= 0 and period_s > 0; got {duration_s} s and {period_s} s")
    return math.ceil(duration_s / period_s - 1e-9)  # a whole number of periods is that number
