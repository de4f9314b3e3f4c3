"""How many robots one server can hold, on a virtual clock: the scheduler's own decision function against a plain queue.

Robots ask again after a fixed number of ticks, each with a phase of its own. An answer counts if it comes within the
deadline; an observation that is replaced by a newer one of the same robot before it was looked at never gets one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cerebella.serving.batching import ServiceTimes, Waiting, choose_batch

Server = Literal["edf", "fifo"]
"""`edf`: `choose_batch` with times that it learns as it goes, as the server does. `fifo`: one at a time, in order of arrival."""

MAX_MISS_SHARE = 0.01


@dataclass(frozen=True)
class Fleet:
    """Robots that re-plan.

    Args:
        replan_ticks: ticks between two requests of one robot. policy_hz: ticks per second.
        deadline_s: an answer later than this after its request is missed.
        duration_s: simulated time of one run. jitter_s: standard deviation of a request's moment.
    """

    replan_ticks: int = 20
    policy_hz: float = 30.0
    deadline_s: float = 0.2
    duration_s: float = 20.0
    jitter_s: float = 0.003

    @property
    def period_s(self) -> float:
        """Seconds between two requests of one robot."""
        return self.replan_ticks / self.policy_hz

    def arrivals(self, num_robots: int, seed: int) -> list[tuple[float, int]]:
        """(second, robot) of every request, in order."""
        rng = np.random.default_rng(seed)
        period_s = self.period_s
        num_each = max(round(self.duration_s / period_s), 1)
        phases_s = rng.uniform(0.0, period_s, num_robots)
        moments_s = phases_s[:, None] + period_s * np.arange(num_each)
        moments_s += rng.normal(0.0, self.jitter_s, moments_s.shape)
        robots = np.repeat(np.arange(num_robots), num_each)
        return sorted(zip(moments_s.ravel().tolist(), robots.tolist(), strict=True))


@dataclass(frozen=True)
class ServiceLaw:
    """How long one call of the policy takes.

    Args:
        batch_s: batch size to seconds on the device; must hold 1; sizes between two are interpolated.
        host_s: added to every call. jitter: standard deviation of the factor on the sum; it never falls below a half.
    """

    batch_s: Mapping[int, float]
    host_s: float = 0.003
    jitter: float = 0.05

    def __post_init__(self) -> None:
        if 1 not in self.batch_s:
            raise ValueError(f"a service law needs the seconds of a batch of 1; got sizes {sorted(self.batch_s)}")

    @property
    def max_batch(self) -> int:
        """The largest batch that the law knows."""
        return max(self.batch_s)

    def mean_s(self, size: int) -> float:
        """Expected seconds of a batch.

        Raises:
            ValueError: larger than the law knows.
        """
        if not 1 <= size <= self.max_batch:
            raise ValueError(f"batch size must be in 1..{self.max_batch}; got {size}")
        sizes = sorted(self.batch_s)
        return self.host_s + float(np.interp(size, sizes, [self.batch_s[known] for known in sizes]))

    def draw_s(self, size: int, rng: np.random.Generator) -> float:
        """Seconds of one call."""
        return self.mean_s(size) * max(0.5, 1.0 + self.jitter * float(rng.standard_normal()))


@dataclass(frozen=True)
class Served:
    """What the robots saw: requests, those that got no answer in time, and percentiles of the answers that came, seconds."""

    num_robots: int
    num_requests: int
    num_missed: int
    p50_s: float
    p99_s: float
    mean_batch: float

    @property
    def miss_share(self) -> float:
        """Missed requests, 0..1."""
        return self.num_missed / self.num_requests if self.num_requests else 0.0


def simulate(
    num_robots: int, law: ServiceLaw, server: Server, fleet: Fleet, seeds: tuple[int, ...] = (0, 1, 2)
) -> Served:
    """One server, once per seed; requests of all runs are counted together.

    Raises:
        ValueError: no robot.
    """
    if num_robots < 1:
        raise ValueError(f"num_robots must be 1 or more; got {num_robots}")
    runs = [_run(num_robots, law, server, fleet, seed) for seed in seeds]
    latencies_s = np.concatenate([latencies for latencies, _, _ in runs])
    num_requests = sum(run_requests for _, run_requests, _ in runs)
    num_in_time = int((latencies_s <= fleet.deadline_s).sum())
    return Served(
        num_robots=num_robots,
        num_requests=num_requests,
        num_missed=num_requests - num_in_time,
        p50_s=float(np.percentile(latencies_s, 50)),
        p99_s=float(np.percentile(latencies_s, 99)),
        mean_batch=len(latencies_s) / sum(batches for _, _, batches in runs),
    )


def most_robots(law: ServiceLaw, server: Server, fleet: Fleet) -> Served:
    """The largest number of robots with at most 1 % of the requests missed (so that p99 is within the deadline)."""
    per_s = max(size / law.mean_s(size) for size in range(1, (law.max_batch if server == "edf" else 1) + 1))
    best, low, high = Served(0, 0, 0, 0.0, 0.0, 0.0), 1, int(1.05 * per_s * fleet.period_s) + 1
    while low <= high:
        middle = (low + high) // 2
        served = simulate(middle, law, server, fleet)
        if served.miss_share <= MAX_MISS_SHARE:
            best, low = served, middle + 1
        else:
            high = middle - 1
    return best


def _run(num_robots: int, law: ServiceLaw, server: Server, fleet: Fleet, seed: int) -> tuple[np.ndarray, int, int]:
    """(latencies of the answers in seconds, requests, calls of the policy)."""
    arrivals = fleet.arrivals(num_robots, seed)
    rng = np.random.default_rng((seed, 1))
    times = ServiceTimes()
    for size in range(1, law.max_batch + 1):  # the warm-up
        times.add(size, law.draw_s(size, rng))
    waiting: dict[int, Waiting] = {}
    latencies_s: list[float] = []
    now_s, following, num_calls = 0.0, 0, 0
    while following < len(arrivals) or waiting:
        if not waiting:
            now_s = max(now_s, arrivals[following][0])
        while following < len(arrivals) and arrivals[following][0] <= now_s:
            arrived_s, robot = arrivals[following]
            waiting[robot] = Waiting(arrived_s + fleet.deadline_s, arrived_s)  # a newer observation keeps the place
            following += 1
        batch = _next(waiting, server, now_s, law.max_batch, times)
        duration_s = law.draw_s(len(batch), rng)
        if server == "edf":
            times.add(len(batch), duration_s)
        now_s += duration_s
        num_calls += 1
        latencies_s.extend(now_s - waiting.pop(robot).arrived_s for robot in batch)
    return np.asarray(latencies_s), len(arrivals), num_calls


def _next(
    waiting: Mapping[int, Waiting], server: Server, now_s: float, max_batch: int, times: ServiceTimes
) -> list[int]:
    robots = list(waiting)
    if server == "fifo":
        return robots[:1]
    return [robots[i] for i in choose_batch(list(waiting.values()), now_s, max_batch, times)]
