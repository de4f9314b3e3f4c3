"""What an episode remembers, and the bookkeeping of the parts: put on the belt, counted in a bin, missed, used again.

Nothing here grows with time: there are as many parts as bodies, and a bin keeps its newest few.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.belt.line import (
    BELT_HALF_WIDTH_M,
    BELT_TOP_M,
    BELT_X_M,
    BIN_INNER_HALF_M,
    BIN_X_M,
    BIN_Y_M,
    ENTRY_Y_M,
    EXIT_Y_M,
)
from cerebella.envs.workcell.belt.parts import BODIES, COLOURS, NUM_PER_SHAPE, SIZES_M, Kind
from cerebella.envs.workcell.cell import CONTROL_HZ, Cell
from cerebella.envs.workcell.task import Episode
from cerebella.geometry import Array, so3_exp, transform

GAP_M = (0.13, 0.24)
"""Between the middles of two parts that follow each other."""
LANE_M = 0.015
"""A part lies so far from the middle of the belt, at most."""
MAX_IN_A_ROW = 2
"""Wanted parts one after the other, and unwanted ones."""
NUM_KEPT_IN_BIN = 3
"""At most; fewer while all bodies of a shape are needed."""
HEAP_TOP_M = 0.11
"""The middle of a part that lies in a bin is below this: on the floor, or on other parts and then perhaps above the rim."""
REST_TICKS = 3
"""A part in a bin is counted when it was at rest and in no gripper for so many ticks, one after the other."""
LOST_AFTER_S = 1.5
"""A part that is neither on the belt nor in a bin nor in a gripper for so long is given up: nobody brings it back."""
_REST_M_S = 0.05
_ON_BELT_M = 0.06
"""The middle of a part on the belt is less than this above it: also on its end, or on another part."""

Place = Literal["away", "out", "left", "right"]
"""Of a part: not in the scene; on the belt, in a gripper or lost; counted in the bin of that side."""


@dataclass
class Part:
    """One body. `kind` is of its newest use.

    `num_rest_ticks` counts ticks at rest in a bin, and `num_lost_ticks` ticks beside belt, bins and grippers, one after the
    other.
    """

    name: str
    kind: Kind
    body: int
    geom: int
    first_dof: int
    place: Place = "away"
    num_rest_ticks: int = 0
    num_lost_ticks: int = 0


@dataclass(kw_only=True)
class BeltEpisode(Episode):
    """A running episode.

    Args:
        wanted: kind -> bin.
        others: the kinds that come as well.
        num_wanted: how many wanted parts come; None for a stream without end.
        speed_m_s, next_speed_m_s: of the belt now, and what it is changing to.
        change_tick: when `change_speed_m_s` becomes `next_speed_m_s`; None for never.
        rng: draws the stream.

    Attributes:
        travel_m: how far the belt has gone, and `next_part_m`: how far it will have gone when the next part is put on it.
        bins: what lies in each, oldest first.
        run: how many wanted parts (negative: unwanted ones) came one after the other.
    """

    wanted: Mapping[Kind, Side]
    others: tuple[Kind, ...]
    num_wanted: int | None
    speed_m_s: float
    next_speed_m_s: float
    change_tick: int | None
    change_speed_m_s: float
    rng: np.random.Generator
    parts: list[Part]
    belt_qpos: int
    belt_dof: int
    travel_m: float = 0.0
    next_part_m: float = 0.0
    next_kind: Kind | None = None
    run: int = 0
    num_came: int = 0
    bins: dict[Side, list[Part]] = field(default_factory=lambda: {"left": [], "right": []})
    num_picked: int = 0
    num_missed: int = 0
    num_wrong: int = 0


def all_parts(cell: Cell) -> list[Part]:
    """Every body, away."""
    found: list[Part] = []
    for name, shape in BODIES:
        body = cell.model.body(name)
        dof = int(cell.model.joint(int(body.jntadr[0])).dofadr[0])
        found.append(Part(name, Kind("red", shape), body.id, cell.model.geom(name).id, dof))
    return found


def take_away(cell: Cell, part: Part) -> None:
    """Weightless, at rest, each at its own place under the table, where nothing touches it."""
    index = [name for name, _ in BODIES].index(part.name)
    row, column = divmod(index, NUM_PER_SHAPE)
    cell.place_body(part.name, transform(np.eye(3), [0.1 + 0.1 * row, 0.1 * (column - 2), -0.4]))
    cell.model.body_gravcomp[part.body] = 1.0
    part.place, part.num_rest_ticks, part.num_lost_ticks = "away", 0, 0


def put_on_belt(cell: Cell, episode: BeltEpisode, part: Part, kind: Kind, y_m: float) -> None:
    """With the belt's speed, at a drawn place across it and a drawn yaw."""
    x = BELT_X_M + episode.rng.uniform(-LANE_M, LANE_M)
    yaw = episode.rng.uniform(-np.pi, np.pi)
    z = BELT_TOP_M + SIZES_M[kind.shape][2] / 2
    cell.place_body(part.name, transform(so3_exp([0.0, 0.0, yaw]), [x, y_m, z]))
    cell.data.qvel[part.first_dof + 1] = -episode.speed_m_s
    cell.model.body_gravcomp[part.body] = 0.0
    cell.model.geom_rgba[part.geom, :3] = COLOURS[kind.colour]
    part.kind, part.place, part.num_rest_ticks, part.num_lost_ticks = kind, "out", 0, 0


