"""Queues whose answers can be worked out."""

import pytest

from bench.measure.serving import Clients, most_robots, simulate

REGULAR = Clients(jitter_s=0.0)
SHORT = Clients(duration_s=20.0)


def test_one_robot_waits_for_nobody() -> None:
    served = simulate(1, {1: 0.05}, "fifo", REGULAR)
    assert served.miss_rate == 0.0
    assert served.p99_s == pytest.approx(0.05)


def test_a_reply_slower_than_every_prefix_always_misses() -> None:
    assert simulate(4, {1: 0.25}, "edf", REGULAR).miss_rate == 1.0
    assert most_robots({1: 0.25}, "fifo", REGULAR).num_robots == 0


def test_no_order_holds_more_robots_than_the_server_has_time_for() -> None:
    # 1.5 requests per second and robot; 10 ms each is 66 robots at full load.
    for order in ("fifo", "edf"):
        assert 20 < most_robots({1: 0.010}, order, SHORT, 256).num_robots <= 66


def test_urgent_requests_first_and_batches_hold_more() -> None:
    one_at_a_time = most_robots({1: 0.040}, "fifo", SHORT, 256).num_robots
    urgent_first = most_robots({1: 0.040}, "edf", SHORT, 256).num_robots
    batched = most_robots({1: 0.040, 2: 0.045, 4: 0.055}, "edf", SHORT, 256).num_robots
    assert one_at_a_time <= urgent_first < batched


def test_a_batch_of_one_must_be_known() -> None:
    with pytest.raises(ValueError, match="batch of 1"):
        simulate(2, {4: 0.1}, "fifo")
