"""Which requests go together: the rules one by one, as properties, and what they are worth under load."""

import heapq
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.serving.batching import Law, ServiceTimes, Waiting, choose_batch

Choose = Callable[[Sequence[Waiting], float, int, Law], list[int]]
finite = st.floats(0, 100)
waitings = st.lists(st.builds(Waiting, finite | st.just(np.inf), finite, st.booleans()), max_size=12)


def law(size: int) -> float:
    """1 s for the call, 1 s for each request in it."""
    return 1.0 + size


def at(*due_s: float) -> list[Waiting]:
    return [Waiting(due, 0.0) for due in due_s]


def test_nothing_waits() -> None:
    assert choose_batch([], 0.0, 8, law) == []


def test_the_most_urgent_come_first_whatever_the_order_of_arrival() -> None:
    assert choose_batch(at(90, 70, 80), 0.0, 2, law) == [1, 2]


def test_without_deadlines_the_first_to_come_is_the_first_served() -> None:
    waiting = [Waiting(np.inf, 3.0), Waiting(np.inf, 1.0), Waiting(np.inf, 2.0)]
    assert choose_batch(waiting, 5.0, 2, law) == [1, 2]


def test_a_batch_is_no_longer_than_its_first_can_wait() -> None:
    assert choose_batch(at(3.5, 50, 50, 50), 0.0, 8, law) == [0, 1]  # three would take 4 s


def test_a_request_that_is_late_anyway_delays_nobody_but_is_answered() -> None:
    waiting = at(1.0, 2.5)  # alone takes 2 s: the first is late already
    assert choose_batch(waiting, 0.0, 8, law) == [1]
    assert choose_batch(at(1.0), 0.0, 8, law) == [0]
    assert choose_batch(at(1.0, 9.0), 0.0, 8, law) == [1, 0]  # with time to spare it comes along


def test_one_is_passed_over_only_if_not_all_can_be_in_time() -> None:
    assert choose_batch(at(2, 7, 7, 7), 0.0, 8, law) == [0]  # then three at once until 6 s
    assert choose_batch(at(2, 5, 5, 5, 5), 0.0, 8, law) == [1, 2, 3, 4]  # else these four would be late


def test_guided_and_plain_requests_do_not_share_an_inference() -> None:
    waiting = [Waiting(90, 0.0), Waiting(50, 0.0, is_guided=True), Waiting(60, 0.0), Waiting(70, 0.0, is_guided=True)]
    assert choose_batch(waiting, 0.0, 8, law) == [1, 3]


@given(waitings, st.floats(0, 100), st.integers(1, 6))
def test_every_choice_is_a_batch(waiting: list[Waiting], now_s: float, max_batch: int) -> None:
    chosen = choose_batch(waiting, now_s, max_batch, law)
    assert bool(chosen) == bool(waiting)
    assert len(set(chosen)) == len(chosen) <= max_batch
    assert len({waiting[i].is_guided for i in chosen}) <= 1
    if chosen and any(now_s + law(1) <= request.due_s for request in waiting if not request.is_guided):
        assert now_s + law(len(chosen)) <= waiting[chosen[0]].due_s or waiting[chosen[0]].is_guided


@given(st.lists(finite, min_size=1, max_size=10), st.floats(0, 20), st.integers(1, 6))
def test_a_batch_makes_none_of_its_own_late_that_could_be_in_time(
    due: list[float], now_s: float, max_batch: int
) -> None:
    chosen = choose_batch(at(*due), now_s, max_batch, law)
    if now_s + law(1) <= max(due):
        done_s = now_s + law(len(chosen))
        assert all(done_s <= due[i] or now_s + law(1) > due[i] for i in chosen)


def fifo(waiting: Sequence[Waiting], now_s: float, max_batch: int, law: Law) -> list[int]:
    """One after the other, as a server does that batches nothing."""
    return [min(range(len(waiting)), key=lambda i: waiting[i].arrived_s)]


def as_large_as_it_gets(waiting: Sequence[Waiting], now_s: float, max_batch: int, law: Law) -> list[int]:
    """Earliest deadline first, without a look at how long a batch takes."""
    return sorted(range(len(waiting)), key=lambda i: waiting[i].due_s)[:max_batch]


def share_in_time(choose: Choose, num_robots: int, duration_s: float = 20.0) -> float:
    """Robots that ask 6 times a second, within 200 ms; 3 ms per call and 7 ms per request."""
    random = np.random.default_rng(0)
    arrivals = [(random.uniform(0, 1 / 6), robot) for robot in range(num_robots)]
    heapq.heapify(arrivals)
    pending: dict[int, Waiting] = {}
    now_s, num_asked, num_in_time = 0.0, 0, 0
    while now_s < duration_s:
        while arrivals and arrivals[0][0] <= now_s:
            arrived_s, robot = heapq.heappop(arrivals)
            heapq.heappush(arrivals, (arrived_s + random.uniform(0.95, 1.05) / 6, robot))
            pending[robot] = Waiting(arrived_s + 0.2, arrived_s)
            num_asked += 1
        if not pending:
            now_s = arrivals[0][0]
            continue
        robots = list(pending)
        chosen = choose(list(pending.values()), now_s, 8, lambda size: 0.003 + 0.007 * size)
        now_s += (0.003 + 0.007 * len(chosen)) * random.normal(1, 0.05)
        for i in chosen:
            num_in_time += now_s <= pending.pop(robots[i]).due_s
    return num_in_time / num_asked


def test_more_robots_are_served_in_time_and_overload_costs_only_the_surplus() -> None:
    assert share_in_time(fifo, 16) > 0.99
    assert share_in_time(fifo, 21) < 0.9
    assert share_in_time(choose_batch, 21) > 0.99
    assert share_in_time(choose_batch, 32) > 0.6 > 0.4 > share_in_time(as_large_as_it_gets, 32)


def test_service_times_are_learnt() -> None:
    times = ServiceTimes()
    assert times(4) == 0.0
    for _ in range(10):
        times.add(2, 0.010)
        times.add(4, 0.016)
    assert times.table(4) == pytest.approx([0.010, 0.010, 0.013, 0.016])
    assert times(8) == pytest.approx(0.032)  # beyond what was measured: proportional


def test_service_times_forget_and_never_decrease() -> None:
    times = ServiceTimes()
    times.add(1, 5.0)  # a slow first call
    for _ in range(64):
        times.add(1, 0.010)
    assert times(1) == pytest.approx(0.010)
    times.add(2, 0.004)
    assert times.table(2) == pytest.approx([0.010, 0.010])
