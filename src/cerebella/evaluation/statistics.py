"""Intervals and paired tests for small numbers of episodes. NumPy only."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054
"""Two-sided 95 % point of the standard normal."""


def wilson_interval(num_successes: int, num_trials: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a success rate (Wilson 1927); honest near 0 and 1, where the usual +- interval is not.

        centre = (k + z^2 / 2) / (n + z^2),  half = z / (n + z^2) * sqrt(k (n - k) / n + z^2 / 4)

    Returns:
        (low, high) in 0..1; (0, 1) without any trial, since nothing is known then.

    Raises:
        ValueError: the counts are negative, or there are more successes than trials.
    """
    if not 0 <= num_successes <= num_trials:
        raise ValueError(f"successes must be in 0..trials; got {num_successes} successes in {num_trials} trials")
    if num_trials == 0:
        return 0.0, 1.0
    k, n = num_successes, num_trials
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return low, high


_T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Two-sided 95 % points of Student's t for 1, 2, ... 30 degrees of freedom."""


@dataclass(frozen=True)
class PairedComparison:
    """Two policies on the same episodes. `difference` = rate(first) - rate(second), with a 95 % interval.

    `p_value` is the exact two-sided McNemar test: given the pairs that disagree, each side is equally likely to win.
    """

    num_pairs: int
    num_only_first: int
    num_only_second: int
    difference: float
    low: float
    high: float
    p_value: float


def compare_paired(first: Sequence[bool], second: Sequence[bool], z: float = Z_95) -> PairedComparison:
    """Compare success on the same seeds: exact McNemar test and the Agresti-Min (2005) interval of the difference.

    The interval is the Wald interval after adding half a pair to each of the four cells, which keeps its coverage when
    few pairs disagree:  d = (b - c) / n,  half = z / n * sqrt(b + c - (b - c)^2 / n)  with  b, c += 0.5 and n += 2.

    Raises:
        ValueError: the sequences differ in length or are empty.
    """
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(f"a paired comparison needs equally many episodes; got {len(first)} and {len(second)}")
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    n = len(first) + 2
    b, c = only_first + 0.5, only_second + 0.5
    centre = (b - c) / n
    half = z / n * math.sqrt(b + c - (b - c) ** 2 / n)
    return PairedComparison(
        num_pairs=len(first),
        num_only_first=only_first,
        num_only_second=only_second,
        difference=(only_first - only_second) / len(first),
        low=max(-1.0, centre - half),
        high=min(1.0, centre + half),
        p_value=_exact_mcnemar(only_first, only_second),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of a family of tests, in the order given (Holm 1979).

    Rejecting where the adjusted value is below alpha keeps the chance of one or more wrong rejections below alpha,
    however the tests depend on each other. With p(1) <= ... <= p(m):  max over j <= i of min(1, (m - j + 1) p(j)).

    Raises:
        ValueError: a value outside 0..1.
    """
    if wrong := [p for p in p_values if not 0.0 <= p <= 1.0]:
        raise ValueError(f"p values must be in 0..1; got {wrong[0]}")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def sign_flip_test(differences: ArrayLike, *, num_flips: int = 9999, seed: int = 0) -> float:
    """Two-sided p value of paired differences: how often is their sum this far from 0 if each sign is a coin?

    The Monte Carlo version of Fisher's randomisation test, p = (1 + number of flips at least as extreme) / (1 + num_flips),
    so it is never below 1 / (1 + num_flips). One difference per independent unit.

    Raises:
        ValueError: no differences, or num_flips below 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or num_flips < 1:
        raise ValueError(
            f"the test needs a list of differences and num_flips of 1 or more; got the shape {list(values.shape)} and "
            f"{num_flips}"
        )
    moved = values[values != 0.0]
    generator = np.random.default_rng(seed)
    num_extreme = 0
    for start in range(0, num_flips, 1000):
        signs = generator.integers(0, 2, size=(min(1000, num_flips - start), moved.size), dtype=np.int8)
        sums = np.abs((2.0 * signs - 1.0) @ moved)
        num_extreme += int((sums >= abs(moved.sum()) - 1e-9).sum())
    return (1 + num_extreme) / (1 + num_flips)


def student_interval(values: ArrayLike) -> tuple[float, float] | None:
    """95 % interval of the mean of a few independent values (Student 1908), e.g. one per training seed.

        mean +- t(n - 1) s / sqrt(n)

    Beyond 31 values the normal point stands for t, which is at most 4 % too narrow. None below two values.

    Raises:
        ValueError: not a list of numbers.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1:
        raise ValueError(f"the interval needs a list of numbers; got the shape {list(data.shape)}")
    if data.size < 2:
        return None
    point = _T_95[data.size - 2] if data.size - 2 < len(_T_95) else Z_95
    half = point * float(data.std(ddof=1)) / math.sqrt(data.size)
    return float(data.mean()) - half, float(data.mean()) + half


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float],
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `statistic` over independent `values` (Efron 1979).

    Raises:
        ValueError: no values, or a level outside 0..1.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError(f"the bootstrap needs a non-empty list of numbers; got the shape {list(data.shape)}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1; got {level}")
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, data.size, size=(num_resamples, data.size))
    estimates = np.array([statistic(data[draw]) for draw in draws])
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def quantiles(values: ArrayLike, names: Sequence[str] = ("p50", "p95", "max")) -> dict[str, float | None]:
    """Named quantiles: `p50`, `p99.9`, `max`, `mean`. All None without values (there is no number to report).

    Raises:
        ValueError: an unknown name.
    """
    data = np.asarray(values, dtype=np.float64).ravel()
    result: dict[str, float | None] = {}
    for name in names:
        if name != "max" and name != "mean" and not (name.startswith("p") and 0.0 <= _number(name[1:]) <= 100.0):
            raise ValueError(f"unknown quantile {name!r}; use 'max', 'mean' or 'p' and a percentage such as 'p99.9'")
        if data.size == 0:
            result[name] = None
        elif name == "max":
            result[name] = float(data.max())
        elif name == "mean":
            result[name] = float(data.mean())
        else:
            result[name] = float(np.percentile(data, float(name[1:])))
    return result


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _exact_mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided binomial test of `min` or fewer wins among the disagreeing pairs."""
    n = only_first + only_second
    smaller = min(only_first, only_second)
    tail = sum(math.comb(n, i) for i in range(smaller + 1)) / 2**n
    return min(1.0, 2.0 * tail)
