"""Draws assemblies: walls one brick thick whose layers overlap by part, so that every brick can be taken hold of.

An assembly is planned in whole studs along its length and whole layers. Plans grow brick by brick from the table up, and a
plan is kept if it is one piece and stands, also while it is taken apart from the top. A brick is only put where it leaves two
studs free at an end of a brick below it: one gripper can hold there while the other pulls. So stairs, zigzags, bridges,
pyramids and whole walls come about.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cerebella.envs.workcell.lego.bricks import HEIGHT_M, STUD_M, half_sizes_m
from cerebella.envs.workcell.lego.joints import pieces
from cerebella.geometry import Array, so3_exp, transform

_FREE_STUDS = 2
"""At an end of a supporting brick; a pad is 16 mm wide."""
_STANDS_STUDS = 0.6
"""So far inside its feet is the middle of whatever stands."""
_REST_M = float(half_sizes_m(1)[2])
"""Height of the middle of the lowest bricks."""


@dataclass(frozen=True)
class Place:
    """Where one brick is in its assembly: studs `first .. first + length - 1` of layer `layer` (0 on the table)."""

    layer: int
    first: int
    length: int

    @property
    def end(self) -> int:
        """The first stud after it."""
        return self.first + self.length

    def shared(self, other: "Place") -> tuple[int, int]:
        """Range of studs that both cover; empty if the second is not above the first."""
        return max(self.first, other.first), min(self.end, other.end)


def draw_assembly(
    lengths: Sequence[int], max_length: int, max_layers: int, rng: np.random.Generator
) -> tuple[Place, ...]:
    """A plan that uses every brick.

    Args:
        lengths: studs of each brick. max_length: studs from end to end of the assembly.

    Returns:
        The place of each brick, in the order of `lengths`.

    Raises:
        ValueError: no plan was found in many tries: too many bricks for the room, or too few long ones.
    """
    for _ in range(2000):
        plan = _grow(lengths, max_length, max_layers, rng)
        if plan is not None and _is_sound(plan):
            return plan
    raise ValueError(f"no assembly of {len(lengths)} bricks found in {max_length} studs and {max_layers} layers")


def overlaps(plan: Sequence[Place]) -> list[tuple[int, int]]:
    """Pairs of bricks, the lower one first, that share studs."""
    found = []
    for i, below in enumerate(plan):
        for j, above in enumerate(plan):
            if above.layer == below.layer + 1:
                low, high = below.shared(above)
                if low < high:
                    found.append((i, j))
    return found


def stand(plan: Sequence[Place], middle_m: Sequence[float], yaw_rad: float) -> tuple[list[Array], list[Array]]:
    """Put an assembly on the table.

    Args:
        middle_m: x and y of the middle of its length. yaw_rad: of its length, from the world's y axis.

    Returns:
        `T_world_brick` of each brick, and where each joint of `overlaps` sits in the world, float64[3] each.
    """
    centre = (min(p.first for p in plan) + max(p.end for p in plan)) / 2
    rotation = so3_exp([0.0, 0.0, np.pi / 2 + yaw_rad])

    def place(stud: float, height_m: float) -> Array:
        return np.array([*middle_m, height_m]) + rotation[:, 0] * (stud - centre) * STUD_M

    poses = [
        transform(rotation, place((brick.first + brick.end) / 2, _REST_M + brick.layer * HEIGHT_M)) for brick in plan
    ]
    anchors = []
    for i, j in overlaps(plan):
        low, high = plan[i].shared(plan[j])
        anchors.append(place((low + high) / 2, _REST_M + (plan[i].layer + 0.5) * HEIGHT_M))
    return poses, anchors


def _grow(
    lengths: Sequence[int], max_length: int, max_layers: int, rng: np.random.Generator
) -> tuple[Place, ...] | None:
    order = rng.permutation(len(lengths))
    least_wide = int(np.ceil(sum(lengths) / max_layers))
    width = int(rng.integers(min(least_wide, max_length), max_length + 1))
    placed: dict[int, Place] = {}
    for number in order.tolist():
        places = _places(list(placed.values()), lengths[number], width, max_layers)
        if not places:
            return None
        placed[number] = places[rng.integers(len(places))]
    return tuple(placed[number] for number in range(len(lengths)))


def _places(placed: Sequence[Place], length: int, width: int, max_layers: int) -> list[Place]:
    """Where a brick may go next: beside the lowest ones, or half on others."""
    if not placed:
        return [Place(0, 0, length)]
    left, right = min(p.first for p in placed), max(p.end for p in placed)
    found = []
    for layer in range(min(max_layers, 1 + max(p.layer for p in placed) + 1)):
        for first in range(right - width, left + width - length + 1):
            new = Place(layer, first, length)
            is_free = all(p.layer != layer or p.end <= first or new.end <= p.first for p in placed)
            is_buried = any(p.layer == layer + 1 and p.first < new.end and first < p.end for p in placed)
            if is_free and not is_buried and _is_held(new, placed):
                found.append(new)
    return found


def _is_held(new: Place, placed: Sequence[Place]) -> bool:
    if new.layer == 0:
        return any(p.layer == 0 and (p.end == new.first or new.end == p.first) for p in placed)
    shared = [(p, *p.shared(new)) for p in placed if p.layer == new.layer - 1]
    below = [(p, low, high) for p, low, high in shared if low < high]
    if not below or any(high - low < 2 for _, low, high in below):
        return False
    return any(low - p.first >= _FREE_STUDS or p.end - high >= _FREE_STUDS for p, low, high in below)


def _is_sound(plan: tuple[Place, ...]) -> bool:
    """One piece; and whatever is left while it is taken apart from the top stands."""
    if len(pieces(len(plan), np.array(overlaps(plan), dtype=np.int64).reshape(-1, 2))) > 1:
        return False
    order = sorted(plan, key=lambda place: (place.layer, place.first))
    return all(_stands(order[:count]) for count in range(1, len(order) + 1))


def _stands(plan: Sequence[Place]) -> bool:
    for piece in pieces(len(plan), np.array(overlaps(plan), dtype=np.int64).reshape(-1, 2)):
        bricks = [plan[i] for i in piece]
        feet = [brick for brick in bricks if brick.layer == 0]
        middle = sum((b.first + b.end) / 2 * b.length for b in bricks) / sum(b.length for b in bricks)
        low, high = min(b.first for b in feet), max(b.end for b in feet)
        if not low + _STANDS_STUDS <= middle <= high - _STANDS_STUDS:
            return False
    return True
