"""Rotations and rigid transforms: SO(3) and SE(3) in NumPy, float64, batched over any leading axes.

Conventions, each of them named at its function:

- `T_a_b` is a 4x4 matrix that maps coordinates in frame b to coordinates in frame a, so `T_a_b @ T_b_c = T_a_c`.
- A rotation matrix R is 3x3, orthonormal, right-handed. `axis_angle` is a 3-vector: direction = axis, length = angle
  in radians. `quat_xyzw` has the scalar last. `rot6d` is the first two columns of R, one after the other.
- A tangent vector of SE(3) is [translation part (3, m), rotation part (3, rad)], in this order, everywhere.

Formulas: Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics" (arXiv 1812.01537), appendices
B and D. The 6D rotation: Zhou et al., "On the continuity of rotation representations" (CVPR 2019), equation 15.

Every function raises a ValueError for a wrong shape, a number that is not finite, or a matrix that is not a rotation.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

ROTATION_TOLERANCE = 1e-4
"""Largest |R^T R - I| that is accepted: float32 files pass, an average of two rotations does not."""

ZERO_ANGLE_RAD = 1e-6
"""Below this angle the logarithm is exactly zero, as in the released XR-0 data layout."""


def skew(vector: ArrayLike) -> Array:
    """The matrix K with `K @ u = vector x u`. [..., 3] -> [..., 3, 3]."""
    x, y, z = np.moveaxis(_vector("vector", vector, 3), -1, 0)
    zero = np.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def so3_exp(axis_angle: ArrayLike) -> Array:
    """Rotation matrix of an axis-angle vector (rad), Rodrigues' formula. [..., 3] -> [..., 3, 3]. Any angle."""
    vector = _vector("axis_angle (rad)", axis_angle, 3)
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    sine_ratio = np.sinc(angle / np.pi)  # sin(a) / a, exact at 0
    cosine_ratio = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2  # (1 - cos(a)) / a^2
    k = skew(vector)
    return np.eye(3) + sine_ratio * k + cosine_ratio * (k @ k)


def so3_log(rotation: ArrayLike) -> Array:
    """Axis-angle vector (rad) of a rotation matrix, length in [0, pi]. [..., 3, 3] -> [..., 3].

    The angle comes from atan2(sine, cosine), which is accurate everywhere. The axis comes from the antisymmetric part
    up to 90 degrees; beyond, where that part fades, from the symmetric part `cos I + (1 - cos) a a^T`, by the column
    with the largest diagonal entry. At exactly pi both signs of the axis are right; the largest entry is made positive.
    Below `ZERO_ANGLE_RAD` the result is exactly zero.
    """
    r = _rotation("rotation", rotation)
    sine_axis = 0.5 * np.stack(
        [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], axis=-1
    )
    sine = np.linalg.norm(sine_axis, axis=-1)
    cosine = 0.5 * (np.trace(r, axis1=-2, axis2=-1) - 1.0)
    angle = np.arctan2(sine, cosine)

    small = cosine > 0.0
    axis_small = sine_axis / np.where(sine > 0.0, sine, 1.0)[..., None]

    cosine_large = np.where(small, 0.0, cosine)  # keep the unused branch free of a division by zero
    symmetric = 0.5 * (r + np.swapaxes(r, -1, -2)) - cosine_large[..., None, None] * np.eye(3)
    outer = symmetric / (1.0 - cosine_large)[..., None, None]
    largest = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    column = np.take_along_axis(outer, largest[..., None, None], axis=-1)[..., 0]
    length = np.linalg.norm(column, axis=-1, keepdims=True)
    axis_large = column / np.where(length > 0.0, length, 1.0)
    agrees = np.sum(axis_large * sine_axis, axis=-1, keepdims=True) >= 0.0
    axis_large = np.where(agrees, axis_large, -axis_large)

    log = np.where(small[..., None], axis_small, axis_large) * angle[..., None]
    return np.where((angle < ZERO_ANGLE_RAD)[..., None], 0.0, log)


def nearest_axis_angle(axis_angle: ArrayLike, reference: ArrayLike) -> Array:
    """Of all vectors that mean the rotation `axis_angle`, the one nearest to `reference`, rad. [..., 3] -> [..., 3].

    A rotation has a vector for every number of extra turns about its axis. Near pi a logarithm jumps between two of
    them; this keeps the numbers of a motion continuous. A rotation below `ZERO_ANGLE_RAD` stays what it is.
    """
    vector, wanted = _vector("axis_angle (rad)", axis_angle, 3), _vector("reference (rad)", reference, 3)
    angle = np.linalg.norm(vector, axis=-1, keepdims=True)
    axis = vector / np.where(angle > ZERO_ANGLE_RAD, angle, 1.0)
    turns = np.round((np.sum(axis * wanted, axis=-1, keepdims=True) - angle) / (2 * np.pi))
    return np.where(angle > ZERO_ANGLE_RAD, vector + 2 * np.pi * turns * axis, vector)


