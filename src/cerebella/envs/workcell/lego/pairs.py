"""Which two bricks of an assembly to take hold of, and how, so that a pull parts them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.lego.bins import BIN_CENTRES_M
from cerebella.envs.workcell.lego.grasps import Grip, free_grips, hands_meet, is_flush
from cerebella.envs.workcell.lego.joints import Numbers
from cerebella.envs.workcell.lego.workpiece import Bricks, LegoEpisode
from cerebella.geometry import Array

_HANDS_MARGIN_M = 0.004
_MIN_APART_M = 0.024
_DOWNWARDS = -0.2


@dataclass(frozen=True, eq=False)
class PairGrip:
    """One arm pulls a brick along a direction (unit vector, world), the other holds one that it is joined to."""

    left: Grip
    right: Grip
    puller: Side
    direction: Array

    def grip(self, side: Side) -> Grip:
        """Of one arm."""
        return self.left if side == "left" else self.right

    @property
    def key(self) -> tuple[int, int, Side]:
        """Which bricks, and who pulls: what is counted when it did not work."""
        return self.left.brick, self.right.brick, self.puller


def pair_grips(
    bricks: Bricks, episode: LegoEpisode, joined: Numbers, failures: Mapping[object, int]
) -> Iterator[PairGrip]:
    """Every way to pull one brick off, the best first; reach is not looked at.

    Args:
        joined: int64[j, 2], pairs of bricks that are joined. failures: how often each `PairGrip.key` was tried.
    """
    grips: dict[int, list[Grip]] = {}

    def grips_of(number: int) -> list[Grip]:
        if number not in grips:
            grips[number] = free_grips(bricks, number)
        return grips[number]

    found: list[tuple[float, PairGrip]] = []
    for pulled in np.unique(joined).tolist():
        direction = _direction(bricks, joined, pulled)
        if direction is None:
            continue
        neighbours = np.unique(joined[(joined == pulled).any(axis=1)])
        for held in neighbours[neighbours != pulled].tolist():
            found += _pairs(bricks, episode, direction, grips_of(pulled), grips_of(held), failures)
    found.sort(key=lambda item: item[0])
    yield from (pair for _, pair in found)


def _direction(bricks: Bricks, joined: Numbers, number: int) -> Array | None:
    """Away from all neighbours, along the studs; None if they are on both sides, or it leads down."""
    is_above, is_below = (joined[:, 1] == number).any(), (joined[:, 0] == number).any()
    if is_above and is_below:
        return None
    direction = bricks.rotations[number][:, 2] * (1.0 if is_above else -1.0)
    return direction if direction[2] > _DOWNWARDS else None


def _pairs(
    bricks: Bricks,
    episode: LegoEpisode,
    direction: Array,
    to_pull: list[Grip],
    to_hold: list[Grip],
    failures: Mapping[object, int],
) -> list[tuple[float, PairGrip]]:
    found: list[tuple[float, PairGrip]] = []
    for pulling in to_pull:
        if pulling.others:
            continue
        for holding in to_hold:
            between = pulling.T_world_tool[:3, 3] - holding.T_world_tool[:3, 3]
            if pulling.brick in holding.others or np.linalg.norm(between[:2]) < _MIN_APART_M:
                continue
            puller: Side = "left" if between[1] > 0 else "right"
            left, right = (pulling, holding) if puller == "left" else (holding, pulling)
            if not (_leans_out(left, 1.0) and _leans_out(right, -1.0)):
                continue
            if hands_meet(left.T_world_tool, right.T_world_tool, _HANDS_MARGIN_M) or not is_flush(bricks, holding):
                continue
            pair = PairGrip(left, right, puller, direction)
            bin_y_m = BIN_CENTRES_M[episode.bin_numbers[pulling.brick], 1] * (1.0 if puller == "left" else -1.0)
            cost = 3.0 * failures.get(pair.key, 0) + abs(left.lean_rad) + abs(right.lean_rad)
            cost += 0.3 * (bin_y_m < 0) - 4.0 * float(np.linalg.norm(between[:2])) - 20.0 * pulling.T_world_tool[2, 3]
            found.append((cost, pair))
    return found


def _leans_out(grip: Grip, sign: float) -> bool:
    """Whether the hand is not on the other arm's side of its fingers."""
    return -grip.T_world_tool[1, 0] * sign > -0.1
