"""Rotations as three numbers (axis_angle, rad) at the rate of commands: plain floats, exact down to the smallest angles.

`geometry` does the same for arrays of any shape, checks its input, and calls an angle below 1e-6 rad zero, as recorded data
needs it. Here a robot may turn by less than that in one tick, and a tick has no time for arrays. By unit quaternions.
"""

import math
from collections.abc import Sequence

Turn = tuple[float, float, float]
_Quaternion = tuple[float, float, float, float]


def between(start: Sequence[float], end: Sequence[float]) -> Turn:
    """The turn from `start` to `end` in the axes of `start`: Log(Exp(start)^T Exp(end)). Length 0..pi, rad.

    Exactly zero between the same numbers.
    """
    w, x, y, z = _quaternion(start)
    return _logarithm(_product((w, -x, -y, -z), _quaternion(end)))


def turned(start: Sequence[float], step: Sequence[float]) -> Turn:
    """`start`, then `step` in its axes: Exp(start) Exp(step), by the numbers nearest to `start`. rad."""
    return nearest(_logarithm(_product(_quaternion(start), _quaternion(step))), start)


def nearest(axis_angle: Sequence[float], reference: Sequence[float]) -> Turn:
    """Of all vectors that mean the rotation `axis_angle`, the one nearest to `reference`. rad.

    Bit for bit `axis_angle` if that is the nearest.
    """
    x, y, z = axis_angle
    angle = math.sqrt(x * x + y * y + z * z)
    if angle == 0.0:  # every direction will do: the reference's own
        x, y, z = reference
        length = math.sqrt(x * x + y * y + z * z)
        factor = round(length / math.tau) * math.tau / length if length else 0.0
        return x * factor, y * factor, z * factor
    along = (x * reference[0] + y * reference[1] + z * reference[2]) / angle
    num_turns = round((along - angle) / math.tau)
    if num_turns == 0:
        return x, y, z
    factor = 1.0 + num_turns * math.tau / angle
    return x * factor, y * factor, z * factor


def _quaternion(axis_angle: Sequence[float]) -> _Quaternion:
    x, y, z = axis_angle
    angle = math.sqrt(x * x + y * y + z * z)
    factor = math.sin(0.5 * angle) / angle if angle else 0.5
    return math.cos(0.5 * angle), x * factor, y * factor, z * factor


def _product(first: _Quaternion, second: _Quaternion) -> _Quaternion:
    a, b, c, d = first
    w, x, y, z = second
    return (  # in pairs, so that what cancels between a rotation and itself cancels to zero
        a * w - b * x - c * y - d * z,
        (a * x + b * w) + (c * z - d * y),
        (a * y + c * w) + (d * x - b * z),
        (a * z + d * w) + (b * y - c * x),
    )


def _logarithm(quaternion: _Quaternion) -> Turn:
    w, x, y, z = quaternion
    sine = math.sqrt(x * x + y * y + z * z)
    if sine == 0.0:
        return 0.0, 0.0, 0.0
    factor = 2.0 * (math.atan2(sine, w) if w >= 0.0 else -math.atan2(sine, -w)) / sine
    return x * factor, y * factor, z * factor
