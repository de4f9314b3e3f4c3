"""A quick task: lift a cube for an instant. In some episodes the expert gives up at once."""

import numpy as np

from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.moves import both, grip, over, pointing_down, shift, wait
from cerebella.envs.workcell.task import Plan
from cerebella.interfaces import Status
from tests.envs.workcell.cube_task import CubeEpisode, CubeTask


class ShortCube(CubeTask):
    name = "workcell/short_cube"
    max_ticks = 120

    def status(self, cell: Cell, episode: CubeEpisode) -> Status:
        is_done = episode.num_high_ticks >= 1
        return Status(is_done, is_done, "lifted" if is_done else "")

    def expert(self, cell: Cell, episode: CubeEpisode, rng: np.random.Generator) -> Plan:
        if rng.random() < 0.3:
            yield from both(cell, wait(cell.left, 0.1))
            return
        x, y, _ = cell.position_m("cube")
        yield from both(cell, over(cell.left, pointing_down([x, y, 0.02]), 0.12, opening=0.8))
        yield from both(cell, grip(cell.left))
        yield from both(cell, shift(cell.left, [0.0, 0.0, 0.1]))
        yield from both(cell, wait(cell.left, 1.0))