def matrix_from_quat_xyzw(quat_xyzw: ArrayLike) -> Array:
    """Rotation matrix of a unit quaternion, scalar last. [..., 4] -> [..., 3, 3].

    Raises:
        ValueError: the norm differs from 1 by more than 1e-3 (then it is probably not a quaternion, or not xyzw).
    """
    q = _vector("quat_xyzw", quat_xyzw, 4)
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if np.any(np.abs(norm - 1.0) > 1e-3):
        raise ValueError(f"quat_xyzw must have norm 1 (within 1e-3); got {norm.ravel()[np.argmax(np.abs(norm - 1.0))]}")
    x, y, z, w = np.moveaxis(q / norm, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quat_xyzw_from_matrix(rotation: ArrayLike) -> Array:
    """Unit quaternion, scalar last and not negative. [..., 3, 3] -> [..., 4].

    Builds `4 q_i q` for the component i that is largest (Shepperd's choice), so that nothing small is divided by.
    """
    r = _rotation("rotation", rotation)
    r00, r11, r22 = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    x, y, z = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    rows = [
        [1 + r00 - r11 - r22, xy, xz, x],
        [xy, 1 - r00 + r11 - r22, yz, y],
        [xz, yz, 1 - r00 - r11 + r22, z],
        [x, y, z, 1 + r00 + r11 + r22],
    ]
    products = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    largest = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., 3:] < 0.0, -q, q)


def matrix_from_rot6d(rot6d: ArrayLike) -> Array:
    """Rotation matrix from two columns that need not be orthonormal (Gram-Schmidt). [..., 6] -> [..., 3, 3].

    Raises:
        ValueError: the two columns are (nearly) parallel or one of them is (nearly) zero.
    """
    columns = _vector("rot6d", rot6d, 6)
    first, second = columns[..., :3], columns[..., 3:]
    first_length = np.linalg.norm(first, axis=-1, keepdims=True)
    second_length = np.linalg.norm(second, axis=-1, keepdims=True)
    if np.any(first_length < 1e-9) or np.any(second_length < 1e-9):
        raise ValueError("rot6d needs two columns of non-zero length; got one that is zero")
    first, second = first / first_length, second / second_length
    third = np.cross(first, second)
    third_length = np.linalg.norm(third, axis=-1, keepdims=True)
    if np.any(third_length < 1e-6):
        raise ValueError("rot6d needs two columns that span a plane; got parallel ones")
    third = third / third_length
    return np.stack([first, np.cross(third, first), third], axis=-1)


def rot6d_from_matrix(rotation: ArrayLike) -> Array:
    """The first two columns of R, one after the other. [..., 3, 3] -> [..., 6]."""
    r = _rotation("rotation", rotation)
    return np.concatenate([r[..., :, 0], r[..., :, 1]], axis=-1)


def nearest_rotation(matrix: ArrayLike) -> Array:
    """The rotation nearest to a matrix in the sum of squares: U diag(1, 1, det(U V^T)) V^T. [..., 3, 3] -> [..., 3, 3].

    The special orthogonal Procrustes solution (Umeyama, 1991). Where several are equally near, such as for zero, it is one of
    them.
    """
    m = np.asarray(matrix, dtype=np.float64)
    if m.ndim < 2 or m.shape[-2:] != (3, 3):
        raise ValueError(f"matrix must have the shape [..., 3, 3]; got {list(m.shape)}")
    _check_finite("matrix", m)
    u, _, v_transposed = np.linalg.svd(m)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ v_transposed))[..., None]
    return u @ v_transposed


def transform(rotation: ArrayLike, position: ArrayLike) -> Array:
    """`T_a_b` from `R_a_b` and the position of b's origin in a (m). [..., 3, 3], [..., 3] -> [..., 4, 4]."""
    r = _rotation("rotation", rotation)
    p = _vector("position (m)", position, 3)
    result = np.zeros((*np.broadcast_shapes(r.shape[:-2], p.shape[:-1]), 4, 4))
    result[..., :3, :3] = r
    result[..., :3, 3] = p
    result[..., 3, 3] = 1.0
    return result


def compose(T_a_b: ArrayLike, T_b_c: ArrayLike) -> Array:
    """`T_a_c = T_a_b T_b_c`. Leading axes broadcast."""
    return _transform("T_a_b", T_a_b) @ _transform("T_b_c", T_b_c)


def inverse(T_a_b: ArrayLike) -> Array:
    """`T_b_a`, by transposing the rotation. [..., 4, 4] -> [..., 4, 4]."""
    t = _transform("T_a_b", T_a_b)
    r_transposed = np.swapaxes(t[..., :3, :3], -1, -2)
    return transform(r_transposed, -(r_transposed @ t[..., :3, 3:])[..., 0])


