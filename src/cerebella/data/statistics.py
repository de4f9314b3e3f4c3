"""Statistics of columns as they stream by: moments and range exactly, quantiles exactly while the values fit in memory.

Names are those of LeRobot's `stats.json`: min, max, mean, std (of the whole set, divided by n), count, q01, q10, q50,
q90, q99. Pictures are in [0, 1] with the shape [3, 1, 1].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cerebella.types import ImageArray

QUANTILES: Mapping[str, float] = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
Summary = dict[str, NDArray[Any]]
"""Statistic -> float64[*shape]; `count` is int64[1]."""
MAX_VALUES = 20_000_000
"""Numbers that one column may keep for its quantiles (160 MB); beyond, every second row is dropped, again and again."""
_PICTURE_SIDE_PX = 150
_LEVELS = 256


class RunningStatistics:
    """Statistics of one numeric column of any shape.

    Args:
        shape: of one row. max_values: numbers to keep for quantiles; see `is_exact`.
    """

    def __init__(self, shape: tuple[int, ...], max_values: int = MAX_VALUES) -> None:
        self._shape = shape
        self._width = int(np.prod(shape))
        self._max_values = max_values
        self._stride = 1
        self._kept: list[NDArray[np.float64]] = []
        self._num_kept = 0
        self.count = 0
        self._mean = np.zeros(self._width)
        self._squares = np.zeros(self._width)
        self._min = np.full(self._width, np.inf)
        self._max = np.full(self._width, -np.inf)

    @property
    def is_exact(self) -> bool:
        """Whether quantiles come from all rows. Otherwise from every 2^k-th row, in the order they came."""
        return self._stride == 1

    def update(self, rows: NDArray[Any]) -> None:
        """Add rows [n, *shape]; numbers or booleans, all finite."""
        values = rows.reshape(len(rows), self._width).astype(np.float64)
        if not len(values):
            return
        mean = values.mean(axis=0)
        squares = np.square(values - mean).sum(axis=0)
        total = self.count + len(values)
        delta = mean - self._mean
        self._mean += delta * (len(values) / total)
        self._squares += squares + np.square(delta) * (self.count * len(values) / total)
        self._min = np.minimum(self._min, values.min(axis=0))
        self._max = np.maximum(self._max, values.max(axis=0))
        self._keep(values)
        self.count = total

    def summary(self) -> Summary:
        """All statistics.

        Raises:
            ValueError: no row came.
        """
        if not self.count:
            raise ValueError("statistics need at least 1 row; got none")
        result: Summary = {
            "min": self._min,
            "max": self._max,
            "mean": self._mean,
            "std": np.sqrt(self._squares / self.count),
        }
        quantiles = np.quantile(self.kept(), list(QUANTILES.values()), axis=0)
        result.update(zip(QUANTILES, quantiles, strict=True))
        shaped: Summary = {name: value.reshape(self._shape or (1,)) for name, value in result.items()}
        return {**shaped, "count": np.array([self.count])}

    def kept(self) -> NDArray[np.float64]:
        """The rows that quantiles come from, [m, width]: all of them if `is_exact`."""
        return np.concatenate(self._kept) if self._kept else np.empty((0, self._width))

    def _keep(self, values: NDArray[np.float64]) -> None:
        first = -self.count % self._stride  # rows are kept whose number is a multiple of the stride
        self._kept.append(values[first :: self._stride])
        self._num_kept += len(self._kept[-1])
        while self._num_kept * self._width > self._max_values and self._num_kept > 1:
            self._kept = [np.concatenate(self._kept)[::2]]
            self._num_kept = len(self._kept[0])
            self._stride *= 2


class PictureStatistics:
    """Statistics of the pixels of pictures, per channel, from a histogram of the 256 levels: exact for the pixels seen.

    Pictures are thinned to a shorter side of about 150 pixels, as LeRobot does. `count` counts pictures.
    """

    def __init__(self) -> None:
        self._histogram = np.zeros((3, _LEVELS), dtype=np.int64)
        self.count = 0

    def update(self, image: ImageArray) -> None:
        """Add uint8[h, w, 3]."""
        step = max(1, min(image.shape[:2]) // _PICTURE_SIDE_PX)
        pixels = image[::step, ::step].reshape(-1, 3)
        for channel in range(3):
            self._histogram[channel] += np.bincount(pixels[:, channel], minlength=_LEVELS)
        self.count += 1

    def summary(self) -> Summary:
        """All statistics, float64[3, 1, 1] in [0, 1].

        Raises:
            ValueError: no picture came.
        """
        if not self.count:
            raise ValueError("statistics need at least 1 picture; got none")
        levels = np.arange(_LEVELS) / (_LEVELS - 1)
        weights = self._histogram / self._histogram.sum(axis=1, keepdims=True)
        mean = weights @ levels
        spread = np.sqrt((weights * np.square(levels - mean[:, None])).sum(axis=1))
        cumulative = np.cumsum(weights, axis=1)
        seen = self._histogram > 0
        result = {
            "min": levels[seen.argmax(axis=1)],
            "max": levels[_LEVELS - 1 - seen[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": spread,
        }
        for name, quantile in QUANTILES.items():
            result[name] = levels[(cumulative >= quantile - 1e-12).argmax(axis=1)]
        shaped: Summary = {name: value.reshape(3, 1, 1) for name, value in result.items()}
        return {**shaped, "count": np.array([self.count])}


def merge(parts: Sequence[Summary]) -> Summary:
    """The statistics of several sets of rows together.

    Moments, range and count are exact. A quantile is the mean of the parts' quantiles, weighted by their counts, as in
    LeRobot's `aggregate_stats`: an approximation. A quantile that a part lacks is left out.

    Raises:
        ValueError: no part.
    """
    if not parts:
        raise ValueError("there are no statistics to merge")
    counts = np.array([float(part["count"].reshape(-1)[0]) for part in parts])
    share = counts / counts.sum()

    def weighted(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.tensordot(share, np.stack(values).astype(np.float64), axes=1)

    mean = weighted([part["mean"] for part in parts])
    variance = weighted([np.square(part["std"]) + np.square(part["mean"] - mean) for part in parts])
    result: Summary = {
        "min": np.min(np.stack([part["min"] for part in parts]), axis=0),
        "max": np.max(np.stack([part["max"] for part in parts]), axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([int(counts.sum())]),
    }
    for name in QUANTILES:
        if all(name in part for part in parts):
            result[name] = weighted([part[name] for part in parts])
    return result
