from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.runtime.clock import TickSchedule, VirtualClock, WallClock

PERIOD_S = 0.25  # a power of two: sums of it are exact


def test_virtual_time_moves_only_when_asked() -> None:
    clock = VirtualClock(5.0)
    clock.sleep_until_s(7.0)
    clock.sleep_until_s(6.0)
    assert clock.now_s() == 7.0
    clock.advance(0.5)
    assert clock.now_s() == 7.5
    with pytest.raises(ValueError, match="got -1"):
        clock.advance(-1.0)


def test_the_wall_clock_sleeps_until_the_deadline_and_not_less() -> None:
    clock = WallClock()
    deadline_s = clock.now_s() + 0.02
    clock.sleep_until_s(deadline_s)
    woken_s = clock.now_s()
    assert deadline_s <= woken_s < deadline_s + 1.0
    clock.sleep_until_s(deadline_s)
    assert clock.now_s() < woken_s + 1.0


def test_the_schedule_does_not_drift() -> None:
    """Work of varying length inside the period leaves deadline k at exactly k periods."""
    clock = VirtualClock(100.0)
    schedule = TickSchedule(PERIOD_S, clock)
    for k in range(1000):
        assert schedule.wait() == 100.0 + k * PERIOD_S == clock.now_s()
        clock.advance(PERIOD_S * (k % 7) / 8)
    assert schedule.num_overruns == schedule.num_skipped == 0
    assert schedule.max_lateness_s == 0.0


def test_a_little_late_goes_on_at_once_and_returns_to_the_schedule() -> None:
    clock = VirtualClock()
    schedule = TickSchedule(PERIOD_S, clock)
    schedule.wait()
    clock.advance(1.5 * PERIOD_S)
    assert schedule.wait() == PERIOD_S
    assert clock.now_s() == 1.5 * PERIOD_S
    assert schedule.wait() == clock.now_s() == 2 * PERIOD_S
    assert schedule.num_overruns == 0
    assert schedule.max_lateness_s == 0.5 * PERIOD_S


def test_a_stall_skips_deadlines_and_is_not_followed_by_a_burst() -> None:
    clock = VirtualClock()
    schedule = TickSchedule(PERIOD_S, clock)
    schedule.wait()
    clock.advance(5.5 * PERIOD_S)
    assert [schedule.wait() / PERIOD_S for _ in range(3)] == [6.0, 7.0, 8.0]
    assert clock.now_s() == 8 * PERIOD_S
    assert (schedule.num_overruns, schedule.num_skipped) == (1, 5)
    assert schedule.max_lateness_s == 4.5 * PERIOD_S


@given(st.lists(st.integers(0, 60), min_size=1, max_size=50))
def test_ticks_stay_on_the_grid_and_never_come_closer_than_the_work(work_eighths: list[int]) -> None:
    """Whatever the loop does, deadlines are multiples of the period, strictly increasing, and account for all time."""
    clock = VirtualClock()
    schedule = TickSchedule(PERIOD_S, clock)
    deadlines = [schedule.wait()]
    for eighths in work_eighths:
        clock.advance(eighths * PERIOD_S / 8)
        deadlines.append(schedule.wait())
        assert clock.now_s() - deadlines[-1] <= PERIOD_S
    grid = [deadline_s / PERIOD_S for deadline_s in deadlines]
    assert all(later > earlier and later == int(later) for earlier, later in pairwise(grid))
    assert grid[-1] == len(work_eighths) + schedule.num_skipped


def test_a_period_must_be_positive() -> None:
    with pytest.raises(ValueError, match="above 0 s; got 0"):
        TickSchedule(0.0, VirtualClock())
