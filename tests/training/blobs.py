"""Grasps made on the spot: a blob of force per finger, whose place, spread and height say where the object is."""

from pathlib import Path

import numpy as np

from cerebella.geometry import se3_exp
from cerebella.touch.grasp import NUM_COLUMNS, NUM_FINGERS, NUM_JOINTS, NUM_ROWS
from cerebella.touch.grasp_shards import GraspArrays, GraspSet, shard_name, write_manifest, write_shard
from cerebella.touch.sampling import MOTIONS
from cerebella.touch.sensor import SENSORS

OBJECTS = ("plate_5x110x50", "rod_8x120")
NOMINAL = SENSORS["nominal"]
_FINGER_PLACE = np.linspace(-1.0, 1.0, NUM_FINGERS)


def blob_arrays(num: int, seed: int, sharpness: float = 1.0) -> GraspArrays:
    """Objects turned about x and y and shifted along y and z; `sharpness` tells one object from another."""
    rng = np.random.default_rng(seed)
    turn_x, turn_y = rng.uniform(-0.15, 0.15, (2, num, 1, 1, 1))
    y_m, z_m = rng.uniform(-4e-3, 4e-3, (2, num, 1, 1, 1))
    place = _FINGER_PLACE[:, None, None]
    rows = np.arange(NUM_ROWS)[:, None] - 5 + 1e3 * z_m + 8 * turn_x * place
    columns = np.arange(NUM_COLUMNS) - 4 - 1e3 * y_m * np.where(place < 0, 1.0, 0.7)
    forces = 0.3 * (1 + 2 * turn_y) * np.exp(-0.25 * sharpness * rows**2 - 0.1 * columns**2)
    zero = np.zeros(num)
    tangent = np.stack([zero, y_m[:, 0, 0, 0], z_m[:, 0, 0, 0], turn_x[:, 0, 0, 0], turn_y[:, 0, 0, 0], zero], axis=1)
    joints = 0.3 + tangent @ rng.standard_normal((6, NUM_JOINTS)) * 0.1
    return GraspArrays(
        forces=forces.astype(np.float16),
        joints=joints.astype(np.float32),
        tip_forces=forces.sum(axis=(2, 3)).astype(np.float32),
        T_wrist_object=se3_exp(tangent).astype(np.float32),
        motions=np.zeros((num, len(MOTIONS)), dtype=np.float32),
    )


def blob_set(num_per_shard: int = 60, num_shards: int = 2, seed: int = 0) -> GraspSet:
    """In memory, `num_shards` of each of two objects."""
    shards = [blob_arrays(num_per_shard, seed + i, 1.0 + i // num_shards) for i in range(2 * num_shards)]
    names = tuple(GraspArrays.__dataclass_fields__)
    arrays = GraspArrays(**{name: np.concatenate([getattr(shard, name) for shard in shards]) for name in names})
    starts = np.arange(2 * num_shards + 1, dtype=np.int64) * num_per_shard
    return GraspSet(OBJECTS, starts, np.repeat(np.arange(2), num_shards), arrays)


def write_blobs(directory: Path, num_per_shard: int = 60, num_shards: int = 2, seed: int = 0) -> Path:
    """On disk, as `touch data` leaves a set."""
    directory.mkdir(parents=True, exist_ok=True)
    shards = {}
    for kind, name in enumerate(OBJECTS):
        for number in range(num_shards):
            arrays = blob_arrays(num_per_shard, seed + kind * num_shards + number, 1.0 + kind)
            write_shard(directory, shard_name(name, number), arrays)
            shards[shard_name(name, number)] = {"object": name, "number": number, "num_kept": num_per_shard}
    write_manifest(directory, {"world": "blobs"}, shards)
    return directory
