"""How well the loop kept its rate, seen from the moments at which commands had been applied."""

from collections import deque

import numpy as np

_NUM_KEPT = 200_000


class Pace:
    """Moments of the last 200 000 commands (half an hour at 100 Hz)."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._moments_s: deque[float] = deque(maxlen=_NUM_KEPT)

    def add(self, now_s: float) -> None:
        """A command was applied."""
        self._moments_s.append(now_s)

    def jitter_s(self, quantile: float, last: int | None = None) -> float:
        """Quantile of |time between two commands - period|, seconds, of the `last` commands; 0 before there are two."""
        moments_s = np.asarray(self._moments_s if last is None else list(self._moments_s)[-last:])
        if len(moments_s) < 2:
            return 0.0
        return float(np.quantile(np.abs(np.diff(moments_s) - self._period_s), quantile, method="higher"))

    def duration_s(self) -> float:
        """From the first to the last one that is kept."""
        return self._moments_s[-1] - self._moments_s[0] if len(self._moments_s) > 1 else 0.0
