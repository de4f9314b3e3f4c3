"""The order loses nothing, repeats nothing, does not know the ranks, and shuffles as well as it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.data.order import PoolId, ShuffledOrder

sizes = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)


def draw(order: ShuffledOrder, position: int) -> int:
    """Window of one draw of the source, through its pool."""
    lane, count = position % order.num_lanes, position // order.num_lanes
    pool, place = order.slot(lane, count)
    return int(order.pool(pool, lane)[place])


@given(sizes, st.integers(1, 5), st.integers(1, 7), st.integers(1, 4))
@settings(deadline=None)
def test_every_epoch_draws_every_window_once(numbers: list[int], run_length: int, pool: int, num_lanes: int) -> None:
    order = ShuffledOrder(numbers, run_length, pool, num_lanes, seed=(3, 1))
    total = sum(numbers)
    assert order.num_windows == total
    for epoch in range(3):
        assert sorted(draw(order, q) for q in range(epoch * total, (epoch + 1) * total)) == list(range(total))


@given(sizes, st.integers(1, 5), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3))
@settings(deadline=None)
def test_a_lane_walks_through_its_pools_one_after_the_other(
    numbers: list[int], run_length: int, pool: int, num_lanes: int, lane: int
) -> None:
    order = ShuffledOrder(numbers, run_length, pool, num_lanes, seed=(3,))
    lane %= num_lanes
    current, place = order.slot(lane, 0)
    assert place == 0
    for count in range(40):
        if place == len(order.pool(current, lane)):
            current, place = order.next_pool(current, lane), 0
        assert order.slot(lane, count) == (current, place)
        place += 1


def test_the_order_is_a_function_of_its_seed_and_epochs_differ() -> None:
    orders = [ShuffledOrder([40, 60], 8, 32, 2, seed=seed) for seed in ((1,), (1,), (2,))]
    first, again, other = ([draw(order, q) for q in range(200)] for order in orders)
    assert first == again
    assert first != other
    assert first[:100] != first[100:]


def test_a_pool_is_decoded_in_runs_and_shuffled_as_stated() -> None:
    """Two windows of a pool share a run with probability (R - 1) / (P - 1)."""
    run_length, pool = 8, 128
    order = ShuffledOrder([512, 512, 1024], run_length, pool, 1, seed=(0,))
    shared, breaks = [], []
    for block in range(16):
        windows = order.pool(PoolId(0, block), 0)
        shared.append(np.mean(windows[1:] // run_length == windows[:-1] // run_length))
        breaks.append(np.count_nonzero(np.diff(np.sort(windows)) != 1) + 1)
    assert np.mean(shared) == pytest.approx((run_length - 1) / (pool - 1), abs=0.02)
    assert max(breaks) <= pool // run_length


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="no window in any episode"):
        ShuffledOrder([0, 0], 4, 8, 1, seed=(0,))
    with pytest.raises(ValueError, match="num_lanes must be 1 or more; got 0"):
        ShuffledOrder([5], 4, 8, 0, seed=(0,))
