"""Which things each task's instruction is about."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.belt.line import BIN_X_M, BIN_Y_M, VISIBLE_Y_M
from cerebella.envs.workcell.belt.task import Belt
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import run_expert
from cerebella.envs.workcell.insert.task import Insert
from cerebella.envs.workcell.lego.bins import BIN_CENTRES_M
from cerebella.envs.workcell.lego.task import Lego
from cerebella.envs.workcell.tasks import TASKS, make_task
from cerebella.geometry import transform
from cerebella.types import Action


def named(environment: WorkcellEnvironment) -> tuple[str, ...]:
    return environment.task.named(environment.cell, environment.episode)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_names_things_that_are_there(name: str) -> None:
    environment = WorkcellEnvironment(make_task(name), with_images=False)
    environment.reset(0)
    things = {thing.name for thing in environment.truth()}
    assert set(named(environment)) <= things
    assert named(environment) or name.startswith("workcell/belt")


def test_belt_names_wanted_parts_the_furthest_first() -> None:
    environment = WorkcellEnvironment(Belt(), with_images=False)
    environment.reset(4)
    cell, episode = environment.cell, environment.episode
    most, found = 0, named(environment)
    while not environment.status().is_done:
        state = environment.observe_state().reshape(2, 13)
        environment.apply(Action(values=state[:, :7].ravel(), tick=cell.tick))
        found = named(environment)
        wanted = {p.name for p in episode.parts if p.place == "out" and p.kind in episode.wanted}
        assert set(found) == {name for name in wanted if abs(cell.position_m(name)[1]) <= VISIBLE_Y_M}
        y_m = [cell.position_m(name)[1] for name in found]
        assert y_m == sorted(y_m)
        most = max(most, len(found))
    assert most >= 2
    part = next(p for p in episode.parts if p.name in found)
    goal = episode.wanted[part.kind]
    for side, y in BIN_Y_M.items():
        cell.place_body(part.name, transform(np.eye(3), [BIN_X_M, y, 0.02]))
        cell.refresh()
        assert (part.name in named(environment)) == (side != goal)


def test_lego_names_what_is_not_sorted_loose_ones_first() -> None:
    environment = WorkcellEnvironment(Lego(5), with_images=False)
    environment.reset(1)
    cell, episode = environment.cell, environment.episode
    heights_m = cell.data.xpos[episode.bodies, 2]
    order = [int(name.removeprefix("brick_")) for name in named(environment)]
    assert sorted(order) == list(range(5))
    assert (np.diff(heights_m[order]) < 1e-3).all()
    lowest = order[-1]
    cell.data.eq_active[episode.joints.equalities[(episode.joints.pairs == lowest).any(axis=1)]] = 0
    assert named(environment)[0] == f"brick_{lowest}"
    cell.place_body(f"brick_{lowest}", transform(np.eye(3), [*BIN_CENTRES_M[episode.bin_numbers[lowest]], 0.0095]))
    cell.refresh()
    assert f"brick_{lowest}" not in named(environment)


def test_the_peg_is_done_when_it_is_in() -> None:
    environment = WorkcellEnvironment(Insert(), with_images=False)
    environment.reset(0)
    assert named(environment) == ("peg",)
    assert run_expert(environment, 0).is_success
    assert named(environment) == ()
