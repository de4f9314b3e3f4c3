"""One towel after another: fold it, draw it to the place at the robot, and the next one appears.

A towel that takes more than two minutes, or is torn, ends the episode as a failure. When a folded towel rests on the place and both
grippers are away, it is taken off, and the same grid becomes another towel: nothing is compiled or loaded.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from dataclasses import dataclass, field

import mujoco
import numpy as np

from cerebella.envs.workcell.cell import CONTROL_HZ, Cell
from cerebella.envs.workcell.task import Episode, Plan, SceneObject, WorkcellTask
from cerebella.envs.workcell.towel.cloth import Cloth, Towel, add_cloth
from cerebella.envs.workcell.towel.expert import FoldStyle, Hands
from cerebella.envs.workcell.towel.prompts import LINE_PROMPTS, every_prompt
from cerebella.envs.workcell.towel.readings import MAX_STRETCH, is_clear, rests, towel_truth
from cerebella.envs.workcell.towel.shape import Shape, shape_of
from cerebella.envs.workcell.towel.starts import lay
from cerebella.envs.workcell.towel.task import (
    MAX_TOWEL_S,
    NUM_REST_TICKS,
    flat_corners,
    go_home,
)
from cerebella.envs.workcell.towel.towels import draw_towel
from cerebella.interfaces import Status

PLACE_M = (0.235, 0.0)
PLACE_SIZE_M = (0.14, 0.30)
MAX_OFF_PLACE_M = 0.04


@dataclass(kw_only=True)
class LineEpisode(Episode):
    """What the task remembers.

    Args:
        towel: the current one. cloth: the grid. rng: draws the towels to come.
        started_s: when the current one appeared. durations_s: of those that are done.
        stretch: of any towel, the largest so far, after any tick.
    """

    towel: Towel
    cloth: Cloth
    rng: np.random.Generator
    started_s: float = 0.0
    durations_s: list[float] = field(default_factory=list)
    num_rest_ticks: int = 0
    stretch: float = 0.0


class TowelLineTask(WorkcellTask[LineEpisode]):
    """Thirty minutes of towels. Success: the time is over, no towel took two minutes or was torn, and one or more are done.

    Args:
        num_x, num_y: as in `task.TowelTask`. duration_s: of the episode.
    """

    name = "workcell/towel_line"
    steps_per_tick = 8
    hold_still = "repeat the last targets"

    def __init__(self, num_x: int = 13, num_y: int = 9, duration_s: float = 1800.0) -> None:
        """See the class."""
        self.num_x, self.num_y = num_x, num_y
        self.max_ticks = round(duration_s * CONTROL_HZ)

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add the cloth, and a mat that shows the place."""
        add_cloth(spec, self.num_x, self.num_y)
        spec.worldbody.add_geom(
            name="place",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[PLACE_SIZE_M[0] / 2, PLACE_SIZE_M[1] / 2, 0.0005],
            pos=[*PLACE_M, 0.0],
            rgba=[0.35, 0.37, 0.42, 1.0],
            contype=0,
            conaffinity=0,
        )

    def reset(self, cell: Cell, rng: np.random.Generator) -> LineEpisode:
        """The first towel."""
        cloth, towel = Cloth(cell, self.num_x, self.num_y), draw_towel(rng)
        cloth.become(cell, towel)
        lay(cell, cloth, towel, "moved", rng)
        cloth.resist_bending(cell)
        prompt = LINE_PROMPTS[int(rng.integers(len(LINE_PROMPTS)))]
        return LineEpisode(prompt=prompt, towel=towel, cloth=cloth, rng=np.random.default_rng(rng.integers(2**32)))

    def after_physics_step(self, cell: Cell, episode: LineEpisode) -> None:
        """Bending."""
        episode.cloth.resist_bending(cell)

    def after_tick(self, cell: Cell, episode: LineEpisode) -> None:
        """Take a finished towel away, and lay the next one."""
        episode.stretch = max(episode.stretch, episode.cloth.stretch(cell))
        episode.num_rest_ticks = episode.num_rest_ticks + 1 if self.is_placed(cell, episode) else 0
        if episode.num_rest_ticks < NUM_REST_TICKS:
            return
        episode.durations_s.append(cell.time_s - episode.started_s)
        episode.started_s, episode.num_rest_ticks = cell.time_s, 0
        episode.towel = draw_towel(episode.rng)
        episode.cloth.become(cell, episode.towel)
        lay(cell, episode.cloth, episode.towel, "moved", episode.rng)
        episode.cloth.resist_bending(cell)
        cell.refresh()

    def status(self, cell: Cell, episode: LineEpisode) -> Status:
        """Metrics: `towels`, `towels_per_minute`, the current `footprint_share`, `stretch` (the largest so far); after the first,
        `seconds_per_towel`, `slowest_s`.
        """
        done = episode.durations_s
        is_late = cell.time_s - episode.started_s > MAX_TOWEL_S
        is_torn = episode.stretch > MAX_STRETCH
        metrics = {
            "towels": float(len(done)),
            "towels_per_minute": 60.0 * len(done) / max(cell.time_s, 1.0 / CONTROL_HZ),
            "footprint_share": self.shape(cell, episode).footprint_share,
            "stretch": episode.stretch,
        }
        if done:
            metrics |= {"seconds_per_towel": float(np.mean(done)), "slowest_s": max(done)}
        reason = "torn" if is_torn else "two minutes on one towel" if is_late else ""
        return Status(bool(reason), not reason and bool(done), reason, metrics)

    def all_prompts(self) -> tuple[str, ...]:
        """As drawn by `reset`."""
        return every_prompt(LINE_PROMPTS)

    def truth(self, cell: Cell, episode: LineEpisode) -> tuple[SceneObject, ...]:
        """The towel, its corners, and the mat."""
        mat = SceneObject("place", "mat", "grey", np.array([*PLACE_M, 0.0]), np.array([*PLACE_SIZE_M, 0.001]))
        return (*towel_truth(cell, episode.cloth, episode.towel), mat)

    def named(self, cell: Cell, episode: LineEpisode) -> tuple[str, ...]:
        """The towel: there is always one to do."""
        return ("towel",)

    def expert(self, cell: Cell, episode: LineEpisode, rng: np.random.Generator) -> Plan:
        """Whatever the towel needs next, for ever."""
        hands = Hands(cell, episode.cloth)
        while True:
            phase = self.shape(cell, episode).phase
            if phase == "flat":
                yield from hands.fold(FoldStyle(num_ticks=int(rng.integers(55, 66))))
            elif phase == "folded":
                yield from hands.draw_back(self.off_place_m(cell, episode))
            else:
                yield from hands.pull_corners(flat_corners(episode.towel, episode.cloth))
            yield from go_home(cell)

    def shape(self, cell: Cell, episode: LineEpisode) -> Shape:
        """How the current towel lies."""
        return shape_of(episode.cloth.positions_m(cell)[episode.cloth.vertices], episode.towel)

    def off_place_m(self, cell: Cell, episode: LineEpisode) -> float:
        """How far ahead of the place the middle of the towel is, along x."""
        points = episode.cloth.positions_m(cell)
        return float((points[:, 0].min() + points[:, 0].max()) / 2 - PLACE_M[0])

    def is_placed(self, cell: Cell, episode: LineEpisode) -> bool:
        """Whether the towel lies folded on the place, at rest, and both grippers are away."""
        return (
            rests(cell, episode.cloth)
            and abs(self.off_place_m(cell, episode)) < MAX_OFF_PLACE_M
            and self.shape(cell, episode).phase == "folded"
            and is_clear(cell, episode.cloth)
        )
