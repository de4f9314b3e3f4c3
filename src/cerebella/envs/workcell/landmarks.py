"""Where everything is in every picture of a demonstration, as data: for teaching a brain to see before it acts.

`landmark_recorder.LandmarkRecorder` writes it down. It travels as a NumPy archive, and needs no simulator.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cerebella.types import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Landmarks:
    """K things in the pictures of V cameras, in each of the T rows of an episode.

    A thing that changes its kind or colour is another one from then on: a towel that is folded, a body that comes onto the
    belt again as another part. So names may occur more than once.

    Args:
        views: V names, in the order of the embodiment. size_px: (height, width) of the pictures.
        names, kind, colour: of each thing, str[K], as in the task's `truth`.
        pixel: float32[T, V, K, 2], (u to the right, v down) of the thing's middle, the upper left corner of the picture is
            (0, 0). May lie outside the picture; 0 for what is behind the camera or not in the scene.
        is_inside: bool[T, V, K], in the scene, in front of the camera and inside the picture. Something may hide it.
        named: bool[T, K], the instruction is about it, and it still has to be handled.
        next: int16[T], which of these comes next; -1 if none does.

    Raises:
        ValueError: shapes or types that do not belong together.
    """

    views: tuple[str, ...]
    size_px: tuple[int, int]
    names: NDArray[np.str_]
    kind: NDArray[np.str_]
    colour: NDArray[np.str_]
    pixel: FloatArray
    is_inside: BoolArray
    named: BoolArray
    next: NDArray[np.int16]

    def __post_init__(self) -> None:
        """Check."""
        num_rows, num_views, num_things = len(self.next), len(self.views), len(self.names)
        wanted = {
            "kind": ("U", (num_things,)),
            "colour": ("U", (num_things,)),
            "pixel": ("f", (num_rows, num_views, num_things, 2)),
            "is_inside": ("b", (num_rows, num_views, num_things)),
            "named": ("b", (num_rows, num_things)),
            "next": ("i", (num_rows,)),
        }
        for name, (kind, shape) in wanted.items():
            found: NDArray[np.generic] = getattr(self, name)
            if found.dtype.kind != kind or found.shape != shape:
                raise ValueError(f"{name} must be of kind {kind!r} and shape {shape}; got {found.dtype}{found.shape}")
        if num_rows and not -1 <= self.next.min() <= self.next.max() < num_things:
            raise ValueError(f"next must be in -1..{num_things - 1}; got {self.next.min()}..{self.next.max()}")

    def save(self, path: Path) -> None:
        """Write a NumPy archive (.npz); the same landmarks make the same bytes."""
        content: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        with path.open("wb") as file:
            np.savez_compressed(file, **content)

    @classmethod
    def load(cls, path: Path) -> "Landmarks":
        """What `save` wrote.

        Raises:
            FileNotFoundError: no such file. ValueError: something else is in it.
        """
        with np.load(path) as content:
            if missing := {field.name for field in fields(cls)} - set(content.files):
                raise ValueError(f"{path} holds no landmarks: {', '.join(sorted(missing))} missing")
            height, width = content["size_px"].tolist()
            views = tuple(content["views"].tolist())
            rest = {field.name: content[field.name] for field in fields(cls)[2:]}
        return cls(views, (height, width), **rest)
