"""Forward and inverse kinematics of the arm, both in closed form, vectorised over rows.

The base frame B has x forward, y left, z up, and its origin where the arm stands. With all joints at zero the arm is
stretched out along x at the height of its shoulder, and the tool frame T is parallel to B. T lies between the finger
pads: x is where the fingers point, y where they open.

    T_B_T = Trans(0, 0, h) Rz(q1) Ry(q2) Trans(a, 0, 0) Ry(q3) Trans(b, 0, 0) Rx(q4) Ry(q5) Rx(q6) Trans(c, 0, 0)

The last three axes meet in the wrist's centre. A gripper that points straight down is Ry(90 degrees): far from the half
turn at which an axis_angle jumps.
"""

import numpy as np
from numpy.typing import NDArray

from cerebella.geometry import Array

SHOULDER_HEIGHT_M = 0.18
"""h, above the table."""
UPPER_ARM_M = 0.33
"""a, shoulder to elbow."""
FOREARM_M = 0.32
"""b, elbow to the wrist's centre."""
TOOL_M = 0.17
"""c, from the wrist's centre to the middle of the finger pads."""

JOINT_LOW_RAD: Array = np.array([-2.7, -2.2, 0.0, -2.0, -1.9, -2.9])
JOINT_HIGH_RAD: Array = np.array([2.7, 0.8, 2.75, 2.0, 1.9, 2.9])
"""float64[6]: base, shoulder (down is positive), elbow (bent down is positive), forearm, wrist, hand."""

EXACT = 1e-6
"""Joints (rad) and metres that are so far outside still count as reached, and a wrist that is bent less (rad) as straight."""
_AXIS_M = 1e-9


def forward(joints_rad: Array) -> Array:
    """`T_base_tool`. float64[..., 6] -> float64[..., 4, 4]. Any joints, inside the limits or not."""
    q1, q2, q3, q4, q5, q6 = np.moveaxis(_rows(joints_rad, (6,), "joints_rad"), -1, 0)
    rotation = _about_z(q1) @ _about_y(q2 + q3) @ _about_x(q4) @ _about_y(q5) @ _about_x(q6)
    along = UPPER_ARM_M * np.cos(q2) + FOREARM_M * np.cos(q2 + q3)
    below = UPPER_ARM_M * np.sin(q2) + FOREARM_M * np.sin(q2 + q3)
    wrist = np.stack([along * np.cos(q1), along * np.sin(q1), SHOULDER_HEIGHT_M - below], axis=-1)
    result = np.zeros((*q1.shape, 4, 4))
    result[..., :3, :3] = rotation
    result[..., :3, 3] = wrist + TOOL_M * rotation[..., :, 0]
    result[..., 3, 3] = 1.0
    return result


