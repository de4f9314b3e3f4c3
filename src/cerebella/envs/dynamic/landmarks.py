"""What a picture of a task shows and where, from the simulator's truth: for teaching a brain to see before it acts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cerebella.envs.dynamic.planar import LENGTH_M, WIDTH_M
from cerebella.types import BoolArray, FloatArray, SceneTruth


@dataclass(frozen=True, eq=False)
class Landmarks:
    """K things in each of N scenes.

    Args:
        position: float32[N, K, 2] metres. is_present: bool[N, K].
        class_index: int64[N, K] into `Task.landmark_names`, what kind of thing.
        target: int64[N], which of them the instruction is about now.
    """

    position: FloatArray
    is_present: BoolArray
    class_index: NDArray[np.int64]
    target: NDArray[np.int64]

    def in_picture(self, num_classes: int, width: int = 96) -> SceneTruth:
        """In pixels of a picture `width` pixels wide; present is what is inside it."""
        pixels_per_m = width / LENGTH_M
        pixel = (self.position * pixels_per_m).astype(np.float32)
        size = np.array([width, round(WIDTH_M * pixels_per_m)], dtype=np.float32)
        is_inside = ((pixel >= 0.0) & (pixel < size)).all(axis=-1)
        return SceneTruth(self.is_present & is_inside, self.class_index, pixel, self.target, num_classes)


def one_of_each(
    positions: Sequence[FloatArray], target: ArrayLike = 0, is_present: Sequence[ArrayLike] | None = None
) -> Landmarks:
    """Landmarks where thing k is of class k.

    Args:
        positions: K arrays float[N, 2] metres.
        target: int or int[N], which one the instruction is about.
        is_present: K times bool or bool[N]; all, if not given.
    """
    num_scenes, num_things = len(positions[0]), len(positions)
    presence = [True] * num_things if is_present is None else is_present
    return Landmarks(
        position=np.stack(positions, axis=1).astype(np.float32),
        is_present=np.stack([np.broadcast_to(np.asarray(each, np.bool_), num_scenes) for each in presence], axis=1),
        class_index=np.tile(np.arange(num_things, dtype=np.int64), (num_scenes, 1)),
        target=np.broadcast_to(np.asarray(target, dtype=np.int64), num_scenes).copy(),
    )
