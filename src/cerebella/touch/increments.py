"""A wrist increment, or any pose, as twelve numbers: the rotation matrix row by row, then the translation in metres."""

import numpy as np

from cerebella.geometry import Array
from cerebella.types import FloatArray


def increment_numbers(T_wrist_next: Array) -> FloatArray:
    """The twelve numbers of a transform: float64[..., 4, 4] -> float32[..., 12]."""
    rotation = T_wrist_next[..., :3, :3].reshape(*T_wrist_next.shape[:-2], 9)
    return np.concatenate([rotation, T_wrist_next[..., :3, 3]], axis=-1).astype(np.float32)
