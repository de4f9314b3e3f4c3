"""Where a gripper can take hold of a brick, among other bricks, from above.

Everything is a box: bricks, fingers, palm, wrist. A grip closes on two opposite sides of a brick that stand upright, points
down or leans, and is free if nothing is in the way of the hand when it comes straight along its fingers.
"""

from dataclasses import dataclass

import numpy as np

from cerebella.envs.workcell.arm_model import MAX_OPENING_M, TIP_M
from cerebella.envs.workcell.lego.bins import walls
from cerebella.envs.workcell.lego.joints import Flags, Numbers
from cerebella.envs.workcell.lego.workpiece import Bricks
from cerebella.geometry import Array, transform

_CLEARANCE_M = 0.007
"""Between an open finger and the brick, on each side."""
_MAX_SIZE_M = 0.062
_PRESS_M = 0.003
"""The gripper presses with 5 N for each millimetre."""
_OFF_FLOOR_M = 0.0015
_PAD_HALF_M = 0.0085
_EDGE_M = 0.0095
"""The middle of a pad stays so far inside the ends of a brick."""
_LEANS_RAD = (0.0, 0.2, -0.2, 0.4, -0.4)
_UPRIGHT = 0.3
"""Greatest vertical part of the direction in which a gripper closes."""
_PALM_M = -0.060
_IN_THE_WAY = ((-0.21, _PALM_M, 0.047, 0.017), (-0.26, -0.11, 0.034, 0.029))
_HAND = ((-0.11, _PALM_M, 0.047, 0.017), (-0.21, -0.11, 0.034, 0.029), (_PALM_M, TIP_M, 0.033, 0.0085))
"""Boxes around parts of the hand in the tool frame: from and to along x, half sizes along y and z (m)."""


@dataclass(frozen=True, eq=False)
class Grip:
    """One way to hold a brick.

    Args:
        brick: its number. T_world_tool: float64[4, 4]. size_m: of the brick between the fingers.
        lean_rad: away from straight down. others: numbers of the bricks that are between the fingers too.
    """

    brick: int
    T_world_tool: Array
    size_m: float
    lean_rad: float
    others: frozenset[int]

    @property
    def opening(self) -> float:
        """Of the fingers on the way in, 0..1."""
        return min(1.0, (self.size_m + 2 * _CLEARANCE_M) / MAX_OPENING_M)

    @property
    def closed_opening(self) -> float:
        """What to ask of the fingers to hold the brick: less than its size, by what makes them press."""
        return (self.size_m - _PRESS_M) / MAX_OPENING_M

    def backed_off(self, distance_m: float) -> Array:
        """`T_world_tool` so far back along the fingers."""
        result = self.T_world_tool.copy()
        result[:3, 3] -= distance_m * result[:3, 0]
        return result


def free_grips(bricks: Bricks, number: int) -> list[Grip]:
    """Every grip of one brick that nothing is in the way of, straight ones first; reach is not looked at."""
    grips = _grips(bricks, number)
    if not grips:
        return []
    near = np.linalg.norm(bricks.positions_m - bricks.positions_m[number], axis=1) < 0.3
    near[number] = False
    others = np.flatnonzero(near)
    poses = np.array([T for T, _, _ in grips])
    gap = np.array([size for _, size, _ in grips]) / 2 + _CLEARANCE_M
    blocked: Flags = np.zeros((len(grips), len(others)), dtype=bool)
    for sign in (-1.0, 1.0):
        middle = np.zeros((len(grips), 3))
        middle[:, 0], middle[:, 1] = -0.061, sign * (gap + 0.007)
        blocked |= _meets(poses, middle, np.tile([0.079, 0.007, 0.0085], (len(grips), 1)), bricks, others)
    for start, end, half_y, half_z in _IN_THE_WAY:
        middle = np.tile([(start + end) / 2, 0.0, 0.0], (len(grips), 1))
        half = np.tile([(end - start) / 2, half_y, half_z], (len(grips), 1))
        blocked |= _meets(poses, middle, half, bricks, others)
    middle = np.tile([-0.020, 0.0, 0.0], (len(grips), 1))
    half = np.stack([np.full(len(grips), 0.0375), gap, np.full(len(grips), _PAD_HALF_M)], axis=1)
    between = _meets(poses, middle, half, bricks, others)
    return [
        Grip(number, T, size, lean, frozenset(others[between[i]].tolist()))
        for i, (T, size, lean) in enumerate(grips)
        if not blocked[i].any()
    ]


def with_walls(bricks: Bricks) -> Bricks:
    """The bricks, and after them the walls of all bins, as things that can be in the way."""
    middles, half = zip(*walls(), strict=True)
    return Bricks(
        positions_m=np.concatenate([bricks.positions_m, middles]),
        rotations=np.concatenate([bricks.rotations, np.tile(np.eye(3), (len(half), 1, 1))]),
        half_sizes_m=np.concatenate([bricks.half_sizes_m, half]),
    )


