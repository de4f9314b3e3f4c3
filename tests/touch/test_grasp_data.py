"""Shards: the same whoever makes them, whole after any end, and what is in them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.geometry import Array
from cerebella.touch.grasp import Grasp
from cerebella.touch.grasp_data import GraspPlan, generate, make_shard
from cerebella.touch.grasp_shards import GraspSet, load_grasps, read_manifest
from cerebella.touch.objects import SEEN, Shape, shape_of
from cerebella.touch.sampling import PoseRanges, nominal_goal, poses_of
from tests.touch.flat_world import FlatWorld, make_flat_world

ROD, DISK, PLATE = (next(shape.name for shape in SEEN if shape.kind == kind) for kind in ("rod", "disk", "plate"))
OBJECTS = (ROD, DISK, PLATE)
OBJECTS_SORTED = sorted(OBJECTS)
PLAN = GraspPlan(
    world="flat",
    objects=OBJECTS,
    num_grasps=90,
    seed=7,
    shard_size=10,
    parameters={"stiffness_n_per_m": (200.0, 400.0)},
)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def make(directory: Path, plan: GraspPlan = PLAN, num_processes: int = 1) -> dict[str, Any]:
    return generate(directory, plan, make_flat_world, num_processes, show_progress=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("grasps") / "whole"
    make(directory)
    return directory


def test_the_manifest_says_what_was_made(whole: Path) -> None:
    manifest = read_manifest(whole)
    assert manifest is not None
    assert set(contents(whole)) == {"manifest.json", *(f"{name}-{i:04d}.npz" for name in OBJECTS for i in range(3))}
    assert manifest["schema_version"] == 1
    assert manifest["settings"]["ranges"]["edge_z_m"] == [-0.003, 0.005]
    shards = manifest["shards"]
    assert sum(about["num_kept"] for about in shards.values()) == 90
    stiffness = [about["world_parameters"]["stiffness_n_per_m"] for about in shards.values()]
    assert len(set(stiffness)) == 9
    assert all(200 <= value <= 400 for value in stiffness)
    assert all(2 <= about["mean_fingers"] <= 5 for about in shards.values())


def test_a_shard_holds_what_the_world_felt(whole: Path) -> None:
    grasps = load_grasps(whole)
    manifest = read_manifest(whole)
    assert manifest is not None
    for i, row in ((0, 0), (1, 13), (8, 85)):
        name = sorted(manifest["shards"], key=lambda each: (OBJECTS_SORTED.index(each[:-5]), each))[i]
        about = manifest["shards"][name]
        assert grasps.objects[grasps.object_index[row]] == about["object"]
        pose = poses_of(grasps.arrays.motions[row].astype(np.float64))
        grasp = make_flat_world("flat", about["world_parameters"]).grasp(shape_of(about["object"]), pose)
        np.testing.assert_allclose(grasps.arrays.T_wrist_object[row], pose, atol=1e-6)
        np.testing.assert_allclose(grasps.arrays.forces[row], grasp.forces, rtol=2e-3, atol=1e-4)
        np.testing.assert_allclose(grasps.arrays.joints[row], grasp.joints, atol=1e-6)
        np.testing.assert_allclose(grasps.arrays.tip_forces[row], grasp.tip_forces, rtol=1e-4)


def test_the_first_grasp_of_a_shard_is_the_nominal_goal(whole: Path) -> None:
    grasps = load_grasps(whole)
    for start, object_number in zip(grasps.starts, grasps.object_of_shard, strict=False):
        goal = nominal_goal(shape_of(grasps.objects[object_number]))
        np.testing.assert_allclose(grasps.arrays.T_wrist_object[start], goal, atol=1e-8)


def test_processes_and_interruptions_change_no_byte(whole: Path, tmp_path: Path) -> None:
    make(tmp_path / "two", num_processes=2)
    assert contents(tmp_path / "two") == contents(whole)
    make(tmp_path / "grown", replace(PLAN, num_grasps=20, objects=OBJECTS[1:]))
    assert len(contents(tmp_path / "grown")) == 3
    kept = tmp_path / "grown" / f"{DISK}-0000.npz"
    before = kept.stat().st_mtime_ns
    (tmp_path / "grown" / f"{PLATE}-0000.npz").unlink()
    (tmp_path / "grown" / f"{ROD}-0000.npz.partial").write_bytes(b"of a killed run")
    make(tmp_path / "grown")
    assert contents(tmp_path / "grown") == contents(whole)
    assert kept.stat().st_mtime_ns == before


def test_other_settings_in_the_same_directory_are_an_error(whole: Path) -> None:
    before = contents(whole)
    with pytest.raises(ValueError, match=r"other settings \(seed: 7 there, 8 wanted\)"):
        make(whole, replace(PLAN, seed=8))
    with pytest.raises(ValueError, match=r"ranges: .* there"):
        make(whole, replace(PLAN, ranges=PoseRanges(z_m=(-0.004, 0.005))))
    assert contents(whole) == before


def test_grasps_without_contact_are_left_out_and_counted() -> None:
    plan = replace(PLAN, shard_size=60, ranges=PoseRanges(z_m=(-0.012, 0.012)), parameters={})
    arrays, about = make_shard(plan, ROD, 0, lambda *_: FlatWorld(unstable_beyond_m=10.5e-3))
    assert about["num_kept"] == 60
    assert about["rejected"]["no_thumb"] > 0
    assert about["rejected"]["unstable"] > 0
    fingers = arrays.forces.sum(axis=(2, 3)) >= 0.049
    assert fingers[:, 0].all()
    assert (fingers.sum(axis=1) >= 2).all()


def test_an_object_that_never_touches_is_given_up() -> None:
    plan = replace(PLAN, shard_size=2)
    with pytest.raises(ValueError, match=rf"the nominal goal of {ROD} is no grasp \(no_thumb; world flat"):
        make_shard(plan, ROD, 0, lambda *_: FlatWorld(stiffness_n_per_m=0.01))
    with pytest.raises(ValueError, match=rf"only 1 of 40 poses of {ROD} gave a grasp .*'unstable': 39"):
        make_shard(plan, ROD, 0, lambda *_: OnceWorld())


class OnceWorld(FlatWorld):
    """Only the nominal grasp works."""

    def grasp(self, shape: Shape, T_wrist_object: Array) -> Grasp:
        if not np.array_equal(T_wrist_object, nominal_goal(shape)):
            raise RuntimeError("unstable")
        return super().grasp(shape, T_wrist_object)


def test_parts_share_no_shard_and_make_up_the_set(whole: Path) -> None:
    everything, train, held_out = (load_grasps(whole, part) for part in ("all", "train", "held_out"))
    assert (len(everything), len(train), len(held_out)) == (90, 60, 30)

    def rows(grasps: GraspSet) -> set[bytes]:
        return {joints.tobytes() + forces.tobytes() for joints, forces in zip(grasps.arrays.joints, grasps.arrays.forces, strict=True)}  # fmt: skip

    assert not rows(train) & rows(held_out)
    assert rows(train) | rows(held_out) == rows(everything)
    assert "90 grasps of 3 objects" in everything.describe()
    assert f"{ROD}: 30 grasps in 3 shards" in everything.describe()
    only = load_grasps(whole, objects=(ROD,))
    assert only.objects == (ROD,)
    assert len(only) == 30
    assert only.num_bytes / len(only) < 1250


def test_mistakes_are_explained(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no grasps: it has no manifest.json"):
        load_grasps(tmp_path)
    with pytest.raises(ValueError, match=r"has no grasps of plate_9x9; it has: disk_"):
        load_grasps(whole, objects=("plate_9x9",))
    with pytest.raises(ValueError, match=r"unknown object 'plate_9x9'"):
        replace(PLAN, objects=("plate_9x9",))
    with pytest.raises(ValueError, match=r"one or more different names"):
        replace(PLAN, objects=(ROD, ROD))
    with pytest.raises(ValueError, match=r"shard_size must be 1 or more; got 0"):
        replace(PLAN, shard_size=0)
    make(tmp_path / "one", replace(PLAN, num_grasps=10, objects=(ROD,)))
    with pytest.raises(ValueError, match=rf"'train' .* has no grasps of {ROD}; it takes 2 or more shards per object"):
        load_grasps(tmp_path / "one", "train")
    (tmp_path / "one" / f"{ROD}-0000.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=rf"{ROD}-0000.npz is missing or damaged"):
        load_grasps(tmp_path / "one")
    manifest = tmp_path / "one" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 99}))
    with pytest.raises(ValueError, match=r"schema_version 99; this version reads 1"):
        load_grasps(tmp_path / "one")


SLOW_RUN = """
import signal
import sys
from dataclasses import replace
from pathlib import Path
from cerebella.touch.grasp_data import generate
from tests.touch.flat_world import make_flat_world
from tests.touch.test_grasp_data import PLAN
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background of a shell inherit that it is ignored
    plan = replace(PLAN, parameters={**PLAN.parameters, "grasp_s": (0.02, 0.02)})
    try:
        generate(Path(sys.argv[1]), plan, make_flat_world, int(sys.argv[2]), show_progress=False)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize(("stop", "num_processes"), [(signal.SIGINT, 2), (signal.SIGKILL, 2), (signal.SIGINT, 1)])
