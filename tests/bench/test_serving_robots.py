"""Fleets whose answers can be worked out."""

import pytest

from bench.measure.serving_robots import Fleet, ServiceLaw, most_robots, simulate

REGULAR = Fleet(jitter_s=0.0, duration_s=10.0)


def test_one_robot_waits_for_nobody() -> None:
    served = simulate(1, ServiceLaw({1: 0.05}, host_s=0.003, jitter=0.0), "fifo", REGULAR)
    assert served.num_missed == 0
    assert served.p99_s == pytest.approx(0.053)
    assert served.mean_batch == 1.0


def test_what_takes_longer_than_the_deadline_is_missed() -> None:
    assert simulate(2, ServiceLaw({1: 0.25}), "edf", REGULAR).miss_share == 1.0
    assert most_robots(ServiceLaw({1: 0.25}), "fifo", REGULAR).num_robots == 0


def test_an_observation_that_was_replaced_counts_as_missed() -> None:
    # 1.5 requests per second; one answer takes a second, so every second or third observation is never looked at.
    served = simulate(1, ServiceLaw({1: 1.0}, jitter=0.0), "fifo", REGULAR, seeds=(0,))
    assert served.num_requests == 15
    assert served.num_missed == 15


def test_no_server_holds_more_robots_than_it_has_time_for() -> None:
    # 1.5 requests per second and robot; 13 ms each is 51 robots at full load.
    assert 20 < most_robots(ServiceLaw({1: 0.010}), "fifo", REGULAR).num_robots <= 52


def test_batches_hold_more_robots() -> None:
    law = ServiceLaw({1: 0.010, 2: 0.013, 4: 0.020})
    assert most_robots(law, "edf", REGULAR).num_robots > 1.2 * most_robots(law, "fifo", REGULAR).num_robots


def test_the_law_between_its_sizes() -> None:
    law = ServiceLaw({1: 0.010, 2: 0.020, 4: 0.030}, host_s=0.003)
    assert law.mean_s(3) == pytest.approx(0.028)
    with pytest.raises(ValueError, match=r"1\.\.4"):
        law.mean_s(5)
    with pytest.raises(ValueError, match="batch of 1"):
        ServiceLaw({2: 0.1})
