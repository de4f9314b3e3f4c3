from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import expert_ticks, run_expert
from cerebella.envs.workcell.moves import both, shift
from cerebella.envs.workcell.task import Plan, WorkcellTask
from cerebella.envs.workcell.towel.cloth import RADIUS_M
from cerebella.envs.workcell.towel.expert import Hands
from cerebella.envs.workcell.towel.line import TowelLineTask
from cerebella.envs.workcell.towel.readings import MAX_STRETCH
from cerebella.envs.workcell.towel.shape import shape_of
from cerebella.envs.workcell.towel.starts import flat_at
from cerebella.envs.workcell.towel.task import NUM_REST_TICKS, FlattenTask, MovedTowelTask, TowelEpisode, TowelTask
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


def test_a_reset_leaves_nothing_of_a_simulation_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file
    used = small(MovedTowelTask)
    used.reset(5)
    used.cell.data.qvel[-1] = 1e30
    hold(used, 1)
    status = used.status()
    assert (status.is_done, status.is_success) == (True, False)
    assert status.reason == "simulation failed: velocities are no numbers or huge"
    assert all(np.isfinite(value) for value in status.metrics.values())
    fresh = small(MovedTowelTask)
    for environment in (used, fresh):
        environment.reset(3)
        hold(environment, 5)
    for name in ("qpos", "qvel", "qacc", "ctrl", "qfrc_applied"):
        np.testing.assert_array_equal(getattr(used.cell.data, name), getattr(fresh.cell.data, name))
    assert used.status() == fresh.status()


class PulledApart(TowelTask):
    """Both hands take the near corners, and go apart."""

    def expert(self, cell: Cell, episode: TowelEpisode, rng: np.random.Generator) -> Plan:
        hands = Hands(cell, episode.cloth)
        yield from both(cell, hands.pinch("left", 0), hands.pinch("right", 0))
        yield from both(cell, shift(cell.left, [0.0, 0.12, 0.05]), shift(cell.right, [0.0, -0.12, 0.05]))


def test_a_towel_that_is_pulled_apart_is_torn() -> None:
    """By grips that hold by friction; until then it stretches little."""
    environment = small(PulledApart)
    for _ in expert_ticks(environment, seed=0):
        stretch = environment.status().metrics["stretch"]
        assert stretch <= MAX_STRETCH
    status = environment.status()
    assert (status.is_done, status.is_success, status.reason) == (True, False, "torn")
    assert status.metrics["stretch"] > MAX_STRETCH
    with pytest.raises(ValueError, match="the episode is over"):
        hold(environment, 1)
    environment.reset(0)
    assert environment.status().metrics["stretch"] == 0.0


@pytest.mark.parametrize("task", [TowelTask, TowelLineTask])
def test_a_torn_towel_is_no_success_however_it_lies(task: type[WorkcellTask[Any]]) -> None:
    environment = small(task)
    environment.reset(0)
    episode = environment.episode
    episode.num_rest_ticks = NUM_REST_TICKS
    for share, is_torn in ((0.9, False), (1.1, True)):
        grid = flat_at(episode.towel, episode.cloth, np.array([0.0, 0.0]))
        episode.cloth.place(environment.cell, grid * (1.0 + share * MAX_STRETCH))
        environment.cell.refresh()
        environment.task.after_tick(environment.cell, episode)
        status = environment.status()
        assert status.metrics["stretch"] == pytest.approx(share * MAX_STRETCH)
        assert (status.reason == "torn") == is_torn
    assert (status.is_done, status.is_success) == (True, False)


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
    assert 0.0 < status.metrics["stretch"] < 0.5 * MAX_STRETCH


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
