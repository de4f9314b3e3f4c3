"""Fold a towel in half: from flat, from a random place, or flatten a heap.

    near edge (row 0)  ---over--->  far edge (last row)

The near edge is the one towards the robot. Success needs everything at once, for a third of a second: the towel is folded (or
flat) by `shape`, it rests, and both grippers are away from it.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from dataclasses import dataclass

import mujoco
import numpy as np

from cerebella.envs.workcell.cell import CONTROL_HZ, Cell
from cerebella.envs.workcell.moves import both, go_to, pointing_down, wait
from cerebella.envs.workcell.task import Episode, Plan, SceneObject, WorkcellTask
from cerebella.envs.workcell.towel.cloth import Cloth, Towel, add_cloth
from cerebella.envs.workcell.towel.expert import FoldStyle, Hands
from cerebella.envs.workcell.towel.prompts import FLATTEN_PROMPTS, FOLD_PROMPTS, every_prompt
from cerebella.envs.workcell.towel.readings import MAX_STRETCH, is_clear, rests, towel_truth
from cerebella.envs.workcell.towel.shape import Phase, Shape, shape_of
from cerebella.envs.workcell.towel.starts import CENTRE_M, Start, flat_at, lay
from cerebella.envs.workcell.towel.towels import draw_towel
from cerebella.geometry import Array
from cerebella.interfaces import Status

MAX_TOWEL_S = 120.0
NUM_REST_TICKS = 10


@dataclass(kw_only=True)
class TowelEpisode(Episode):
    """What a task about one towel remembers.

    Args:
        towel: what it is like. cloth: the grid. num_rest_ticks: how long the goal has been reached without a break.
        stretch: the largest so far, after any tick.
    """

    towel: Towel
    cloth: Cloth
    num_rest_ticks: int = 0
    stretch: float = 0.0
    done_s: float = float("nan")


class TowelTask(WorkcellTask[TowelEpisode]):
    """One towel per episode, drawn by the seed; the six need no recompilation.

    Args:
        num_x, num_y: vertices along and across the fold's direction; odd, 5 or more.

    Raises:
        ValueError: a number that is even or too small.
    """

    name = "workcell/towel"
    steps_per_tick = 8
    max_ticks = int(MAX_TOWEL_S * CONTROL_HZ)
    hold_still = "repeat the last targets; a grip that is kept holds the cloth by friction, and it hangs still"
    start: Start = "flat"
    goal: Phase = "folded"
    prompts: tuple[str, ...] = FOLD_PROMPTS

    def __init__(self, num_x: int = 13, num_y: int = 9) -> None:
        """See the class."""
        for value in (num_x, num_y):
            if value < 5 or value % 2 == 0:
                raise ValueError(f"a cloth needs an odd number of vertices, 5 or more, on each side; got {value}")
        self.num_x, self.num_y = num_x, num_y

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add the cloth."""
        add_cloth(spec, self.num_x, self.num_y)

    def reset(self, cell: Cell, rng: np.random.Generator) -> TowelEpisode:
        """Draw a towel, and lay it down."""
        cloth, towel = Cloth(cell, self.num_x, self.num_y), draw_towel(rng)
        cloth.become(cell, towel)
        lay(cell, cloth, towel, self.start, rng)
        cloth.resist_bending(cell)
        prompt = self.prompts[int(rng.integers(len(self.prompts)))].format(towel.colour)
        return TowelEpisode(prompt=prompt, towel=towel, cloth=cloth)

    def after_physics_step(self, cell: Cell, episode: TowelEpisode) -> None:
        """Bending."""
        episode.cloth.resist_bending(cell)

    def after_tick(self, cell: Cell, episode: TowelEpisode) -> None:
        """Count how long the goal has been reached, and look at the cloth."""
        episode.stretch = max(episode.stretch, episode.cloth.stretch(cell))
        episode.num_rest_ticks = episode.num_rest_ticks + 1 if self.is_reached(cell, episode) else 0
        if episode.num_rest_ticks == NUM_REST_TICKS and np.isnan(episode.done_s):
            episode.done_s = cell.time_s

    def status(self, cell: Cell, episode: TowelEpisode) -> Status:
        """Metrics: `footprint_share`, `pair_m`, `height_m` (see `shape.Shape`), `stretch` (the largest so far), `seconds` until
        the goal was reached.
        """
        is_torn = episode.stretch > MAX_STRETCH
        is_reached = not is_torn and episode.num_rest_ticks >= NUM_REST_TICKS
        shape = self.shape(cell, episode)
        metrics = {
            "footprint_share": shape.footprint_share,
            "pair_m": shape.pair_m,
            "height_m": shape.height_m,
            "stretch": episode.stretch,
            "seconds": episode.done_s if is_reached else cell.time_s,
        }
        reason = "torn" if is_torn else self.goal if is_reached else ""
        return Status(is_torn or is_reached, is_reached, reason, metrics)

    def all_prompts(self) -> tuple[str, ...]:
        """Every prompt with every colour."""
        return every_prompt(self.prompts)

    def truth(self, cell: Cell, episode: TowelEpisode) -> tuple[SceneObject, ...]:
        """The towel, its phase in its kind (`flat towel`), and its four corners."""
        return towel_truth(cell, episode.cloth, episode.towel)

    def named(self, cell: Cell, episode: TowelEpisode) -> tuple[str, ...]:
        """The towel, until the goal is reached and at rest."""
        return () if episode.num_rest_ticks else ("towel",)

    def expert(self, cell: Cell, episode: TowelEpisode, rng: np.random.Generator) -> Plan:
        """Fold what is flat, flatten what is crumpled, until the goal is reached."""
        hands = Hands(cell, episode.cloth)
        goals = flat_corners(episode.towel, episode.cloth)
        while (phase := self.shape(cell, episode).phase) != self.goal:
            if phase == "flat":
                yield from hands.fold(FoldStyle(num_ticks=int(rng.integers(55, 66))))
            else:
                yield from hands.pull_corners(goals)
            yield from go_home(cell)

    def shape(self, cell: Cell, episode: TowelEpisode) -> Shape:
        """How the towel lies now."""
        return shape_of(episode.cloth.positions_m(cell)[episode.cloth.vertices], episode.towel)

    def is_reached(self, cell: Cell, episode: TowelEpisode) -> bool:
        """Whether the goal is reached at this moment: shape, rest, grippers away."""
        return (
            rests(cell, episode.cloth)
            and self.shape(cell, episode).phase == self.goal
            and is_clear(cell, episode.cloth)
        )


def go_home(cell: Cell) -> Plan:
    """Both grippers above their own sides, then a second of rest."""
    left, right = pointing_down([0.22, 0.20, 0.2]), pointing_down([0.22, -0.20, 0.2])
    yield from both(cell, go_to(cell.left, left), go_to(cell.right, right))
    yield from both(cell, wait(cell.left, 1.0))


class MovedTowelTask(TowelTask):
    """Fold from a place 15 mm and a turn 0.12 rad around the usual ones, at most."""

    name = "workcell/towel_moved"
    start: Start = "moved"


class FlattenTask(TowelTask):
    """Flatten a towel that was lifted by one point and dropped."""

    name = "workcell/towel_flatten"
    start: Start = "heap"
    goal: Phase = "flat"
    prompts = FLATTEN_PROMPTS


def flat_corners(towel: Towel, cloth: Cloth) -> Array:
    """Where the corners of a flat towel belong, float64[2, 2, 3]: first and last row, right and left."""
    grid = flat_at(towel, cloth, np.array(CENTRE_M))[cloth.vertices]
    return grid[np.ix_([0, -1], [0, -1])]
