from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import run_expert
from cerebella.envs.workcell.task import WorkcellTask
from cerebella.envs.workcell.towel.cloth import RADIUS_M
from cerebella.envs.workcell.towel.line import TowelLineTask
from cerebella.envs.workcell.towel.shape import shape_of
from cerebella.envs.workcell.towel.starts import flat_at
from cerebella.envs.workcell.towel.task import FlattenTask, MovedTowelTask, TowelTask
from cerebella.envs.workcell.towel.towels import TOWELS


def small(task: Callable[..., WorkcellTask[Any]] = TowelTask) -> WorkcellEnvironment[Any]:
    """Few vertices: quick."""
    return WorkcellEnvironment(task(7, 7), with_images=False)


def hold(environment: WorkcellEnvironment, num_ticks: int) -> None:
    command = None
    for _ in range(num_ticks):
        command = environment.embodiment.hold(environment.observe(), command)
        environment.apply(command)


def positions(environment: WorkcellEnvironment) -> np.ndarray:
    return environment.episode.cloth.positions_m(environment.cell)


def test_a_flat_towel_stays_flat_on_the_table() -> None:
    environment = small()
    environment.reset(0)
    start = positions(environment)
    hold(environment, 30)
    np.testing.assert_allclose(positions(environment)[:, 2], RADIUS_M, atol=5e-4)
    np.testing.assert_allclose(positions(environment), start, atol=1e-3)
    assert environment.status().reason == ""


def test_every_towel_keeps_its_size_and_its_colour_is_in_the_truth() -> None:
    """One compiled grid becomes all six."""
    environment = small()
    seen = {}
    for seed in range(40):
        environment.reset(seed)
        seen[environment.episode.towel.colour] = seed
    assert set(seen) == {towel.colour for towel in TOWELS}
    sizes = {towel.colour: (towel.length_m, towel.width_m) for towel in TOWELS}
    for colour, seed in seen.items():
        environment.reset(seed)
        hold(environment, 3)
        towel, *corners = environment.truth()
        assert (towel.kind, towel.colour) == ("flat towel", colour)
        np.testing.assert_allclose(towel.size_m[:2], sizes[colour], atol=1e-3)
        assert [corner.name for corner in corners] == ["near_left", "near_right", "far_left", "far_right"]
        assert corners[0].position_m[0] < corners[2].position_m[0]
        assert corners[0].position_m[1] > corners[1].position_m[1]


def test_after_a_reset_everything_is_as_in_a_fresh_cell() -> None:
    def play(environment: WorkcellEnvironment, seed: int) -> np.ndarray:
        environment.reset(seed)
        hold(environment, 5)
        return np.concatenate([environment.cell.data.qpos, environment.cell.data.qvel])

    used = small(MovedTowelTask)
    first = play(used, 3)
    play(used, 4)
    np.testing.assert_array_equal(play(used, 3), first)
    np.testing.assert_array_equal(play(small(MovedTowelTask), 3), first)


def test_a_heap_is_neither_flat_nor_fallen_off() -> None:
    environment = small(FlattenTask)
    environment.reset(0)
    shape = shape_of(positions(environment)[environment.episode.cloth.vertices], environment.episode.towel)
    assert shape.phase == "crumpled"
    assert (np.abs(positions(environment)[:, :2] - [0.285, 0.0]) < 0.3).all()
    assert positions(environment)[:, 2].min() > 0.0
    assert environment.cell.fault == ""


def fold_by_hand(environment: WorkcellEnvironment, shift_x_m: float = 0.0) -> None:
    """Put the vertices where a fold would leave them."""
    episode = environment.episode
    cloth = episode.cloth
    grid = flat_at(episode.towel, cloth, np.array([0.285 + shift_x_m, 0.0]))[cloth.vertices]
    half = cloth.num_x // 2
    grid[:half] = grid[:half:-1] + np.array([0.0, 0.0, 2 * RADIUS_M])
    cloth.place(environment.cell, grid.reshape(-1, 3))
    environment.cell.refresh()


def test_success_needs_a_third_of_a_second() -> None:
    environment = small()
    environment.reset(0)
    fold_by_hand(environment)
    hold(environment, 1)
    assert not environment.status().is_done
    for _ in range(40):
        if environment.status().is_done:
            break
        hold(environment, 1)
    status = environment.status()
    assert status.is_success
    assert status.reason == "folded"
    assert 10 <= status.metrics["ticks"] <= 40
    assert status.metrics["footprint_share"] < 0.6


def test_on_the_line_a_placed_towel_makes_room_for_the_next_one() -> None:
    environment = small(TowelLineTask)
    environment.reset(1)
    fold_by_hand(environment)  # folded, but not on the place
    hold(environment, 25)
    assert environment.status().metrics["towels"] == 0
    environment.reset(1)
    fold_by_hand(environment, shift_x_m=-0.105)
    hold(environment, 25)
    status = environment.status()
    assert status.metrics["towels"] == 1
    assert status.metrics["slowest_s"] == environment.episode.durations_s[0] < 1.0
    grid = positions(environment)[environment.episode.cloth.vertices]
    assert shape_of(grid, environment.episode.towel).phase == "flat"


def test_two_minutes_on_one_towel_are_a_failure() -> None:
    environment = small(TowelLineTask)
    environment.reset(0)
    environment.episode.started_s = -119.9
    assert not environment.status().is_done
    hold(environment, 4)
    status = environment.status()
    assert (status.is_done, status.is_success, status.reason) == (True, False, "two minutes on one towel")


def test_the_expert_folds() -> None:
    """With 13 x 9 vertices, in 4 seconds of one processor; held by friction alone."""
    environment = WorkcellEnvironment(TowelTask(), with_images=False)
    assert environment.cell.model.neq == 3  # both grippers' fingers, and the cloth's edges
    status = run_expert(environment, seed=0)
    assert status.is_success
    assert status.metrics["pair_m"] < 0.07


@pytest.mark.parametrize("task", [TowelTask, MovedTowelTask, FlattenTask, TowelLineTask])
def test_prompts_are_known(task: type[WorkcellTask[Any]]) -> None:
    environment = small(task)
    environment.reset(2)
    prompts = environment.task.all_prompts()
    assert environment.observe().prompt in prompts
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("count", [3, 8])
def test_bad_grids_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="odd number of vertices, 5 or more"):
        TowelTask(count, 9)
