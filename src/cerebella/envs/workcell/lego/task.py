"""Take brick assemblies apart with two arms, and sort the bricks by colour."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.lego.assemblies import draw_assembly, overlaps, stand
from cerebella.envs.workcell.lego.bins import BIN_CENTRES_M, BIN_HALF_M, WALL_HEIGHT_M, add_bins, bins_of, paint_bins
from cerebella.envs.workcell.lego.bricks import COLOURS, add_brick, brick_name, half_sizes_m, paint
from cerebella.envs.workcell.lego.expert import take_apart_and_sort
from cerebella.envs.workcell.lego.joints import Flags, JointLimits, add_joints, break_overloaded, join
from cerebella.envs.workcell.lego.prompts import HOLD_STILL, PROMPTS
from cerebella.envs.workcell.lego.workpiece import LegoEpisode, bricks_now
from cerebella.envs.workcell.task import Plan, SceneObject, WorkcellTask
from cerebella.geometry import Array
from cerebella.interfaces import Status

OPEN = 0.4
"""Openings above it count as open: wider than a brick is."""
DONE_TICKS = 10
"""So long everything must be done: what has just been dropped comes to rest."""
_FALLEN_M = -0.05
_MAX_HELD_N = 0.2


@dataclass(frozen=True)
class BrickSet:
    """The bricks of a task and the room that an assembly may take.

    Args:
        lengths: studs of each brick, one tuple for each assembly. max_length: studs. max_layers: layers.
        middles_x_m: where each assembly is, away from the robot. spread_m, spread_rad: half-widths of position and yaw.
        max_ticks: length limit of an episode.
    """

    lengths: tuple[tuple[int, ...], ...]
    max_length: int
    max_layers: int
    max_ticks: int
    middles_x_m: tuple[float, ...] = (0.235,)
    spread_m: tuple[float, float] = (0.015, 0.03)
    spread_rad: float = 0.3


_MIXED = (4,) * 10 + (3,) * 4 + (2,) * 3
SETS: Mapping[int, BrickSet] = {
    2: BrickSet(((4,) * 2,), max_length=8, max_layers=2, max_ticks=900),
    5: BrickSet(((4,) * 5,), max_length=14, max_layers=4, max_ticks=1800),
    10: BrickSet(((4,) * 10,), max_length=16, max_layers=5, max_ticks=3600),
    20: BrickSet(((4,) * 20,), max_length=18, max_layers=6, max_ticks=7200, spread_m=(0.01, 0.01), spread_rad=0.12),
    34: BrickSet(
        (_MIXED, _MIXED),
        max_length=18,
        max_layers=6,
        max_ticks=10800,
        middles_x_m=(0.185, 0.275),
        spread_m=(0.004, 0.01),
        spread_rad=0.05,
    ),
}
"""By the number of bricks; 34 is the mixed set: bricks of 2 x 4, 2 x 3 and 2 x 2 studs in two assemblies."""


@dataclass(frozen=True, eq=False)
class Brick(SceneObject):
    """A brick in the scene.

    Args:
        length_studs: it is two studs wide. joined_to: names of the bricks that it is joined to.
        bin_colour: of the bin that it is in; empty if in none.
    """

    length_studs: int
    joined_to: tuple[str, ...]
    bin_colour: str


class Lego(WorkcellTask[LegoEpisode]):
    """See the module.

    Args:
        num_bricks: one of `SETS`.
        joint_limits: how firmly the bricks hold together, drawn for each joint.

    Raises:
        ValueError: another number of bricks.
    """

    steps_per_tick = 16
    hold_still = HOLD_STILL

    def __init__(self, num_bricks: int = 5, joint_limits: JointLimits | None = None) -> None:
        """See the class."""
        if num_bricks not in SETS:
            raise ValueError(f"num_bricks must be one of {', '.join(map(str, SETS))}; got {num_bricks!r}")
        self.name = "workcell/lego" if num_bricks == 5 else f"workcell/lego_{num_bricks}"
        self.max_ticks = SETS[num_bricks].max_ticks
        self.num_bricks = num_bricks
        self.joint_limits = JointLimits() if joint_limits is None else joint_limits
        self._set = SETS[num_bricks]
        self._lengths = tuple(length for assembly in self._set.lengths for length in assembly)

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Bins, bricks, and more joints than any assembly needs."""
        add_bins(spec)
        for number, length in enumerate(self._lengths):
            add_brick(spec, number, length)
        add_joints(spec, 2 * self.num_bricks)  # two neighbouring layers of a and b bricks share fewer than a + b places

    def reset(self, cell: Cell, rng: np.random.Generator) -> LegoEpisode:
        """Draw assemblies, places, colours, the order of the bins and the limits of the joints."""
        names = list(COLOURS)
        bin_colours = tuple(names[i] for i in rng.permutation(len(names)))
        first = rng.permutation(len(names))
        colours = [names[first[i % len(names)]] for i in range(self.num_bricks)]
        colours = tuple(colours[i] for i in rng.permutation(self.num_bricks))
        prompt = PROMPTS[int(rng.integers(len(PROMPTS)))]
        poses: list[Array] = []
        anchors_m: list[Array] = []
        pairs: list[tuple[int, int]] = []
        for lengths, x in zip(self._set.lengths, self._set.middles_x_m, strict=True):
            plan = draw_assembly(lengths, self._set.max_length, self._set.max_layers, rng)
            middle = np.array([x, 0.0]) + rng.uniform(-1.0, 1.0, 2) * self._set.spread_m
            yaw_rad = rng.uniform(-1.0, 1.0) * self._set.spread_rad
            pairs += [(i + len(poses), j + len(poses)) for i, j in overlaps(plan)]
            placed, anchors = stand(plan, middle.tolist(), yaw_rad)
            poses += placed
            anchors_m += anchors
        for number, (T_world_brick, colour) in enumerate(zip(poses, colours, strict=True)):
            cell.place_body(brick_name(number), T_world_brick)
            paint(cell.model, number, colour)
        paint_bins(cell.model, bin_colours)
        joints = join(cell, pairs, anchors_m, poses, self.joint_limits, rng)
        return LegoEpisode(
            prompt=prompt,
            colours=colours,
            bin_colours=bin_colours,
            lengths=self._lengths,
            bodies=np.array([cell.model.body(brick_name(i)).id for i in range(self.num_bricks)]),
            half_sizes_m=np.array([half_sizes_m(length) for length in self._lengths]),
            joints=joints,
        )

    def after_physics_step(self, cell: Cell, episode: LegoEpisode) -> None:
        """Break what is loaded beyond its limit."""
        break_overloaded(cell, episode.joints)

    def after_tick(self, cell: Cell, episode: LegoEpisode) -> None:
        """Count the ticks since everything has been done."""
        is_open = all(_is_open(cell, side) for side in ("left", "right"))
        episode.num_done_ticks = episode.num_done_ticks + 1 if is_open and _is_sorted(cell, episode).all() else 0

    def status(self, cell: Cell, episode: LegoEpisode) -> Status:
        """Success: every brick is separate and in its colour's bin, and both grippers are open and hold nothing,
        for a third of a second.

        A brick that falls off the table ends the episode. Metrics: `num_separated` bricks that are joined to no other,
        `num_sorted` of them in their bins, `throughput` sorted bricks per minute since the start.
        """
        num_sorted = int(_is_sorted(cell, episode).sum())
        metrics = {
            "num_separated": float(episode.is_separate(cell).sum()),
            "num_sorted": float(num_sorted),
            "throughput": 60.0 * num_sorted / max(cell.time_s, 1.0 / 30.0),
        }
        if (cell.data.xpos[episode.bodies, 2] < _FALLEN_M).any():
            return Status(True, False, "a brick fell off the table", metrics)
        is_done = episode.num_done_ticks >= DONE_TICKS
        return Status(is_done, is_done, "sorted" if is_done else "", metrics)

    def all_prompts(self) -> tuple[str, ...]:
        """See `prompts`."""
        return tuple(PROMPTS)

    def truth(self, cell: Cell, episode: LegoEpisode) -> tuple[SceneObject, ...]:
        """Every brick as a `Brick`, then the bins from the robot's left to its right."""
        bricks = bricks_now(cell, episode)
        in_bins = bins_of(bricks.positions_m)
        joined_to: list[list[str]] = [[] for _ in range(self.num_bricks)]
        for first, second in episode.joined_pairs(cell).tolist():
            joined_to[first].append(brick_name(second))
            joined_to[second].append(brick_name(first))
        found: list[SceneObject] = [
            Brick(
                name=brick_name(i),
                kind="brick",
                colour=episode.colours[i],
                position_m=bricks.positions_m[i],
                size_m=2 * np.abs(bricks.rotations[i]) @ bricks.half_sizes_m[i],
                length_studs=episode.lengths[i],
                joined_to=tuple(joined_to[i]),
                bin_colour=episode.bin_colours[in_bins[i]] if in_bins[i] >= 0 else "",
            )
            for i in range(self.num_bricks)
        ]
        size_m = 2 * np.array([*BIN_HALF_M, WALL_HEIGHT_M / 2])
        for i, colour in enumerate(episode.bin_colours):
            position_m = np.array([*BIN_CENTRES_M[i], WALL_HEIGHT_M / 2])
            found.append(SceneObject(f"bin_{i}", "bin", colour, position_m, size_m))
        return tuple(found)

    def named(self, cell: Cell, episode: LegoEpisode) -> tuple[str, ...]:
        """The bricks that are not sorted yet: loose ones first, of these the highest first, as the expert takes them."""
        is_joined, heights_m = ~episode.is_separate(cell), cell.data.xpos[episode.bodies, 2]
        numbers = np.flatnonzero(~_is_sorted(cell, episode)).tolist()
        numbers.sort(key=lambda number: (is_joined[number], -heights_m[number].round(3)))
        return tuple(brick_name(number) for number in numbers)

    def expert(self, cell: Cell, episode: LegoEpisode, rng: np.random.Generator) -> Plan:
        """See `expert`."""
        yield from take_apart_and_sort(cell, episode, rng)


class Lego2(Lego):
    """Two bricks."""

    def __init__(self) -> None:
        """See `Lego`."""
        super().__init__(2)


class Lego10(Lego):
    """Ten bricks."""

    def __init__(self) -> None:
        """See `Lego`."""
        super().__init__(10)


class Lego20(Lego):
    """Twenty bricks."""

    def __init__(self) -> None:
        """See `Lego`."""
        super().__init__(20)


class Lego34(Lego):
    """The mixed set."""

    def __init__(self) -> None:
        """See `Lego`."""
        super().__init__(34)


def _is_sorted(cell: Cell, episode: LegoEpisode) -> Flags:
    """Which bricks are separate and in their bins, bool[n]."""
    return episode.is_separate(cell) & (bins_of(cell.data.xpos[episode.bodies]) == episode.bin_numbers)


def _is_open(cell: Cell, side: Side) -> bool:
    arm = cell.arm(side)
    return arm.opening > OPEN and bool(arm.pad_forces_n.max() < _MAX_HELD_N)