def is_flush(bricks: Bricks, grip: Grip) -> bool:
    """Whether whatever else is between the fingers is no wider than the brick itself, so that the pads close on all."""
    closing = grip.T_world_tool[:3, 1]
    middle = bricks.positions_m[grip.brick] @ closing
    half = (np.abs(bricks.rotations.transpose(0, 2, 1) @ closing) * bricks.half_sizes_m).sum(axis=1)
    limit = half[grip.brick] + 0.001
    return all(abs(bricks.positions_m[i] @ closing - middle) + half[i] <= limit for i in grip.others)


def hands_meet(first: Array, second: Array, margin_m: float) -> bool:
    """Whether two hands at these poses (`T_world_tool`) would touch, or nearly."""
    boxes = [
        (
            T[:3, :3],
            np.array([T[:3, :3] @ [(a + b) / 2, 0.0, 0.0] + T[:3, 3] for a, b, _, _ in _HAND]),
            np.array([[(b - a) / 2 + margin_m / 2, y + margin_m / 2, z + margin_m / 2] for a, b, y, z in _HAND]),
        )
        for T in (first, second)
    ]
    (R_a, middle_a, half_a), (R_b, middle_b, half_b) = boxes
    rotations_b = np.tile(R_b, (3, 1, 1))
    return any(boxes_meet(middle_a[i], R_a, half_a[i], middle_b, rotations_b, half_b).any() for i in range(len(_HAND)))


def boxes_meet(middle_a: Array, R_a: Array, half_a: Array, middle_b: Array, R_b: Array, half_b: Array) -> Flags:
    """Separating axes: which pairs of turned boxes share a point. Leading axes broadcast; [..., 3], [..., 3, 3], [..., 3]."""
    turn = np.swapaxes(R_a, -1, -2) @ R_b
    way = np.squeeze(np.swapaxes(R_a, -1, -2) @ (middle_b - middle_a)[..., None], -1)
    size = np.abs(turn) + 1e-9
    meets = (np.abs(way) <= half_a + (size @ half_b[..., None])[..., 0]).all(axis=-1)
    along_b = np.squeeze(np.swapaxes(turn, -1, -2) @ way[..., None], -1)
    meets &= (np.abs(along_b) <= half_b + (np.swapaxes(size, -1, -2) @ half_a[..., None])[..., 0]).all(axis=-1)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        for m in range(3):
            n, o = (m + 1) % 3, (m + 2) % 3
            reach = half_a[..., j] * size[..., k, m] + half_a[..., k] * size[..., j, m]
            reach = reach + half_b[..., n] * size[..., i, o] + half_b[..., o] * size[..., i, n]
            meets &= np.abs(way[..., k] * turn[..., j, m] - way[..., j] * turn[..., k, m]) <= reach
    return np.asarray(meets)


def _meets(poses: Array, middle: Array, half: Array, bricks: Bricks, others: Numbers) -> Flags:
    """Which boxes, given in tool frames, meet which bricks. float64[g, 4, 4], [g, 3], [g, 3] -> bool[g, len(others)]."""
    R = poses[:, :3, :3]
    centre = (R @ middle[..., None])[..., 0] + poses[:, :3, 3]
    return boxes_meet(
        centre[:, None],
        R[:, None],
        half[:, None],
        bricks.positions_m[others][None],
        bricks.rotations[others][None],
        bricks.half_sizes_m[others][None] - 3e-4,
    )


def _grips(bricks: Bricks, number: int) -> list[tuple[Array, float, float]]:
    """Pose, size of the brick between the fingers (m), and lean (rad)."""
    R, position_m = bricks.rotations[number], bricks.positions_m[number]
    half, lowest_m = bricks.half_sizes_m[number], bricks.lowest_m[number]
    found: list[tuple[Array, float, float]] = []
    for axis in np.argsort(half).tolist():
        if abs(R[2, axis]) > _UPRIGHT or 2 * half[axis] > _MAX_SIZE_M:
            continue
        closing = R[:, axis] * [1.0, 1.0, 0.0]
        closing /= np.linalg.norm(closing)
        along = min((i for i in range(3) if i != axis), key=lambda i: abs(R[2, i]))
        most = max(half[along] - _EDGE_M, 0.0)
        for lean in _LEANS_RAD:
            pointing = -np.cos(lean) * np.array([0.0, 0.0, 1.0]) + np.sin(lean) * np.cross([0.0, 0.0, 1.0], closing)
            rotation = np.stack([pointing, closing, np.cross(pointing, closing)], axis=1)
            height_m = lowest_m + _OFF_FLOOR_M + TIP_M * np.cos(lean) + 0.008 * abs(np.sin(lean))
            height_m = max(height_m, position_m[2])
            for share in (0.0, 1.0, -1.0, 0.5, -0.5) if most > 0.003 else (0.0,):
                point = position_m + share * most * R[:, along]
                origin = point - pointing * (height_m - point[2]) / np.cos(lean)
                found.append((transform(rotation, origin), 2 * float(half[axis]), lean))
    return found