def inverse(T_base_tool: Array, near_rad: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Joints that bring the tool to a pose, and whether they do.

    A pose has up to four solutions (the base turned to or away, the wrist flipped or not); of those within the limits
    the one nearest to `near_rad` is taken. A straight wrist keeps the forearm joint as near to `near_rad` as it can; with the
    wrist's centre on the base's axis, the base keeps its joint, and only that solution is looked at.

    A pose out of reach gets the nearest joints in this sense: the wrist's centre moves along its ray from the shoulder until
    the arm can reach it, then each joint moves into its range. They are continuous in the pose, and all within the limits.

    Args:
        T_base_tool: float64[..., 4, 4].
        near_rad: float64[..., 6]; leading axes broadcast.

    Returns:
        joints (rad) float64[..., 6], and is_reached bool[...].

    Raises:
        ValueError: a wrong shape, or a number that is not finite.
    """
    pose = _rows(T_base_tool, (4, 4), "T_base_tool")
    near = _rows(near_rad, (6,), "near_rad")
    leading = np.broadcast_shapes(pose.shape[:-2], near.shape[:-1])
    pose, near = np.broadcast_to(pose, (*leading, 4, 4)), np.broadcast_to(near, (*leading, 6))
    joints, missed = _solutions(pose[..., None, :, :], near[..., None, :])
    inside = np.clip(joints, JOINT_LOW_RAD, JOINT_HIGH_RAD)
    missed = missed + np.abs(joints - inside).max(axis=-1)
    is_reached = missed <= EXACT
    distance = np.abs(inside - near[..., None, :]).sum(axis=-1)
    best = np.argmin(np.where(is_reached, 0.0, 1e3 * (1.0 + missed)) + distance, axis=-1)
    chosen = np.take_along_axis(inside, best[..., None, None], axis=-2)[..., 0, :]
    return chosen, np.take_along_axis(is_reached, best[..., None], axis=-1)[..., 0]


def _solutions(pose: Array, near: Array) -> tuple[Array, Array]:
    """Four of them, float64[..., 4, 6], and how far (m) the wrist is from where it should be, float64[..., 1].

    Args:
        pose: float64[..., 1, 4, 4]. near: float64[..., 1, 6].
    """
    front, flip = np.array([1.0, 1.0, -1.0, -1.0]), np.array([1.0, -1.0, 1.0, -1.0])
    wrist = pose[..., :3, 3] - TOOL_M * pose[..., :3, 0]
    x, y, z = wrist[..., 0], wrist[..., 1], wrist[..., 2] - SHOULDER_HEIGHT_M
    from_axis = np.hypot(x, y)
    q1 = np.where(from_axis > _AXIS_M, np.arctan2(front * y, front * x), near[..., 0])

    shoulder_to_wrist = np.hypot(from_axis, z)
    cosine = (shoulder_to_wrist**2 - UPPER_ARM_M**2 - FOREARM_M**2) / (2 * UPPER_ARM_M * FOREARM_M)
    q3 = np.arccos(np.clip(cosine, np.cos(JOINT_HIGH_RAD[2]), 1.0))
    reached = np.sqrt(UPPER_ARM_M**2 + FOREARM_M**2 + 2 * UPPER_ARM_M * FOREARM_M * np.cos(q3))
    q2 = np.arctan2(-z, front * from_axis) - np.arctan2(FOREARM_M * np.sin(q3), UPPER_ARM_M + FOREARM_M * np.cos(q3))

    m = np.swapaxes(_about_z(q1) @ _about_y(q2 + q3), -1, -2) @ pose[..., :3, :3]  # Rx(q4) Ry(q5) Rx(q6)
    is_bent = np.hypot(m[..., 0, 1], m[..., 0, 2]) > EXACT
    straight = _nearest_forearm(np.arctan2(m[..., 2, 1], m[..., 1, 1]), near)
    q4 = np.where(is_bent, np.arctan2(flip * m[..., 1, 0], -flip * m[..., 2, 0]), straight)
    n = np.swapaxes(_about_x(q4), -1, -2) @ m  # Ry(q5) Rx(q6)
    q5 = np.arctan2(-n[..., 2, 0], n[..., 0, 0])
    q6 = np.arctan2(-n[..., 1, 2], n[..., 1, 1])

    joints = np.stack(np.broadcast_arrays(q1, q2, q3, q4, q5, q6), axis=-1)
    middle = (JOINT_LOW_RAD + JOINT_HIGH_RAD) / 2
    return middle + _within_half_turn(joints - middle), np.abs(reached - shoulder_to_wrist)  # a range is below a turn


def _nearest_forearm(sum_rad: Array, near: Array) -> Array:
    """q4 of a straight wrist, which only fixes q4 + q6 (up to turns): as near as the range of q6 lets it be. float64[...]."""
    q4, q6 = (np.clip(near[..., i], JOINT_LOW_RAD[i], JOINT_HIGH_RAD[i]) for i in (3, 5))
    wanted = q4 + q6 + _within_half_turn(sum_rad - q4 - q6)
    most = JOINT_HIGH_RAD[3] + JOINT_HIGH_RAD[5]
    wanted = np.where(np.abs(wanted) > most, wanted - 2 * np.pi * np.sign(wanted), wanted)
    return np.clip(q4, wanted - JOINT_HIGH_RAD[5], wanted - JOINT_LOW_RAD[5])


def _within_half_turn(angle_rad: Array) -> Array:
    """The same direction in [-pi, pi). Any shape."""
    return (angle_rad + np.pi) % (2 * np.pi) - np.pi


def _rows(value: Array, shape: tuple[int, ...], name: str) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if array.shape[-len(shape) :] != shape:
        raise ValueError(f"{name} must be float64[..., {', '.join(map(str, shape))}]; got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; got {array[~np.isfinite(array)][0]}")
    return array


def _about_x(angle_rad: Array) -> Array:
    return _turn(angle_rad, 1, 2)


def _about_y(angle_rad: Array) -> Array:
    return _turn(angle_rad, 2, 0)


def _about_z(angle_rad: Array) -> Array:
    return _turn(angle_rad, 0, 1)


def _turn(angle_rad: Array, first: int, second: int) -> Array:
    """Rotation matrices that turn axis `first` towards axis `second`. [...] -> [..., 3, 3]."""
    result = np.zeros((*np.shape(angle_rad), 3, 3))
    axis = 3 - first - second
    result[..., axis, axis] = 1.0
    result[..., first, first] = result[..., second, second] = np.cos(angle_rad)
    result[..., second, first] = np.sin(angle_rad)
    result[..., first, second] = -np.sin(angle_rad)
    return result
