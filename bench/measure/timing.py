"""Who is faster, on a machine that others use too: interleaved rounds, CPU time, ratios with intervals, a null check.

On a CPU the primary figure is the CPU time of one thread: on a busy machine it moves by a few per cent where wall time
doubles. On a GPU it is the wall clock from an idle device to an idle device, with CUDA events beside it.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

NUM_RESAMPLES = 2000
INTERVAL = (2.5, 97.5)


@dataclass
class Timing:
    """Seconds of every round of one contender, in order.

    Args:
        cpu_s: CPU time of the process. wall_s: from an idle device to an idle device. device_s: between two CUDA events,
            empty on a CPU. is_gpu: whether `primary_s` is wall_s rather than cpu_s.
    """

    is_gpu: bool = False
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    device_s: list[float] = field(default_factory=list)

    @property
    def primary_s(self) -> list[float]:
        """The seconds that ratios are made of."""
        return self.wall_s if self.is_gpu else self.cpu_s

    @property
    def median_s(self) -> float:
        """Median of the primary seconds."""
        return statistics.median(self.primary_s)


@dataclass(frozen=True)
class Ratio:
    """How many times longer one contender takes than another.

    Args:
        median: ratio of the medians. low, high: 95 % interval of it, by resampling the rounds. minima: ratio of the
            fastest rounds.
    """

    median: float
    low: float
    high: float
    minima: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(slow: Sequence[float], fast: Sequence[float], seed: int = 0) -> Ratio:
    """slow / fast of rounds that were timed side by side; the bootstrap draws whole rounds.

    Raises:
        ValueError: no round, or different numbers of rounds.
    """
    if not slow or len(slow) != len(fast):
        raise ValueError(f"a ratio needs the same rounds on both sides; got {len(slow)} and {len(fast)}")
    pair = np.asarray([slow, fast])
    drawn = np.random.default_rng(seed).integers(len(slow), size=(NUM_RESAMPLES, len(slow)))
    medians = np.median(pair[:, drawn], axis=2)
    low, high = np.percentile(medians[0] / medians[1], INTERVAL, method="nearest")
    best = pair.min(axis=1)
    middle = np.median(pair, axis=1)
    return Ratio(float(middle[0] / middle[1]), float(low), float(high), float(best[0] / best[1]))


@dataclass(frozen=True)
class Rounds:
    """How often everybody runs.

    Args:
        number: timed rounds, 3 or more. warm_ups: calls before, not timed.
        budget_s: wall time after which no further round starts, warm-up included; three rounds are run in any case.

    Raises:
        ValueError: fewer than three rounds.
    """

    number: int
    warm_ups: int = 2
    budget_s: float = float("inf")

    def __post_init__(self) -> None:
        if self.number < 3:
            raise ValueError(f"rounds must be 3 or more (a median of less says nothing); got {self.number}")


def interleave(
    runs: Mapping[str, Callable[[], object]], rounds: Rounds, device: torch.device | str = "cpu"
) -> dict[str, Timing]:
    """Every contender once a round, another one first each time, so that a slow moment hits all of them.

    Args:
        runs: name -> one call of the work.
    """
    is_gpu = torch.device(device).type == "cuda"
    started_s = time.perf_counter()
    timings = {name: Timing(is_gpu) for name in runs}
    names = list(runs)
    for name in names:
        for _ in range(rounds.warm_ups):
            runs[name]()
    for index in range(rounds.number):
        if index >= 3 and time.perf_counter() - started_s > rounds.budget_s:
            break
        first = index % len(names)
        for name in names[first:] + names[:first]:
            _time_once(runs[name], timings[name])
    return timings


def _time_once(run: Callable[[], object], timing: Timing) -> None:
    if timing.is_gpu:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        timing.wall_s.append(time.perf_counter() - wall_s)
        timing.cpu_s.append(time.process_time() - cpu_s)
        timing.device_s.append(begin.elapsed_time(end) / 1e3)
        return
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    run()
    timing.cpu_s.append(time.process_time() - cpu_s)
    timing.wall_s.append(time.perf_counter() - wall_s)
