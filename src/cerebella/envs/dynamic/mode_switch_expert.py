"""The way past one round obstacle: a law of what is seen now, without memory, and how it keeps to a side.

Where the straight line to the goal comes nearer to the obstacle than `CLEARANCE_M`, the gripper heads along the tangent of
that circle (r below), otherwise straight ahead; on the circle the two agree, so the way is a string pulled tight:

    angle between the heading and the obstacle = arcsin(r / distance)

The side is the one on which the gripper would be a moment later at its present velocity. So whoever has turned to a side
keeps to it. A preference moves the boundary between the sides: two preferences give two right answers in the middle.
"""

import numpy as np

from cerebella.envs.dynamic.planar import TICK_S, lead_servo
from cerebella.types import BoolArray, FloatArray

OBSTACLE_RADIUS_M, GRIPPER_RADIUS_M = 0.028, 0.012
CONTACT_M = OBSTACLE_RADIUS_M + GRIPPER_RADIUS_M
"""Distance of the centres at which they touch."""
CLEARANCE_M = CONTACT_M + 0.020
"""How far the expert's way stays from the obstacle's centre."""
COMMIT_S = 0.05
"""How far ahead the velocity is followed to see on which side the gripper is."""
MIN_SPEED, STEADY_SPEED, MAX_SPEED = 0.18, 0.22, 0.26
STEADY_PREFERENCE_M, MIN_PREFERENCE_M, MAX_PREFERENCE_M = 0.008, 0.025, 0.040

_APPROACH_GAIN = 0.4
_PUSH_RAD, _PUSH_DEPTH_M = 0.8, 0.01
_NUM_WAY_STEPS = 16
_DECIDED_M, _ALWAYS_M = 0.04, 1.0


def command(
    gripper: FloatArray,
    velocity: FloatArray,
    goal: FloatArray,
    obstacle: FloatArray,
    is_present: BoolArray,
    style: FloatArray,
) -> FloatArray:
    """The target of this tick, float32[N, 2] metres.

    Args:
        gripper, goal, obstacle: float32[N, 2], metres. velocity: float32[N, 2], m/s, of the tick before.
        is_present: bool[N], whether there is an obstacle.
        style: float32[N, 2]: speed, m/s, and preference, metres: how far off the line to the goal an obstacle may be on
            the left and still be passed on the left; below 0 the same on the right.
    """
    direction = heading(gripper, velocity, goal, obstacle, is_present, style[:, 1])
    step_m = np.minimum(style[:, 0] * TICK_S, _APPROACH_GAIN * _length(goal - gripper))
    return lead_servo(gripper, direction * step_m[:, None])


def heading(
    gripper: FloatArray,
    velocity: FloatArray,
    goal: FloatArray,
    obstacle: FloatArray,
    is_present: BoolArray,
    preference_m: FloatArray,
) -> FloatArray:
    """Where to go now, unit vectors float32[N, 2] (zero at the goal); arguments as `command`."""
    to_goal, to_obstacle = goal - gripper, obstacle - gripper
    goal_m, obstacle_m = _length(to_goal), np.maximum(_length(to_obstacle), 1e-6)
    straight = to_goal / np.maximum(goal_m, 1e-9)[:, None]
    along_m = np.clip((to_obstacle * straight).sum(axis=1), 0.0, goal_m)
    nearest_m = _length(to_obstacle - straight * along_m[:, None])
    is_blocked = is_present & (nearest_m < CLEARANCE_M) & (along_m > 0.0)

    soon = (gripper + velocity * np.float32(COMMIT_S)).astype(np.float32)
    obstacle_is_right_m = _beside(goal - soon, obstacle - soon)
    turn = np.where(obstacle_is_right_m + preference_m > 0.0, -1.0, 1.0)  # -1 passes it on the left
    angle = np.arcsin(np.minimum(CLEARANCE_M / obstacle_m, 1.0))
    angle = turn * (angle + _PUSH_RAD * np.clip((CLEARANCE_M - obstacle_m) / _PUSH_DEPTH_M, 0.0, 1.0))
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    sideways = np.stack([-to_obstacle[:, 1], to_obstacle[:, 0]], axis=1)
    tangent = (cosine * to_obstacle + sine * sideways) / obstacle_m[:, None]
    return np.where(is_blocked[:, None], tangent, straight).astype(np.float32)


def point_on_way(
    gripper: FloatArray,
    velocity: FloatArray,
    goal: FloatArray,
    obstacle: FloatArray,
    is_present: BoolArray,
    distance_m: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Where the way leads that the gripper is on, on the side to which it moves.

    Returns:
        The place after `distance_m` (float32[N]) and the heading there, float32[N, 2] both.
    """
    point, direction = gripper, np.zeros_like(gripper)
    step_m = np.maximum(distance_m, 0.0)[:, None] / np.float32(_NUM_WAY_STEPS)
    for _ in range(_NUM_WAY_STEPS):
        direction = present_heading(point, velocity, goal, obstacle, is_present)
        point = (point + direction * step_m).astype(np.float32)
        velocity = direction * np.float32(STEADY_SPEED)
    return point, direction


def present_heading(
    gripper: FloatArray, velocity: FloatArray, goal: FloatArray, obstacle: FloatArray, is_present: BoolArray
) -> FloatArray:
    """`heading` on the side of the obstacle to which the gripper moves, float32[N, 2].

    Where it moves straight towards the obstacle, the steady demonstrator's side.
    """
    obstacle_is_right_m = _beside(velocity, obstacle - gripper)
    is_decided = np.abs(obstacle_is_right_m) > _DECIDED_M
    preference_m = np.where(is_decided, np.copysign(_ALWAYS_M, obstacle_is_right_m), STEADY_PREFERENCE_M)
    return heading(gripper, velocity, goal, obstacle, is_present, preference_m.astype(np.float32))


def _length(vectors: FloatArray) -> FloatArray:
    return np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2).astype(np.float32)


def _beside(line: FloatArray, vectors: FloatArray) -> FloatArray:
    """How far `vectors` reach to the right of `line`, as a camera above sees it; below 0 to the left. float32[N], metres."""
    area = line[:, 0] * vectors[:, 1] - line[:, 1] * vectors[:, 0]
    return (area / np.maximum(_length(line), 1e-6)).astype(np.float32)
