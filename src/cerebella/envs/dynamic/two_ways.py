"""Two ways past a round obstacle: shortest paths on its left and on its right, and whether a path touches it.

Planar, metres, seen from above with x to the right and y up; "left" is left of the line from start to goal. Everything is
a pure function, vectorised over N scenes, and knows nothing of who draws the scenes.

A way is a string pulled tight around a disc of radius r = `clearance_m` (tangent, arc, tangent). With s and g the start
and the goal, d their distances from the centre, and phi the angle from s to g around the centre on the chosen side:

    arc angle = phi - arccos(r / d_s) - arccos(r / d_g)
    length    = sqrt(d_s^2 - r^2) + r * arc angle + sqrt(d_g^2 - r^2)

An arc angle of 0 or below says that the disc is not in the way on that side; the way is then the straight line.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.planar import place, target
from cerebella.types import FloatArray

LEFT, RIGHT = 0, 1
SIDES = ("left", "right")
"""What a side index means."""


@dataclass(frozen=True)
class TwoWaysConfig:
    """Constants of the task.

    Args:
        length_m, width_m: workspace along x and y.
        obstacle_radius_m, gripper_radius_m: they touch when their centres are closer than the sum.
        margin_m: how much farther than touching the expert stays.
        speed: of the expert along its way, m/s. policy_hz: rows of a chunk per second.
    """

    length_m: float = 0.48
    width_m: float = 0.32
    obstacle_radius_m: float = 0.035
    gripper_radius_m: float = 0.015
    margin_m: float = 0.015
    speed: float = 0.28
    policy_hz: float = 10.0

    @property
    def contact_m(self) -> float:
        """Distance of the centres at which gripper and obstacle touch."""
        return self.obstacle_radius_m + self.gripper_radius_m

    @property
    def clearance_m(self) -> float:
        """Radius of the disc around which the expert's string is pulled."""
        return self.contact_m + self.margin_m


@dataclass(frozen=True, eq=False)
class Scenes:
    """Where everything is: start, goal and obstacle, float32[N, 2] each, (x, y) in metres."""

    start: FloatArray
    goal: FloatArray
    obstacle: FloatArray

    def __len__(self) -> int:
        """Number of scenes, N."""
        return len(self.start)

    @property
    def proprioception(self) -> FloatArray:
        """float32[N, 6], the state vectors of `TWO_WAYS`."""
        return np.concatenate([self.start, self.goal, self.obstacle], axis=1)

    def take(self, indices: NDArray[np.integer] | slice) -> "Scenes":
        """The scenes at `indices`."""
        return Scenes(self.start[indices], self.goal[indices], self.obstacle[indices])


@dataclass(frozen=True, eq=False)
class _Strings:
    """The three pieces of N ways, float64: lengths [N], touching points [N, 2], and the arc in polar coordinates.

    `turn` is +1 for counterclockwise (the way on the right), -1 for clockwise. A straight way has `tangent` = its length
    and nothing behind it.
    """

    tangent: NDArray[np.float64]
    arc: NDArray[np.float64]
    last: NDArray[np.float64]
    first_touch: NDArray[np.float64]
    last_touch: NDArray[np.float64]
    first_angle: NDArray[np.float64]
    turn: NDArray[np.float64]


def way_lengths(scenes: Scenes, side: NDArray[np.integer], clearance_m: float) -> NDArray[np.float64]:
    """Length of the way on `side` (int[N], `LEFT` or `RIGHT`), metres, float64[N].

    Raises:
        ValueError: a start or goal lies inside the disc, or a side is neither 0 nor 1.
    """
    strings = _pull(scenes, side, clearance_m)
    return strings.tangent + strings.arc + strings.last


def points_on_way(
    scenes: Scenes, side: NDArray[np.integer], clearance_m: float, distance_m: NDArray[np.floating]
) -> FloatArray:
    """Where one is after `distance_m` along the way; at the goal after its end.

    Args:
        side: int[N], `LEFT` or `RIGHT`. distance_m: float[K], 0 or more, the same for all scenes.

    Returns:
        float32[N, K, 2], metres.

    Raises:
        ValueError: as `way_lengths`.
    """
    way = _pull(scenes, side, clearance_m)
    start, goal, centre = (x[:, None].astype(np.float64) for x in (scenes.start, scenes.goal, scenes.obstacle))
    along = np.asarray(distance_m, dtype=np.float64)[None, :]
    tangent, arc, last = way.tangent[:, None], way.arc[:, None], way.last[:, None]
    on_first = start + (way.first_touch[:, None] - start) * _share(along, tangent)[..., None]
    angle = way.first_angle[:, None] + way.turn[:, None] * np.clip(along - tangent, 0.0, arc) / clearance_m
    on_arc = centre + clearance_m * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    on_last = (
        way.last_touch[:, None] + (goal - way.last_touch[:, None]) * _share(along - tangent - arc, last)[..., None]
    )
    is_first, is_arc = (along <= tangent)[..., None], (along <= tangent + arc)[..., None]
    return np.where(is_first, on_first, np.where(is_arc, on_arc, on_last)).astype(np.float32)


