"""Sets of grasps on disk: one file per object and shard number, and a manifest that says what is in them.

A shard is finished when the manifest lists it. Both appear whole or not at all; a file that is not listed is made again.
The files are plain `.npz`:

    forces         float16[n, 5, 11, 9]  newtons
    joints         float32[n, 11]        radians
    tip_forces     float32[n, 5]         newtons
    T_wrist_object float32[n, 4, 4]      metres
    motions        float32[n, 4]         m, m, rad, rad; columns as in `sampling.MOTIONS`
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cerebella.data.lerobot_files import replace_file, write_json_file
from cerebella.touch.grasp import CONTACT_N, NUM_COLUMNS, NUM_FINGERS, NUM_JOINTS, NUM_ROWS
from cerebella.touch.sampling import MOTIONS
from cerebella.types import FloatArray

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
HELD_OUT_EVERY = 10
"""Shards 0, 10, 20, ... of every object are held out, whatever the size of the set."""
Part = Literal["all", "train", "held_out"]
_ROWS: Mapping[str, tuple[type[np.floating], tuple[int, ...]]] = {
    "forces": (np.float16, (NUM_FINGERS, NUM_ROWS, NUM_COLUMNS)),
    "joints": (np.float32, (NUM_JOINTS,)),
    "tip_forces": (np.float32, (NUM_FINGERS,)),
    "T_wrist_object": (np.float32, (4, 4)),
    "motions": (np.float32, (len(MOTIONS),)),
}


@dataclass(frozen=True, eq=False)
class GraspArrays:
    """Grasps of one object by one hand, as a shard has them; see the module for shapes and units."""

    forces: NDArray[np.float16]
    joints: FloatArray
    tip_forces: FloatArray
    T_wrist_object: FloatArray
    motions: FloatArray


@dataclass(frozen=True, eq=False)
class GraspSet:
    """Grasps in memory, about 1.2 kB each. Grasps of one shard are neighbours, shards of one object too.

    Args:
        objects: their names.
        starts: int64[num_shards + 1]; shard i holds the rows `starts[i]:starts[i + 1]`.
        object_of_shard: int64[num_shards], an index into `objects`.
        arrays: all rows.
    """

    objects: tuple[str, ...]
    starts: NDArray[np.int64]
    object_of_shard: NDArray[np.int64]
    arrays: GraspArrays

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def object_index(self) -> NDArray[np.int64]:
        """int64[n], an index into `objects` per grasp."""
        return np.repeat(self.object_of_shard, np.diff(self.starts))

    @property
    def num_bytes(self) -> int:
        """Memory that the arrays take."""
        return sum(getattr(self.arrays, field.name).nbytes for field in fields(self.arrays))

    def describe(self) -> str:
        """One line per object: grasps, shards, mean number of fingers in contact; and a line about all."""
        num_fingers = (self.arrays.forces.sum(axis=(2, 3), dtype=np.float32) >= CONTACT_N).sum(axis=1)
        index, lines = self.object_index, []
        for i, name in enumerate(self.objects):
            mine, shards = index == i, int((self.object_of_shard == i).sum())
            lines.append(f"{name}: {mine.sum()} grasps in {shards} shards, {num_fingers[mine].mean():.2f} fingers")
        total = f"{len(self)} grasps of {len(self.objects)} objects, {self.num_bytes / 1e6:.0f} MB"
        return "\n".join([*lines, total])


def shard_name(object_name: str, number: int) -> str:
    """What the manifest calls a shard, and its file without the suffix."""
    return f"{object_name}-{number:04d}"


def write_shard(directory: Path, name: str, arrays: GraspArrays) -> None:
    """Write one shard whole or not at all. The bytes depend on nothing but the arrays."""
    content = {key: getattr(arrays, key) for key in _ROWS}

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **content)

    replace_file(directory / f"{name}.npz", write)


def read_shard(directory: Path, name: str) -> GraspArrays:
    """One shard.

    Raises:
        ValueError: the file is missing or damaged.
    """
    path = directory / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {key: file[key] for key in _ROWS}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(
            f"{path} is missing or damaged ({error}); delete it, and `touch data` makes it again"
        ) from error
    for key, (dtype, shape) in _ROWS.items():
        if content[key].dtype != dtype or content[key].shape[1:] != shape:
            raise ValueError(
                f"{path}: {key} is {content[key].dtype}{list(content[key].shape)}; wanted n x {list(shape)}"
            )
    return GraspArrays(**content)


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """`schema_version`, `settings` and `shards` of a set; None if nothing has been written there.

    Raises:
        ValueError: it is no manifest, or one of another version.
    """
    path = directory / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["schema_version"]
        assert isinstance(manifest["settings"], dict)
        assert isinstance(manifest["shards"], dict)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"{path} is no manifest of grasps ({error})") from error
    if version != SCHEMA_VERSION:
        raise ValueError(f"{path} has schema_version {version}; this version reads {SCHEMA_VERSION}")
    return manifest


def write_manifest(directory: Path, settings: Mapping[str, Any], shards: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the manifest; shards in the order of their names."""
    ordered = {name: shards[name] for name in sorted(shards)}
    write_json_file(
        directory / MANIFEST, {"schema_version": SCHEMA_VERSION, "settings": dict(settings), "shards": ordered}
    )