def test_a_run_that_is_cut_off_leaves_whole_shards(stop: signal.Signals, num_processes: int, tmp_path: Path) -> None:
    root, script = Path(__file__).parents[2], tmp_path / "slow_run.py"
    script.write_text(SLOW_RUN)
    directory = tmp_path / "set"
    process = subprocess.Popen(
        [sys.executable, str(script), str(directory), str(num_processes)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (directory / "manifest.json").exists():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(stop)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if stop == signal.SIGINT else -signal.SIGKILL)
    assert stop == signal.SIGKILL or said == b""
    wait_for_the_end_of(process.pid)
    shards = [name for name in contents(directory) if name.endswith(".npz")]
    assert 1 <= len(shards) < 9
    plan = replace(PLAN, parameters={**PLAN.parameters, "grasp_s": (0.0, 0.0)})
    manifest = directory / "manifest.json"
    manifest.write_text(manifest.read_text().replace("0.02", "0.0"))  # the rest without waiting
    make(directory, plan)
    assert load_grasps(directory).describe().endswith("90 grasps of 3 objects, 0 MB")


def wait_for_the_end_of(session: int) -> None:
    """No process of the session may go on without its parent."""
    deadline = time.monotonic() + 30
    while True:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline, "workers outlived the run"
        time.sleep(0.02)