def expert_chunks(
    scenes: Scenes, side: NDArray[np.integer], horizon: int, config: TwoWaysConfig | None = None
) -> FloatArray:
    """The expert's next `horizon` targets on `side` (int[N]), absolute, float32[N, H, 2]; row i is reached after i + 1 ticks.

    Raises:
        ValueError: as `way_lengths`.
    """
    settings = config or TwoWaysConfig()
    distance_m = settings.speed / settings.policy_hz * np.arange(1, horizon + 1)
    return points_on_way(scenes, side, settings.clearance_m, distance_m)


def smallest_distances(scenes: Scenes, chunks: FloatArray) -> NDArray[np.float64]:
    """How near straight moves from the start through the rows of a chunk come to the obstacle's centre, metres.

    Args:
        chunks: float32[N, H, 2], absolute targets.

    Returns:
        float64[N].
    """
    points = np.concatenate([scenes.start[:, None], chunks], axis=1).astype(np.float64) - scenes.obstacle[:, None]
    begin, move = points[:, :-1], np.diff(points, axis=1)
    square = np.maximum((move**2).sum(axis=-1), 1e-18)
    nearest = begin + move * np.clip(-(begin * move).sum(axis=-1) / square, 0.0, 1.0)[..., None]
    return np.linalg.norm(nearest, axis=-1).min(axis=1)


def hits_obstacle(scenes: Scenes, chunks: FloatArray, config: TwoWaysConfig | None = None) -> NDArray[np.bool_]:
    """Whether the gripper touches the obstacle on its way through a chunk (float32[N, H, 2]), bool[N]."""
    return smallest_distances(scenes, chunks) < (config or TwoWaysConfig()).contact_m


def _pull(scenes: Scenes, side: NDArray[np.integer], clearance_m: float) -> _Strings:
    start, goal = ((x - scenes.obstacle).astype(np.float64) for x in (scenes.start, scenes.goal))
    start_m, goal_m = np.linalg.norm(start, axis=1), np.linalg.norm(goal, axis=1)
    if not np.isin(side, (LEFT, RIGHT)).all() or np.shape(side) != (len(scenes),):
        raise ValueError(f"side must be int[{len(scenes)}] of {LEFT} (left) and {RIGHT} (right); got {side!r}")
    if len(scenes) and (nearest := min(start_m.min(), goal_m.min())) <= clearance_m:
        raise ValueError(
            f"start and goal must be farther than {clearance_m:g} m from the obstacle's centre; got {nearest:.4f} m"
        )
    turn = np.where(np.asarray(side) == LEFT, -1.0, 1.0)
    start_angle, goal_angle = np.arctan2(start[:, 1], start[:, 0]), np.arctan2(goal[:, 1], goal[:, 0])
    first, last = np.arccos(clearance_m / start_m), np.arccos(clearance_m / goal_m)
    arc_angle = np.mod(turn * (goal_angle - start_angle), 2 * np.pi) - first - last
    first_angle, last_angle = start_angle + turn * first, goal_angle - turn * last
    is_straight = arc_angle <= 0.0
    touches = [
        scenes.obstacle + clearance_m * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        for angle in (first_angle, last_angle)
    ]
    goals = scenes.goal.astype(np.float64)
    first_touch, last_touch = (np.where(is_straight[:, None], goals, touch) for touch in touches)
    straight_m = np.linalg.norm(goal - start, axis=1)
    return _Strings(
        tangent=np.where(is_straight, straight_m, np.sqrt(start_m**2 - clearance_m**2)),
        arc=np.where(is_straight, 0.0, clearance_m * arc_angle),
        last=np.where(is_straight, 0.0, np.sqrt(goal_m**2 - clearance_m**2)),
        first_touch=first_touch,
        last_touch=last_touch,
        first_angle=first_angle,
        turn=turn,
    )


def _share(along: NDArray[np.float64], length: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of a piece has been passed, 0..1; all of an empty one."""
    return np.clip(along / np.maximum(length, 1e-12), 0.0, 1.0) if length.size else along


_SIZE = TwoWaysConfig()
TWO_WAYS = Embodiment(
    name="two_ways",
    control_mode="end_effector",
    states=(
        place("gripper_x", 0, _SIZE.length_m),
        place("gripper_y", 1, _SIZE.width_m),
        place("goal_x", 7, _SIZE.length_m),
        place("goal_y", 8, _SIZE.width_m),
        place("obstacle_x", 9, _SIZE.length_m),
        place("obstacle_y", 10, _SIZE.width_m),
    ),
    actions=(target("gripper_x", 0, _SIZE.length_m), target("gripper_y", 1, _SIZE.width_m)),
    views=(),
    policy_hz=_SIZE.policy_hz,
    control_hz=_SIZE.policy_hz,
)
"""A point gripper without a camera: goal and obstacle are part of its state, in slots of joints that it does not have."""