def se3_exp(tangent: ArrayLike) -> Array:
    """Transform of a tangent vector [translation (m), rotation (rad)]. [..., 6] -> [..., 4, 4].

    `exp([u, w]) = [exp(w), V(w) u]` with `V = I + B K + C K^2`, `B = (1 - cos a) / a^2`, `C = (a - sin a) / a^3`.
    """
    vector = _vector("tangent (m, rad)", tangent, 6)
    translation, axis_angle = vector[..., :3], vector[..., 3:]
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    square = angle**2
    is_small = angle < 0.1
    safe = np.where(is_small, 1.0, angle)
    series = 1 / 6 - square / 120 + square**2 / 5040 - square**3 / 362880
    c = np.where(is_small, series, (safe - np.sin(safe)) / safe**3)
    k = skew(axis_angle)
    v = np.eye(3) + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * k + c * (k @ k)
    return transform(so3_exp(axis_angle), (v @ translation[..., None])[..., 0])


def se3_log(T_a_b: ArrayLike) -> Array:
    """Tangent vector [translation (m), rotation (rad)] of a transform. [..., 4, 4] -> [..., 6].

    `V^-1 = I - K / 2 + D K^2` with `D = (1 - (a / 2) cot(a / 2)) / a^2`. The inverse of `se3_exp` for angles up to pi.
    """
    t = _transform("T_a_b", T_a_b)
    axis_angle = so3_log(t[..., :3, :3])
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    square = angle**2
    is_small = angle < 0.1
    safe = np.where(is_small, 1.0, angle)
    series = 1 / 12 + square / 720 + square**2 / 30240 + square**3 / 1209600
    d = np.where(is_small, series, (1.0 - 0.5 * safe / np.tan(0.5 * safe)) / safe**2)
    k = skew(axis_angle)
    v_inverse = np.eye(3) - 0.5 * k + d * (k @ k)
    return np.concatenate([(v_inverse @ t[..., :3, 3:])[..., 0], axis_angle], axis=-1)


def relative_pose(T_world_reference: ArrayLike, T_world_target: ArrayLike) -> Array:
    """A target pose as seen from a reference pose: [R0^T (p - p0) (m), Log(R0^T R) (rad)]. -> [..., 6].

    This is what XR-0 calls a relative action: every row of a chunk against the same reference. Position and rotation
    are taken apart (no `V^-1`), so this is not `se3_log` of the relative transform.
    """
    T_reference_target = compose(inverse(T_world_reference), T_world_target)
    return np.concatenate([T_reference_target[..., :3, 3], so3_log(T_reference_target[..., :3, :3])], axis=-1)


def absolute_pose(T_world_reference: ArrayLike, relative: ArrayLike) -> Array:
    """The inverse of `relative_pose`: `p = p0 + R0 delta`, `R = R0 Exp(delta_rotation)`. -> `T_world_target`."""
    vector = _vector("relative (m, rad)", relative, 6)
    return compose(T_world_reference, transform(so3_exp(vector[..., 3:]), vector[..., :3]))


def _vector(name: str, value: ArrayLike, size: int) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim < 1 or array.shape[-1] != size:
        raise ValueError(f"{name} must have the shape [..., {size}]; got {list(array.shape)}")
    _check_finite(name, array)
    return array


def _rotation(name: str, value: ArrayLike) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim < 2 or array.shape[-2:] != (3, 3):
        raise ValueError(f"{name} must have the shape [..., 3, 3]; got {list(array.shape)}")
    _check_finite(name, array)
    deviation = np.abs(np.swapaxes(array, -1, -2) @ array - np.eye(3))
    if np.any(deviation > ROTATION_TOLERANCE):
        raise ValueError(
            f"{name} must be orthonormal: max |R^T R - I| is {deviation.max():.3g}, allowed is {ROTATION_TOLERANCE}"
        )
    if np.any(np.linalg.det(array) < 0.0):
        raise ValueError(f"{name} must be a rotation (determinant +1); got a reflection (determinant -1)")
    return array


def _transform(name: str, value: ArrayLike) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim < 2 or array.shape[-2:] != (4, 4):
        raise ValueError(f"{name} must have the shape [..., 4, 4]; got {list(array.shape)}")
    _check_finite(name, array)
    if np.any(np.abs(array[..., 3, :] - np.array([0.0, 0.0, 0.0, 1.0])) > ROTATION_TOLERANCE):
        raise ValueError(
            f"{name} must have the last row [0, 0, 0, 1]; got {array[..., 3, :].reshape(-1, 4)[0].tolist()}"
        )
    _rotation(f"the rotation of {name}", array[..., :3, :3])
    return array


def _check_finite(name: str, array: Array) -> None:
    if not np.isfinite(array).all():
        where = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        raise ValueError(f"{name} must be finite; it holds {array[tuple(where)]} at index {where}")
