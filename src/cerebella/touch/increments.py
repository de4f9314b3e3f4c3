"""A wrist increment as twelve numbers: the rotation matrix row by row, then the translation in metres; and their spread."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cerebella.embodiment import read_json_object
from cerebella.geometry import Array
from cerebella.types import FloatArray

INCREMENT_NAMES: tuple[str, ...] = (
    *(f"r{row}{column}" for row in range(3) for column in range(3)),
    "x_m",
    "y_m",
    "z_m",
)
SMALLEST_STD: FloatArray = np.array([1e-3] * 9 + [1e-4] * 3, dtype=np.float32)
"""float32[12]: a number that spreads less is divided by this instead; entries of a matrix, and metres."""


def increment_numbers(T_wrist_next: Array) -> FloatArray:
    """The twelve numbers of a transform: float64[..., 4, 4] -> float32[..., 12]."""
    rotation = T_wrist_next[..., :3, :3].reshape(*T_wrist_next.shape[:-2], 9)
    return np.concatenate([rotation, T_wrist_next[..., :3, 3]], axis=-1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class IncrementNormalizer:
    """Mean and spread of the twelve numbers; a network predicts them in these units.

    Args:
        mean, std: float32[12], in the order of `INCREMENT_NAMES`; no std below `SMALLEST_STD`.

    Raises:
        ValueError: a wrong shape, a number that is not finite, a std that is too small.
    """

    mean: FloatArray
    std: FloatArray

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values.shape != (len(INCREMENT_NAMES),) or not np.isfinite(values).all():
                raise ValueError(
                    f"IncrementNormalizer.{name} must be 12 finite numbers; got shape {list(values.shape)}"
                )
        if (self.std < SMALLEST_STD).any():
            raise ValueError(
                f"IncrementNormalizer.std must be {SMALLEST_STD.tolist()} or more; got {self.std.tolist()}"
            )

    def normalize(self, increments: FloatArray) -> FloatArray:
        """float32[..., 12] -> the same in units of the spread."""
        return (increments - self.mean) / self.std

    def denormalize(self, normalized: FloatArray) -> FloatArray:
        """The inverse of `normalize`."""
        return normalized * self.std + self.mean

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        content = {"names": INCREMENT_NAMES, "mean": self.mean.tolist(), "std": self.std.tolist()}
        path.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "IncrementNormalizer":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file. ValueError: not twelve numbers of each kind, in this order.
        """
        content = read_json_object(path)
        if content.get("names") != list(INCREMENT_NAMES):
            raise ValueError(f"{path}: names must be {', '.join(INCREMENT_NAMES)}; got {content.get('names')}")
        try:
            return cls(*(np.asarray(content[name], dtype=np.float32) for name in ("mean", "std")))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
