"""Between the rows of a chunk: a smooth path for a control rate above the policy rate.

At a row the path is the row, bit for bit. In between it is a cubic whose slopes at the rows are the harmonic means of the
neighbouring differences (Fritsch and Carlson, SIAM J. Numer. Anal. 17, 1980): continuous in value and velocity, and never
beyond the two rows. Rotations of a pose do the same in the tangent space of the earlier row, so that they move on the
sphere, with a continuous angular velocity. Grippers are not interpolated: they keep the value of the last row.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Embodiment
from cerebella.geometry import nearest_axis_angle, skew, so3_exp, so3_log
from cerebella.types import FloatArray

Vector = NDArray[np.float64]


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
        """The target at `row`, float64[action_dim]; the first or last row outside 0..H-1."""
        row = min(max(row, 0.0), len(self.rows) - 1.0)
        index = int(row)
        fraction = row - index
        if fraction == 0.0:
            return self.rows[index].astype(np.float64)
        start, end = self.rows[index].astype(np.float64), self.rows[index + 1].astype(np.float64)
        first, last = self._slopes[index], self._slopes[index + 1]
        values = hermite(fraction, start, first, end, last)
        for triple in self._rotations:
            values[triple] = self._turned(fraction, start[triple], end[triple], first[triple], last[triple])
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
            matrices = so3_exp(self.rows[:, triple])
            steps[:, triple] = so3_log(np.swapaxes(matrices[:-1], -1, -2) @ matrices[1:])
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

    @staticmethod
    def _turned(fraction: float, start: Vector, end: Vector, first: Vector, last: Vector) -> Vector:
        """Between two rotations, with body angular velocities `first` and `last` (rad per row) at the ends."""
        start_matrix = so3_exp(start)
        whole = so3_log(start_matrix.T @ so3_exp(end))
        tangent = hermite(fraction, np.zeros(3), first, whole, _inverse_right_jacobian(whole) @ last)
        return nearest_axis_angle(so3_log(start_matrix @ so3_exp(tangent)), start)


def hermite(fraction: float, start: Vector, start_slope: Vector, end: Vector, end_slope: Vector) -> Vector:
    """The cubic with these values and slopes (per unit of `fraction`) at 0 and 1."""
    u = fraction
    return (
        (1 + 2 * u) * (1 - u) ** 2 * start
        + u * (1 - u) ** 2 * start_slope
        + u * u * (3 - 2 * u) * end
        + u * u * (u - 1) * end_slope
    )


def _inverse_right_jacobian(axis_angle: Vector) -> Vector:
    """d Log(Exp(x) Exp(w)) / d w at w = 0 (Sola et al., arXiv 1812.01537, eq. 144). [3] -> [3, 3]."""
    angle = float(np.linalg.norm(axis_angle))
    cross = skew(axis_angle)
    if angle < 1e-4:
        return np.eye(3) + 0.5 * cross + cross @ cross / 12.0
    factor = 1.0 / angle**2 - (1.0 + np.cos(angle)) / (2.0 * angle * np.sin(angle))
    return np.eye(3) + 0.5 * cross + factor * cross @ cross
