"""How many robots one server can hold: simulated clients on service times that were measured in the same run.

Every robot asks again after a fixed number of ticks, with a phase of its own. A reply is in time if it arrives before the
promised action prefix of its request has run out.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Order = Literal["fifo", "edf"]
PREFIX_ROWS = (3, 4, 5, 6)
MAX_MISS_RATE = 0.001


@dataclass(frozen=True)
class Clients:
    """Robots that re-plan.

    Args:
        policy_hz: rows per second. replan_ticks: ticks between two requests of one robot. duration_s: simulated time.
        jitter_s: standard deviation of a request's moment.
    """

    policy_hz: float = 30.0
    replan_ticks: int = 20
    duration_s: float = 60.0
    jitter_s: float = 0.003


@dataclass(frozen=True)
class Served:
    """What the robots saw: share of replies after their deadline, and the 99th percentile of the latency, seconds."""

    num_robots: int
    miss_rate: float
    p99_s: float


def simulate(
    num_robots: int, service_s: Mapping[int, float], order: Order, clients: Clients | None = None, seed: int = 0
) -> Served:
    """One server.

    Args:
        service_s: batch size -> seconds; must hold 1. A batch between two sizes costs as much as the larger one.
        order: `fifo` serves in order of arrival; `edf` the earliest deadline first. Both take the largest batch that is
            known, waiting, and still in time for the most urgent request in it.

    Raises:
        ValueError: no robot, or no time for a batch of 1.
    """
    if num_robots < 1 or 1 not in service_s:
        raise ValueError(f"need a robot and the service time of a batch of 1; got {num_robots} and {dict(service_s)}")
    arrivals = _arrivals(num_robots, clients or Clients(), np.random.default_rng(seed))
    waiting: list[tuple[float, float, float]] = []
    latencies, num_missed, now_s, following = [], 0, 0.0, 0
    while following < len(arrivals) or waiting:
        if not waiting:
            now_s = max(now_s, arrivals[following][0])
        while following < len(arrivals) and arrivals[following][0] <= now_s:
            arrival_s, deadline_s = arrivals[following]
            heapq.heappush(waiting, (deadline_s if order == "edf" else arrival_s, arrival_s, deadline_s))
            following += 1
        batch = _next_batch(waiting, service_s, now_s)
        now_s += _cost_s(len(batch), service_s)
        for _, arrival_s, deadline_s in batch:
            latencies.append(now_s - arrival_s)
            num_missed += now_s > deadline_s
    return Served(num_robots, num_missed / len(latencies), float(np.percentile(latencies, 99)))


def most_robots(
    service_s: Mapping[int, float], order: Order, clients: Clients | None = None, max_robots: int = 2048
) -> Served:
    """The largest number of robots, up to `max_robots`, with at most 0.1 % of replies late; 0 robots if one is too many."""
    best, low, high = Served(0, 0.0, 0.0), 1, max_robots
    while low <= high:
        middle = (low + high) // 2
        served = simulate(middle, service_s, order, clients)
        if served.miss_rate <= MAX_MISS_RATE:
            best, low = served, middle + 1
        else:
            high = middle - 1
    return best


def _arrivals(num_robots: int, clients: Clients, rng: np.random.Generator) -> list[tuple[float, float]]:
    """(arrival, deadline) of every request, seconds, in order of arrival; slack is the prefix of the robot."""
    period_s = clients.replan_ticks / clients.policy_hz
    num_each = max(int(clients.duration_s / period_s), 1)
    phase_s = rng.uniform(0, period_s, num_robots)
    moments = (
        phase_s[:, None] + period_s * np.arange(num_each) + rng.normal(0, clients.jitter_s, (num_robots, num_each))
    )
    slack_s = np.asarray([PREFIX_ROWS[robot % len(PREFIX_ROWS)] for robot in range(num_robots)]) / clients.policy_hz
    deadlines = moments + slack_s[:, None]
    return sorted(zip(moments.ravel().tolist(), deadlines.ravel().tolist(), strict=True))


def _next_batch(
    waiting: list[tuple[float, float, float]], service_s: Mapping[int, float], now_s: float
) -> list[tuple[float, float, float]]:
    batch = [heapq.heappop(waiting)]
    urgent_s = batch[0][2]
    while waiting and len(batch) < max(service_s):
        tightest_s = min(urgent_s, waiting[0][2])
        if now_s + _cost_s(len(batch) + 1, service_s) > tightest_s >= now_s + _cost_s(len(batch), service_s):
            break
        urgent_s = tightest_s
        batch.append(heapq.heappop(waiting))
    return batch


def _cost_s(size: int, service_s: Mapping[int, float]) -> float:
    return service_s[min(known for known in service_s if known >= size)]
