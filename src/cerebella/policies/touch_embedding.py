"""How far a reading lies from those of the training: the way to the nearest of some typical ones.

Distances are taken between readings themselves (roots of pressures, standardised joints), not between what the network makes
of them. Its tokens of a strange reading look like those of a usual one: they were trained to ignore, not to notice.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cerebella.types import FloatArray

FILE = "embedding.safetensors"
NUM_CENTRES = 256
_LEAST_PER_CENTRE = 8
_NUM_ROUNDS = 12
_MAX_COUNT = 255


@dataclass(frozen=True, eq=False)
class TouchEmbedding:
    """A reading to a vector whose length is its distance from the training.

    Args:
        centres: float32[k, d], typical readings; d = taxels + joints.
        joint_mean, joint_scale: float32[J] radians, scales above 0.

    Raises:
        ValueError: shapes do not fit together.
    """

    centres: FloatArray
    joint_mean: FloatArray
    joint_scale: FloatArray

    def __post_init__(self) -> None:
        num_joints = self.joint_mean.shape
        if self.centres.ndim != 2 or len(num_joints) != 1 or self.joint_scale.shape != num_joints:
            raise ValueError(
                f"centres must be float[k, d] and joint statistics float[J]; got {list(self.centres.shape)}, "
                f"{list(num_joints)} and {list(self.joint_scale.shape)}"
            )

    @classmethod
    def measure(
        cls,
        counts: NDArray[np.uint8],
        joints: FloatArray,
        joint_mean: FloatArray,
        joint_scale: FloatArray,
        seed: int = 0,
    ) -> "TouchEmbedding":
        """Centres of readings of the training, by k-means: counts uint8[n, F, R, C], joints float32[n, J] radians.

        Args:
            seed: decides where the search begins.

        Raises:
            ValueError: no reading.
        """
        if not len(counts):
            raise ValueError("need readings to measure an embedding; got none")
        empty = cls(np.zeros((0, 0), dtype=np.float32), joint_mean, joint_scale)
        readings = empty._vectors(counts, joints)
        num_centres = max(1, min(NUM_CENTRES, len(readings) // _LEAST_PER_CENTRE))
        chosen = np.random.default_rng(seed).choice(len(readings), num_centres, replace=False)
        centres = readings[chosen]
        for _ in range(_NUM_ROUNDS):
            nearest = _nearest(readings, centres)
            order = np.argsort(nearest, kind="stable")
            used, starts, sizes = np.unique(nearest[order], return_index=True, return_counts=True)
            centres[used] = np.add.reduceat(readings[order], starts, axis=0) / sizes[:, None]
        return cls(centres, joint_mean, joint_scale)

    def embed(self, counts: NDArray[np.uint8], joints: FloatArray) -> FloatArray:
        """The way from the nearest centre, float32[n, d]."""
        readings = self._vectors(counts, joints)
        return readings - self.centres[_nearest(readings, self.centres)]

    def save(self, directory: Path) -> None:
        """Write `embedding.safetensors`."""
        tensors = {"centres": self.centres, "joint_mean": self.joint_mean, "joint_scale": self.joint_scale}
        save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, directory / FILE)

    @classmethod
    def load(cls, directory: Path) -> "TouchEmbedding":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is damaged, or holds something else.
        """
        try:
            with safe_open(directory / FILE, framework="np") as file:
                return cls(*(file.get_tensor(name) for name in ("centres", "joint_mean", "joint_scale")))
        except (SafetensorError, ValueError) as error:
            raise ValueError(f"{directory / FILE} is damaged: {error}") from error

    def _vectors(self, counts: NDArray[np.uint8], joints: FloatArray) -> FloatArray:
        roots = np.sqrt(counts.reshape(len(counts), -1).astype(np.float32) / _MAX_COUNT)
        return np.concatenate([roots, (joints - self.joint_mean) / self.joint_scale], axis=1).astype(np.float32)


def _nearest(readings: FloatArray, centres: FloatArray) -> NDArray[np.intp]:
    """Index of the nearest centre of every reading."""
    return (np.square(centres).sum(axis=1) - 2 * readings @ centres.T).argmin(axis=1)
