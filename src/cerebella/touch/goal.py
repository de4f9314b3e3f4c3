"""The goal: one demonstrated grasp, kept in a file. Nothing is trained for it.

The file is JSON, so that it can be read and compared by eye (about 3 kB):

    {"schema": "cerebella.touch.goal", "schema_version": 1, "object_name": ..., "created_utc": ..., "policy_id": ...,
     "fingers": [5 names], "joint_names": [11 names], "counts": [5][11][9], "joints_rad": [11], "T_world_wrist": [4][4]}
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cerebella.embodiment import read_json_object
from cerebella.geometry import Array, inverse
from cerebella.touch.grasp import FINGERS, JOINTS
from cerebella.touch.reading import COUNTS_SHAPE, MAX_COUNT, Reading

SCHEMA, SCHEMA_VERSION = "cerebella.touch.goal", 1
MAX_JOINT_SPREAD_RAD = 0.05
"""Readings whose joints differ by more are not of one held grasp."""
_FIELDS = ("object_name", "created_utc", "policy_id", "fingers", "joint_names", "counts", "joints_rad", "T_world_wrist")


@dataclass(frozen=True, eq=False)
class Goal:
    """The grasp that a refinement should reach.

    Args:
        reading: what the hand felt.
        T_world_wrist: float64[4, 4] metres, where the wrist was. For the record: the object may lie elsewhere next time.
        object_name: what was held, in any words.
        created_utc: ISO 8601 with its offset, as `datetime.isoformat` writes it.
        policy_id: the refiner it is meant for; empty if any.

    Raises:
        ValueError: no rigid transform, an empty name, or no date with an offset.
    """

    reading: Reading
    T_world_wrist: Array
    object_name: str
    created_utc: str
    policy_id: str = ""

    def __post_init__(self) -> None:
        inverse(self.T_world_wrist)  # raises unless it is rigid
        if np.shape(self.T_world_wrist) != (4, 4):
            raise ValueError(f"Goal.T_world_wrist must be one pose, [4, 4]; got {list(np.shape(self.T_world_wrist))}")
        if not isinstance(self.object_name, str) or not self.object_name.strip():
            raise ValueError(f"Goal.object_name must say what was held; got {self.object_name!r}")
        if not isinstance(self.policy_id, str):
            raise ValueError(f"Goal.policy_id must be text; got {self.policy_id!r}")
        if not isinstance(self.created_utc, str) or _offset(self.created_utc) is None:
            raise ValueError(
                f"Goal.created_utc must be a date with its offset, like 2026-01-31T12:00:00+00:00; "
                f"got {self.created_utc!r}"
            )

    @classmethod
    def from_readings(
        cls, readings: Sequence[Reading], T_world_wrist: Array, object_name: str, policy_id: str = ""
    ) -> "Goal":
        """One demonstration, created now: the mean of several readings of one held grasp (less noise than one alone).

        Raises:
            ValueError: no reading, or the hand moved between two of them.
        """
        if not readings:
            raise ValueError("a goal needs 1 reading or more; got none")
        joints = np.stack([reading.joints for reading in readings])
        spread = np.ptp(joints, axis=0)
        if spread.max() > MAX_JOINT_SPREAD_RAD:
            raise ValueError(
                f"the readings are not of one held grasp: {JOINTS[int(spread.argmax())]} moved by {spread.max():.3f} rad, "
                f"allowed are {MAX_JOINT_SPREAD_RAD} rad"
            )
        counts = np.stack([reading.counts for reading in readings]).astype(np.float64).mean(axis=0)
        mean = Reading(np.rint(counts).astype(np.uint8), joints.mean(axis=0, dtype=np.float64).astype(np.float32))
        return cls(mean, T_world_wrist, object_name, datetime.now(UTC).isoformat(timespec="seconds"), policy_id)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads them back."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "object_name": self.object_name,
            "created_utc": self.created_utc,
            "policy_id": self.policy_id,
            "fingers": list(FINGERS),
            "joint_names": list(JOINTS),
            "counts": self.reading.counts.tolist(),
            "joints_rad": self.reading.joints.tolist(),
            "T_world_wrist": np.asarray(self.T_world_wrist).tolist(),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any], source: str) -> "Goal":
        """What `to_dict` gave; `source` says in errors where it came from.

        Raises:
            ValueError: another schema or version, a field missing, unknown or wrong.
        """
        if (fields.get("schema"), fields.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
            raise ValueError(
                f"{source} is not a goal of touch: it has the schema {fields.get('schema')!r}, version "
                f"{fields.get('schema_version')!r}; this reads {SCHEMA!r}, version {SCHEMA_VERSION}"
            )
        found, wanted = fields.keys() - {"schema", "schema_version"}, set(_FIELDS)
        if found != wanted:
            raise ValueError(
                f"{source} is not a goal of touch: missing fields: {', '.join(sorted(wanted - found)) or 'none'}; "
                f"unknown fields: {', '.join(sorted(found - wanted)) or 'none'}"
            )
        try:
            for name, names in (("fingers", FINGERS), ("joint_names", JOINTS)):
                if fields[name] != list(names):
                    raise ValueError(f"{name} must be {', '.join(names)} in this order; got {fields[name]}")
            reading = read_reading(fields["counts"], fields["joints_rad"])
            T_world_wrist = numbers("T_world_wrist (m)", fields["T_world_wrist"], (4, 4))
            return cls(reading, T_world_wrist, *(fields[name] for name in _FIELDS[:3]))
        except ValueError as error:
            raise ValueError(f"{source} is not a goal of touch: {error}") from error

    def save(self, path: Path | str) -> None:
        """Write the file."""
        Path(path).write_text(json.dumps(self.to_dict()) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "Goal":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file. ValueError: see `from_dict`; names the file.
        """
        return cls.from_dict(read_json_object(path), str(path))


def read_reading(counts: Any, joints_rad: Any) -> Reading:
    """A reading from plain JSON lists.

    Raises:
        ValueError: a wrong shape, or a number that is no count or no joint.
    """
    values = numbers("counts", counts, COUNTS_SHAPE)
    if (values != np.rint(values)).any() or values.min() < 0 or values.max() > MAX_COUNT:
        raise ValueError(f"counts must be whole numbers 0..{MAX_COUNT}; got {values.min():g}..{values.max():g}")
    return Reading(values.astype(np.uint8), numbers("joints_rad", joints_rad, (len(JOINTS),)).astype(np.float32))


def numbers(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """A nested list from JSON as float64 of this shape.

    Raises:
        ValueError: ragged, not numbers, not finite, or another shape.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be numbers of the shape {list(shape)}; got lists of unequal lengths") from error
    if array.dtype.kind not in "if" or array.shape != shape:
        raise ValueError(f"{name} must be numbers of the shape {list(shape)}; got {array.dtype}{list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array.astype(np.float64)


def _offset(date: str) -> object | None:
    try:
        return datetime.fromisoformat(date).utcoffset()
    except ValueError:
        return None
