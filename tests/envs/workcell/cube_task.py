"""The smallest task: lift one cube with the left arm."""
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass

import mujoco
import numpy as np

from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.moves import both, go_to, grip, over, pointing_down, shift, wait
from cerebella.envs.workcell.task import Episode, Plan, SceneObject, WorkcellTask
from cerebella.geometry import transform
from cerebella.interfaces import Status

HALF_M = 0.015


@dataclass(kw_only=True)
class CubeEpisode(Episode):
    num_high_ticks: int = 0


class CubeTask(WorkcellTask[CubeEpisode]):
    name = "workcell/cube"
    steps_per_tick = 16
    max_ticks = 300
    hold_still = "repeat the last targets"

    def add_to(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name="cube", pos=[0.3, 0.0, HALF_M])
        body.add_freejoint()
        body.add_geom(
            name="cube", type=mujoco.mjtGeom.mjGEOM_BOX, size=[HALF_M] * 3, mass=0.05, rgba=[0.8, 0.15, 0.12, 1.0]
        )

    def reset(self, cell: Cell, rng: np.random.Generator) -> CubeEpisode:
        x, y = rng.uniform([0.22, -0.05], [0.38, 0.15])
        cell.place_body("cube", transform(np.eye(3), [x, y, HALF_M]))
        return CubeEpisode(prompt=self.all_prompts()[rng.integers(2)])

    def after_tick(self, cell: Cell, episode: CubeEpisode) -> None:
        is_high = cell.position_m("cube")[2] > HALF_M + 0.095
        episode.num_high_ticks = episode.num_high_ticks + 1 if is_high else 0

    def status(self, cell: Cell, episode: CubeEpisode) -> Status:
        is_done = episode.num_high_ticks >= 90
        return Status(is_done, is_done, "lifted" if is_done else "", {"height_m": float(cell.position_m("cube")[2])})

    def all_prompts(self) -> tuple[str, ...]:
        return "lift the cube", "pick up the red cube"

    def truth(self, cell: Cell, episode: CubeEpisode) -> tuple[SceneObject, ...]:
        return (SceneObject("cube", "cube", "red", cell.position_m("cube"), np.full(3, 2 * HALF_M)),)

    def named(self, cell: Cell, episode: CubeEpisode) -> tuple[str, ...]:
        return () if episode.num_high_ticks else ("cube",)

    def expert(self, cell: Cell, episode: CubeEpisode, rng: np.random.Generator) -> Plan:
        x, y, _ = cell.position_m("cube")
        away = go_to(cell.right, pointing_down([0.2, -0.25, 0.2]))
        yield from both(cell, over(cell.left, pointing_down([x, y, 0.02]), 0.12, opening=0.8), away)
        yield from both(cell, grip(cell.left))
        yield from both(cell, shift(cell.left, [0.0, 0.0, 0.1]))
        yield from both(cell, wait(cell.left, 4.0))
