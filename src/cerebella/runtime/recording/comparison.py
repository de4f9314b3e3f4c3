"""Are two records the same, bit by bit, and if not, in which field first?"""

from collections.abc import Collection
from dataclasses import fields
from typing import Any

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.types import FloatArray

TIMES = ("sent_s", "submitted_s", "duration_s")
"""Fields that differ between two runs on the wall clock."""


def same_bits(ours: FloatArray, theirs: FloatArray) -> bool:
    """Equal shape and equal bits: 0 and -0 differ, NaN equals itself."""
    return ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()


def different_fields(ours: Any, theirs: Any, ignored: Collection[str] = ()) -> list[str]:
    """Names of the fields in which two records of one class differ."""
    names = [field.name for field in fields(ours) if field.name not in ignored]
    return [name for name in names if not _is_same(getattr(ours, name), getattr(theirs, name))]


def describe(name: str, ours: Any, theirs: Any, embodiment: Embodiment) -> str:
    """One field of two records in words; of a vector of actions the first entry that differs, with its name and unit."""
    if not isinstance(ours, np.ndarray):
        return f"{name} is {ours!r} against {theirs!r}"
    if ours.shape != theirs.shape:
        return f"{name} has the shape {list(ours.shape)} against {list(theirs.shape)}"
    first, second = (np.atleast_2d(np.ascontiguousarray(array)).view(np.uint32) for array in (ours, theirs))
    row, column = (int(i) for i in np.argwhere(first != second)[0])
    dimension = embodiment.actions[column]
    ours, theirs = np.atleast_2d(ours), np.atleast_2d(theirs)
    where = f"row {row}, " if len(ours) > 1 else ""
    return (
        f"{name} of {where}{dimension.name} is {ours[row, column]!r} against {theirs[row, column]!r} {dimension.unit}"
    ).replace("np.float32", "")


def _is_same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        return same_bits(ours, theirs)
    return bool(ours == theirs)