def feed(cell: Cell, episode: BeltEpisode, entry_y_m: float = ENTRY_Y_M) -> None:
    """Put the next part on the belt if its time has come.

    Its body is one that is away, else the oldest of its shape in a bin; if all of that shape are out, the part waits for one.
    """
    if episode.travel_m < episode.next_part_m:
        return
    if episode.next_kind is None:
        if episode.num_came == episode.num_wanted:
            return
        episode.next_kind = _draw_kind(episode)
    kind = episode.next_kind
    free = next((part for part in episode.parts if part.place == "away" and part.name.startswith(kind.shape)), None)
    if free is None:
        free = _take_from_bin(episode, kind.shape)
    if free is None:
        return
    put_on_belt(cell, episode, free, kind, entry_y_m)
    episode.next_kind = None
    episode.next_part_m = episode.travel_m + episode.rng.uniform(*GAP_M)


def take_stock(cell: Cell, episode: BeltEpisode) -> None:
    """Count what has come to rest in a bin, and take away what has left the belt at its end or was lost beside it.

    Each of these is final. A wanted part is missed in the second case: a part that fell off the line is not fed again.
    """
    for part in episode.parts:
        if part.place != "out":
            continue
        position = cell.data.xpos[part.body]
        side = bin_at(position)
        is_resting = side is not None and _is_at_rest(cell, part) and not _is_held(cell, part)
        part.num_rest_ticks = part.num_rest_ticks + 1 if is_resting else 0
        is_lost = side is None and not _is_on_belt(position) and not _is_held(cell, part)
        part.num_lost_ticks = part.num_lost_ticks + 1 if is_lost else 0
        if side is not None and part.num_rest_ticks >= REST_TICKS:
            _count(cell, episode, part, side)
        elif position[1] < EXIT_Y_M or part.num_lost_ticks > LOST_AFTER_S * CONTROL_HZ:
            episode.num_missed += part.kind in episode.wanted
            take_away(cell, part)


def bin_at(position_m: Array) -> Side | None:
    """The bin within whose walls a point is, up to `HEAP_TOP_M`, if any."""
    half_x, half_y = BIN_INNER_HALF_M
    if abs(position_m[0] - BIN_X_M) > half_x or not 0.0 < position_m[2] < HEAP_TOP_M:
        return None
    return next((side for side, y in BIN_Y_M.items() if abs(position_m[1] - y) <= half_y), None)


def _count(cell: Cell, episode: BeltEpisode, part: Part, side: Side) -> None:
    is_right = episode.wanted.get(part.kind) == side
    episode.num_picked += is_right
    episode.num_wrong += not is_right
    part.place = side
    episode.bins[side].append(part)
    if len(episode.bins[side]) > NUM_KEPT_IN_BIN:
        take_away(cell, episode.bins[side].pop(0))


def _take_from_bin(episode: BeltEpisode, shape: str) -> Part | None:
    """The oldest of a shape in the bin that holds more parts, or in the other one."""
    for parts in sorted(episode.bins.values(), key=len, reverse=True):
        for part in parts:
            if part.name.startswith(shape):
                parts.remove(part)
                return part
    return None


def _draw_kind(episode: BeltEpisode) -> Kind:
    """Wanted or not with even chances, but never more than `MAX_IN_A_ROW` of either."""
    is_wanted = bool(episode.rng.random() < 0.5)
    if abs(episode.run) >= MAX_IN_A_ROW:
        is_wanted = episode.run < 0
    sign = 1 if is_wanted else -1
    episode.run = episode.run + sign if episode.run * sign > 0 else sign
    episode.num_came += is_wanted
    kinds = tuple(episode.wanted) if is_wanted else episode.others
    return kinds[episode.rng.integers(len(kinds))]


def _is_at_rest(cell: Cell, part: Part) -> bool:
    return bool(np.linalg.norm(cell.data.qvel[part.first_dof : part.first_dof + 3]) < _REST_M_S)


def _is_held(cell: Cell, part: Part) -> bool:
    pads = [*cell.left.pads, *cell.right.pads]
    pairs = cell.data.contact.geom
    return bool(np.isin(pairs[(pairs == part.geom).any(axis=1)], pads).any())


def _is_on_belt(position_m: Array) -> bool:
    height = position_m[2] - BELT_TOP_M
    return bool(abs(position_m[0] - BELT_X_M) < BELT_HALF_WIDTH_M and 0.0 < height < _ON_BELT_M)
