"""Between the rows of a chunk: a smooth path for a control rate above the policy rate.

At a row the path is the row, bit for bit. In between it is a cubic whose slopes at the rows are the harmonic means of the
neighbouring differences (Fritsch and Carlson, SIAM J. Numer. Anal. 17, 1980): continuous in value and velocity, and never
beyond the two rows. Rotations of a pose do the same in the tangent space of the earlier row, so that they move on the
sphere, with a continuous angular velocity. Grippers are not interpolated: they keep the value of the last row.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Embodiment
from cerebella.runtime import turns
from cerebella.runtime.turns import Turn
from cerebella.types import FloatArray

Vector = NDArray[np.float64]
Value = TypeVar("Value", float, Vector)

_SAME_ROW = 1e-8


class Path:
    """Rows of absolute targets as a function of the row, which may be a fraction.

    Args:
        rows: float32[H, action_dim], raw units.
        embodiment: which numbers are grippers, and which three are a rotation.
    """

    def __init__(self, rows: FloatArray, embodiment: Embodiment) -> None:
        self.rows = rows
        self._grippers = [j for j, action in enumerate(embodiment.actions) if action.kind == "gripper"]
        self._rotations = [[embodiment.action_index(name) for name in pose.rotation] for pose in embodiment.poses]

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, row: float) -> Vector:
        """The target at `row` (see `whole`), float64[action_dim]; the first or last row outside 0..H-1."""
        row = whole(min(max(row, 0.0), len(self.rows) - 1.0))
        index = int(row)
        fraction = row - index
        if fraction == 0.0:
            return self.rows[index].astype(np.float64)
        start, end = self.rows[index].astype(np.float64), self.rows[index + 1].astype(np.float64)
        first, last = self._slopes[index], self._slopes[index + 1]
        values = hermite(fraction, start, first, end, last)
        for triple in self._rotations:
            values[triple] = self._turned(index, fraction, triple)
        values[self._grippers] = start[self._grippers]
        return values

    @cached_property
    def largest_steps(self) -> Vector:
        """Largest difference between successive rows, float64[action_dim]; of a rotation in the axes of the gripper."""
        if len(self.rows) == 1:
            return np.zeros(self.rows.shape[1])
        steps = np.abs(self._steps).max(axis=0)
        steps[self._grippers] = 0.0
        return steps

    @cached_property
    def _steps(self) -> Vector:
        steps = np.diff(self.rows.astype(np.float64), axis=0)
        for triple in self._rotations:
            numbers = self.rows[:, triple].tolist()
            for i in range(len(steps)):
                steps[i, triple] = turns.between(numbers[i], numbers[i + 1])
        return steps

    @cached_property
    def _slopes(self) -> Vector:
        """Velocity at every row, per row: float64[H, action_dim]."""
        steps = self._steps
        before, after = steps[:-1], steps[1:]
        is_monotone = before * after > 0
        total = np.where(is_monotone, before + after, 1.0)
        inner = np.where(is_monotone, 2.0 * before * after / total, 0.0)
        return np.concatenate([steps[:1], inner, steps[-1:]])

    def _turned(self, row: int, fraction: float, triple: list[int]) -> Turn:
        """Between two rotations: a cubic in the tangent space of the earlier one, with the angular velocities of both."""
        whole, first, last = (values[triple].tolist() for values in (self._steps[row], *self._slopes[row : row + 2]))
        slope = _carried_back(whole, last)
        tangent = [hermite(fraction, 0.0, first[i], whole[i], slope[i]) for i in range(3)]
        return turns.turned(self.rows[row, triple].tolist(), tangent)


def whole(row: float) -> float:
    """The row itself; or the nearest whole row, if nothing but rounding is between them.

    Rows are differences of times that grow for hours, and just before a row a gripper still has the value of the last one.
    """
    nearest = float(round(row))
    return nearest if abs(row - nearest) < _SAME_ROW else row


def hermite(fraction: float, start: Value, start_slope: Value, end: Value, end_slope: Value) -> Value:
    """The cubic with these values and slopes (per unit of `fraction`) at 0 and 1."""
    u = fraction
    return (
        start
        + u * u * (3.0 - 2.0 * u) * (end - start)
        + u * (1.0 - u) ** 2 * start_slope
        - u * u * (1.0 - u) * end_slope
    )


def _carried_back(turn: list[float], velocity: list[float]) -> Turn:
    """How the tangent vector `turn` changes while the rotation Exp(turn) turns with `velocity` in its own axes.

    The inverse of the right Jacobian (Sola et al., arXiv 1812.01537, eq. 144).
    """
    angle = math.sqrt(sum(x * x for x in turn))
    factor = 1.0 / 12.0
    if angle > 1e-4:
        factor = 1.0 / angle**2 - (1.0 + math.cos(angle)) / (2.0 * angle * math.sin(angle))
    once = _cross(turn, velocity)
    twice = _cross(turn, once)
    x, y, z = (v + 0.5 * a + factor * b for v, a, b in zip(velocity, once, twice, strict=True))
    return x, y, z


def _cross(a: Sequence[float], b: Sequence[float]) -> Turn:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
