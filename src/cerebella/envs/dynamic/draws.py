"""Everything random in an episode: one fixed number of uniform draws per seed, handed out column by column."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cerebella.types import FloatArray


class Draws:
    """Uniform numbers in [0, 1), `num_draws` of them for each of N seeds.

    Args:
        seeds: non-negative integers. num_draws: how many numbers a scene takes, at most. what: a name for messages.

    Raises:
        ValueError: a seed is negative or no integer, or there is none.
    """

    def __init__(self, seeds: Sequence[int] | NDArray[np.int64], num_draws: int, what: str) -> None:
        given = list(seeds)
        if not given or any(not isinstance(seed, int | np.integer) or seed < 0 for seed in given):
            raise ValueError(f"{what}: seeds must be one or more integers of 0 or above; got {given[:8]}")
        self._values = np.stack([np.random.default_rng(int(seed)).random(num_draws) for seed in given])
        self._num_used = 0

    def __len__(self) -> int:
        """Number of scenes, N."""
        return len(self._values)

    def take(self, count: int) -> NDArray[np.float64]:
        """The next numbers, float64[N, count]."""
        self._num_used += count
        assert self._num_used <= self._values.shape[1], "more draws than the task declared"
        return self._values[:, self._num_used - count : self._num_used]

    def between(self, low: Sequence[float], high: Sequence[float]) -> FloatArray:
        """float32[N, len(low)], each column in its own range."""
        return (np.array(low) + self.take(len(low)) * (np.array(high) - np.array(low))).astype(np.float32)

    def whole(self, low: int, high: int) -> NDArray[np.int32]:
        """int32[N] in low..high, both included."""
        return (low + np.floor(self.take(1)[:, 0] * (high - low + 1))).astype(np.int32)
