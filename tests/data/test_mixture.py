"""Rows are dealt out exactly: right proportions, one shape for all ranks, nothing lost, nothing twice."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.data.mixture import Mixture, MixtureSpec
from cerebella.data.sources import Source
from tests.data.memory import Talk, robot_source

weights = st.lists(st.floats(0.01, 10), min_size=1, max_size=5)


def make(robot: list[float], talk: list[float], ratio: float | None, batch_size: int, num_lanes: int = 1) -> Mixture:
    sources: list[Source] = [robot_source(f"r{i}", [9]) for i in range(len(robot))]
    sources += [Talk(f"t{i}", 5) for i in range(len(talk))]
    spec = MixtureSpec(tuple(sources), (*robot, *talk), ratio, num_lanes=num_lanes)
    return Mixture(spec, batch_size)


@given(weights, weights, st.floats(0.05, 5), st.integers(0, 5000))
@settings(deadline=None, max_examples=50)
def test_proportions_hold_to_the_row(robot: list[float], talk: list[float], ratio: float, num_rows: int) -> None:
    mixture = make(robot, talk, ratio, batch_size=4)
    counts, following = mixture.num_rows(num_rows), mixture.num_rows(num_rows + 1)
    assert counts.sum() == num_rows
    assert (following >= counts).all()
    num_vl = counts[len(robot) :].sum()
    assert abs(num_vl - num_rows * ratio / (1 + ratio)) <= 0.5 + 1e-6
    assert np.abs(counts - num_rows * mixture.shares).max() < len(mixture.shares) / 2 + 1


def test_one_to_six_in_every_batch_of_seven_and_nearly_in_others() -> None:
    exact = make([1], [1], 1 / 6, batch_size=56, num_lanes=8)
    assert [[draw.num_rows for draw in exact.draws(step)] for step in (0, 1, 99)] == [[6, 1]] * 3
    nearly = make([1], [1], 1 / 6, batch_size=16)
    num_vl = [next((d.num_rows for d in nearly.draws(step) if d.source == 1), 0) for step in range(700)]
    assert set(num_vl) == {2, 3}
    assert sum(num_vl) == 700 * 16 / 7


@given(
    st.lists(st.integers(3, 20), min_size=1, max_size=3),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 5),
    st.integers(1, 60),
)
@settings(deadline=None, max_examples=40)
def test_lanes_share_every_epoch_without_loss_or_repetition(
    lengths: list[int], num_lanes: int, rows_per_lane: int, shuffle_windows: int
) -> None:
    source = robot_source("r", lengths, run_length=2)
    mixture = Mixture(
        MixtureSpec((source,), num_lanes=num_lanes, shuffle_windows=shuffle_windows), num_lanes * rows_per_lane
    )
    total = len(source.windows)
    seen: list[int] = []
    step = 0
    while len(seen) < 2 * total + mixture.batch_size:
        (draws,) = mixture.draws(step)
        assert draws.num_rows == rows_per_lane
        for i in range(draws.num_rows):
            for lane in range(num_lanes):
                _, order, lane_of_order = mixture.lane(0, lane)
                pool, place = order.slot(lane_of_order, draws.first + i)
                seen.append(int(order.pool(pool, lane_of_order)[place]))
        step += 1
    for epoch in range(2):
        assert Counter(seen[epoch * total : (epoch + 1) * total]) == Counter(range(total))


def test_weights_default_to_the_number_of_windows_and_groups_are_named_once() -> None:
    sources = (robot_source("a", [12]), robot_source("b", [32]), robot_source("c", [12], robot="other"))
    mixture = Mixture(MixtureSpec(sources), 8)
    assert mixture.shares.tolist() == [0.2, 0.6, 0.2]
    assert [tuple(group) for group in mixture.groups] == [("toy", "joint"), ("other", "joint")]


def test_the_fingerprint_knows_what_decides_the_order() -> None:
    def fingerprint(lengths: list[int], batch_size: int, seed: int = 0) -> str:
        return Mixture(MixtureSpec((robot_source("a", lengths),), seed=seed), batch_size).fingerprint

    assert fingerprint([12], 4) == fingerprint([12], 4)
    assert len({fingerprint([12], 4), fingerprint([13], 4), fingerprint([12], 5), fingerprint([12], 4, 1)}) == 4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sources": ()}, "needs sources with different names"),
        ({"sources": (robot_source("a", [9]), robot_source("a", [9]))}, "different names; got"),
        ({"weights": (1.0, 2.0)}, "one weight per source; got 2 for 1"),
        ({"weights": (0.0,)}, "the weight of 'a' must be above 0; got 0.0"),
        ({"vl_ratio": 0.5}, "needs both kinds of sources"),
        ({"sources": (robot_source("a", [9]), Talk("t", 3))}, r"need vl_ratio above 0 .*; got None"),
        ({"num_lanes": 0}, "num_lanes and shuffle_windows must be 1 or more"),
    ],
)
def test_impossible_mixtures_are_refused(fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MixtureSpec(**{"sources": (robot_source("a", [9]),), **fields})


def test_a_batch_must_divide_into_lanes() -> None:
    with pytest.raises(ValueError, match="batch_size must be a multiple of num_lanes 4; got 6"):
        make([1], [], None, batch_size=6, num_lanes=4)
