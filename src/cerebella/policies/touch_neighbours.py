"""The baseline without learning: look both grasps up among remembered ones, and take the difference of their poses."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cerebella.geometry import Array, compose, inverse
from cerebella.types import FloatArray


class TouchNeighbours:
    """A predictor like `TouchPolicy`, by nearest neighbours.

    A grasp becomes one vector: its counts, and its joints, each scaled so that over the bank both parts spread by 1 in all.
    Both neighbours of a pair are of one object: that with the smallest sum of squared distances. It knows no more of an object
    than its remembered grasps.

    Args:
        counts: uint8[n, F, R, C] of the bank. joints: float32[n, J] radians.
        T_wrist_object: float64[n, 4, 4] metres, where the object was.
        object_index: int64[n], which object it was; each needs 2 or more grasps.

    Raises:
        ValueError: different lengths, or an object with a single grasp.
    """

    def __init__(
        self,
        counts: NDArray[np.uint8],
        joints: FloatArray,
        T_wrist_object: Array,
        object_index: NDArray[np.int64],
    ) -> None:
        lengths = {len(counts), len(joints), len(T_wrist_object), len(object_index)}
        _, self._starts, sizes = np.unique(np.sort(object_index), return_index=True, return_counts=True)
        if len(lengths) > 1 or sizes.size == 0 or sizes.min() < 2:
            raise ValueError(
                f"a bank needs as many counts, joints, poses and indices, and 2 or more grasps of every object; got "
                f"{sorted(lengths)} rows, {sizes.tolist()} per object"
            )
        order = np.argsort(object_index, kind="stable")
        self._T = np.asarray(T_wrist_object, dtype=np.float64)[order]
        pressures, joints = _flat(counts)[order], joints[order].astype(np.float32)
        self._scales = tuple(max(float(np.sqrt(x.var(axis=0).sum())), 1e-6) for x in (pressures, joints))
        self._joint_mean = joints.mean(axis=0)
        self._bank = self._vectors(pressures, joints)
        self._squares = np.square(self._bank).sum(axis=1)
        nearest = [self._to_another(row) for row in range(0, len(self._bank), max(1, len(self._bank) // 500))]
        self.calibration: Mapping[str, float] = {"distance_limit": float(np.quantile(nearest, 0.999))}

    def predict(
        self,
        counts: NDArray[np.uint8],
        joints: FloatArray,
        goal_counts: NDArray[np.uint8],
        goal_joints: FloatArray,
    ) -> Array:
        """See `TouchPolicy.predict`."""
        now, goal = (
            self._squared_distances(self._vector(*grasp)) for grasp in ((counts, joints), (goal_counts, goal_joints))
        )
        totals = np.minimum.reduceat(now, self._starts) + np.minimum.reduceat(goal, self._starts)
        which = int(totals.argmin())
        end = self._starts[which + 1] if which + 1 < len(self._starts) else len(self._bank)
        rows = slice(int(self._starts[which]), int(end))
        T_now, T_goal = (self._T[rows][int(distances[rows].argmin())] for distances in (now, goal))
        return compose(T_now, inverse(T_goal))

    def embedding(self, counts: NDArray[np.uint8], joints: FloatArray) -> FloatArray:
        """The way to the nearest remembered grasp, float32[d]; its length is the distance."""
        vector = self._vector(counts, joints)
        return vector - self._bank[int(self._squared_distances(vector).argmin())]

    def _vector(self, counts: NDArray[np.uint8], joints: FloatArray) -> FloatArray:
        return self._vectors(_flat(counts[None]), joints[None])[0]

    def _vectors(self, pressures: FloatArray, joints: FloatArray) -> FloatArray:
        parts = [pressures / self._scales[0], (joints - self._joint_mean) / self._scales[1]]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _squared_distances(self, vector: FloatArray) -> FloatArray:
        """float32[n] to every row of the bank; negative ones by rounding become 0."""
        return np.maximum(self._squares - 2 * self._bank @ vector + vector @ vector, 0.0)

    def _to_another(self, row: int) -> float:
        """From a row to the nearest other one."""
        distances = self._squared_distances(self._bank[row])
        distances[row] = np.inf
        return float(np.sqrt(distances.min()))


def _flat(counts: NDArray[np.uint8]) -> FloatArray:
    return (counts.reshape(len(counts), -1) / 255).astype(np.float32)