def load_grasps(directory: Path, part: Part = "all", objects: Sequence[str] | None = None) -> GraspSet:
    """Read every finished shard of a set, or of a part of it, into memory.

    Args:
        part: `held_out`: shards 0, 10, 20, ... of every object; `train`: the others. A shard has a hand of its own, so
            held-out grasps come from hands that training has not seen.
        objects: None means all that the set has.

    Raises:
        ValueError: no set, an object that it lacks, an empty part, a damaged shard.
    """
    if part not in get_args(Part):
        raise ValueError(f"unknown part {part!r} of a set; known: {', '.join(get_args(Part))}")
    manifest = read_manifest(directory)
    if manifest is None:
        raise ValueError(f"{directory} holds no grasps: it has no {MANIFEST}")
    shards = manifest["shards"]
    known = sorted({entry["object"] for entry in shards.values()})
    names = list(objects) if objects is not None else known
    if not known:
        raise ValueError(f"{directory} holds no finished shard yet")
    if lacking := sorted(set(names) - set(known)):
        raise ValueError(f"{directory} has no grasps of {', '.join(lacking)}; it has: {', '.join(known)}")
    chosen = [
        name
        for wanted in names
        for name, entry in sorted(shards.items())
        if entry["object"] == wanted
        and (part == "all" or (entry["number"] % HELD_OUT_EVERY == 0) == (part == "held_out"))
    ]
    if lacking := sorted(set(names) - {shards[name]["object"] for name in chosen}):
        raise ValueError(
            f"the part {part!r} of {directory} has no grasps of {', '.join(lacking)}; it takes 2 or more shards per object"
        )
    return _join(directory, tuple(names), chosen, shards)


def _join(directory: Path, objects: tuple[str, ...], chosen: Sequence[str], shards: Mapping[str, Any]) -> GraspSet:
    """Read shards straight into arrays of the final size, so that nothing is held twice."""
    starts = np.concatenate([[0], np.cumsum([shards[name]["num_kept"] for name in chosen])]).astype(np.int64)
    arrays = GraspArrays(**{key: np.empty((int(starts[-1]), *shape), dtype) for key, (dtype, shape) in _ROWS.items()})
    for name, start, end in zip(chosen, starts[:-1], starts[1:], strict=True):
        shard = read_shard(directory, name)
        if len(shard.joints) != end - start:
            raise ValueError(f"{directory / name}.npz has {len(shard.joints)} grasps; the manifest says {end - start}")
        for key in _ROWS:
            getattr(arrays, key)[start:end] = getattr(shard, key)
    object_of_shard = np.array([objects.index(shards[name]["object"]) for name in chosen], dtype=np.int64)
    return GraspSet(objects, starts, object_of_shard, arrays)
