"""The belt as a machine: it carries without slip, parts come again, counting is right, nothing grows."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.arms import Side
from cerebella.envs.workcell.belt.line import (
    BELT_TOP_M,
    BELT_X_M,
    BIN_FLOOR_M,
    BIN_TOP_M,
    BIN_X_M,
    BIN_Y_M,
    ENTRY_Y_M,
    EXIT_Y_M,
)
from cerebella.envs.workcell.belt.parts import SIZES_M
from cerebella.envs.workcell.belt.stream import (
    HEAP_TOP_M,
    NUM_KEPT_IN_BIN,
    BeltEpisode,
    Part,
    bin_at,
    feed,
    put_on_belt,
)
from cerebella.envs.workcell.belt.task import Belt
from cerebella.envs.workcell.environment import make_cell
from cerebella.geometry import transform

TASK = Belt(stream_s=600.0)
CELL = make_cell(TASK)


def start(seed: int) -> BeltEpisode:
    CELL.clear()
    episode = TASK.reset(CELL, np.random.default_rng(seed))
    CELL.settle()
    return episode


def pass_ticks(episode: BeltEpisode, num_ticks: int, task: Belt = TASK) -> None:
    for _ in range(num_ticks):
        CELL.step(lambda: task.after_physics_step(CELL, episode))
        task.after_tick(CELL, episode)


def drop_into(episode: BeltEpisode, side: Side, is_wanted: bool) -> Part:
    """Let an unused part of a wanted (or another) kind fall into a bin, until it is at rest."""
    kind = next(iter(episode.wanted)) if is_wanted else episode.others[0]
    part = next(part for part in episode.parts if part.place == "away" and part.name.startswith(kind.shape))
    put_on_belt(CELL, episode, part, kind, 0.0)
    CELL.place_body(part.name, transform(np.eye(3), [BIN_X_M, BIN_Y_M[side], 0.03]))
    CELL.refresh()
    pass_ticks(episode, 20)
    return part


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_ride_at_the_speed_of_the_belt(seed: int) -> None:
    episode = start(seed)
    part = next(part for part in episode.parts if part.place == "out")
    pass_ticks(episode, 10)
    first, travel, turned = CELL.T_world_body(part.name), episode.travel_m, CELL.data.xmat[part.body].copy()
    pass_ticks(episode, 150)
    now = CELL.T_world_body(part.name)
    assert episode.travel_m - travel == pytest.approx(5.0 * episode.speed_m_s)
    assert first[1, 3] - now[1, 3] == pytest.approx(episode.travel_m - travel, abs=1e-4)
    assert np.abs(now[[0, 2], 3] - first[[0, 2], 3]).max() < 2e-4
    assert np.abs(CELL.data.xmat[part.body] - turned).max() < 5e-3


def test_parts_follow_a_change_of_speed() -> None:
    task = Belt(stream_s=8.0, changes_speed=True)
    CELL.clear()
    episode = task.reset(CELL, np.random.default_rng(4))
    CELL.settle()
    before = episode.speed_m_s
    part = next(part for part in episode.parts if part.place == "out")
    y, travel = CELL.position_m(part.name)[1], episode.travel_m
    pass_ticks(episode, 140, task)
    assert episode.speed_m_s == pytest.approx(episode.change_speed_m_s)
    assert abs(before - episode.speed_m_s) > 0.005
    assert y - CELL.position_m(part.name)[1] == pytest.approx(episode.travel_m - travel, abs=1e-3)
    assert CELL.speed_m_s(part.name) == pytest.approx(episode.speed_m_s, abs=1e-3)


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_part_that_leaves_is_missed_if_wanted_and_comes_again(is_wanted: bool) -> None:
    episode = start(0)
    kind = next(iter(episode.wanted)) if is_wanted else episode.others[0]
    part = next(part for part in episode.parts if part.place == "away" and part.name.startswith(kind.shape))
    put_on_belt(CELL, episode, part, kind, EXIT_Y_M + 0.002)
    CELL.refresh()
    pass_ticks(episode, 5)
    assert part.place == "away"
    assert episode.num_missed == is_wanted
    assert CELL.position_m(part.name)[2] < -0.3
    for other in episode.parts:
        if other is not part:
            other.place = "left"  # nothing else is free
    episode.next_part_m, episode.next_kind = episode.travel_m, kind
    feed(CELL, episode)
    CELL.refresh()
    assert part.place == "out"
    np.testing.assert_allclose(CELL.position_m(part.name)[1], ENTRY_Y_M)
    assert CELL.data.qvel[part.first_dof + 1] == -episode.speed_m_s


def test_a_part_beside_the_belt_is_given_up() -> None:
    episode = start(0)
    part = next(part for part in episode.parts if part.place == "out")
    beside_x = 0.48
    CELL.place_body(part.name, transform(np.eye(3), [beside_x, 0.0, 0.015]))
    CELL.refresh()
    pass_ticks(episode, 30)
    assert CELL.position_m(part.name)[0] == pytest.approx(beside_x, abs=1e-3)
    pass_ticks(episode, 30)
    assert abs(CELL.position_m(part.name)[0] - beside_x) > 0.1


def test_right_and_wrong_parts_in_the_bins() -> None:
    short = Belt()
    for is_wanted in (True, False):
        episode = start(3)
        goal = next(iter(episode.wanted.values()))
        drop_into(episode, goal, is_wanted)
        assert (episode.num_picked, episode.num_wrong) == (is_wanted, not is_wanted)
        status = short.status(CELL, episode)
        assert (status.is_done, status.reason) == ((False, "") if is_wanted else (True, "wrong part in a bin"))
    episode = start(3)
    drop_into(episode, "left" if next(iter(episode.wanted.values())) == "right" else "right", True)
    assert (episode.num_picked, episode.num_wrong) == (0, 1)
    assert not TASK.status(CELL, episode).is_done


def test_a_bin_keeps_its_newest_parts() -> None:
    episode = start(5)
    goal = next(iter(episode.wanted.values()))
    parts = [drop_into(episode, goal, True) for _ in range(NUM_KEPT_IN_BIN + 1)]
    assert episode.bins[goal] == parts[1:]
    assert [part.place for part in parts] == ["away", *[goal] * NUM_KEPT_IN_BIN]
    assert episode.num_picked == NUM_KEPT_IN_BIN + 1


def test_a_body_comes_from_a_bin_when_all_of_its_shape_are_used() -> None:
    episode = start(5)
    kind, goal = next(iter(episode.wanted.items()))
    first, second = (drop_into(episode, goal, True) for _ in range(2))
    for part in episode.parts:
        if part.place == "away" and part.name.startswith(kind.shape):
            part.place = "out"
    episode.next_part_m, episode.next_kind = episode.travel_m, kind
    feed(CELL, episode)
    CELL.refresh()
    assert (first.place, episode.bins[goal]) == ("out", [second])
    assert CELL.position_m(first.name)[1] == pytest.approx(ENTRY_Y_M)
    second.place, episode.bins[goal], episode.next_part_m, episode.next_kind = "out", [], episode.travel_m, kind
    feed(CELL, episode)
    assert episode.next_kind == kind  # it waits


def test_a_part_on_top_of_a_heap_counts() -> None:
    episode = start(5)
    kind, goal = next(iter(episode.wanted.items()))
    parts = [part for part in episode.parts if part.place == "away" and part.name.startswith(kind.shape)][:3]
    height = SIZES_M[kind.shape][2]
    for i, part in enumerate(parts):
        put_on_belt(CELL, episode, part, kind, 0.0)
        middle = [BIN_X_M, BIN_Y_M[goal], BIN_FLOOR_M + (i + 0.5) * height]
        CELL.place_body(part.name, transform(np.eye(3), middle))
    CELL.refresh()
    pass_ticks(episode, 20)
    assert CELL.position_m(parts[-1].name)[2] > BIN_TOP_M
    assert [part.place for part in parts] == [goal] * 3
    assert (episode.num_picked, episode.num_missed, episode.num_wrong) == (3, 0, 0)


def test_a_part_on_a_housing_is_given_up() -> None:
    episode = start(0)
    part = next(part for part in episode.parts if part.place == "out")
    CELL.place_body(part.name, transform(np.eye(3), [BELT_X_M, 0.5, 0.105]))
    CELL.refresh()
    pass_ticks(episode, 30)
    assert CELL.position_m(part.name)[2] > 0.1
    pass_ticks(episode, 30)
    assert CELL.position_m(part.name)[2] < 0.05  # away, or on the belt again


def test_what_is_in_a_bin() -> None:
    assert bin_at(np.array([BIN_X_M, BIN_Y_M["left"], 0.02])) == "left"
    assert bin_at(np.array([BIN_X_M, BIN_Y_M["left"], HEAP_TOP_M - 0.01])) == "left"
    assert bin_at(np.array([BIN_X_M, BIN_Y_M["right"], HEAP_TOP_M + 0.01])) is None
    assert bin_at(np.array([BELT_X_M, 0.0, BELT_TOP_M])) is None


def test_nothing_grows_in_two_minutes() -> None:
    episode = start(6)
    sizes = None
    for _ in range(12):
        pass_ticks(episode, 300)
        lengths = {name: len(value) for name, value in vars(episode).items() if hasattr(value, "__len__")}
        lengths.pop("prompt")
        assert sizes in (None, lengths)
        sizes = lengths
    assert episode.num_missed > 5
    assert not CELL.fault
