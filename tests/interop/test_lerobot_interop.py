"""Our data sets in LeRobot, and LeRobot's here: frames, timestamps, actions, tasks and statistics.

Needs an interpreter with `lerobot` 0.4.4 in the environment variable CEREBELLA_LEROBOT_PYTHON.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.data.convert import convert
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.lerobot_writer import FileSizes, LeRobotWriter
from cerebella.data.validate import validate
from cerebella.data.video import default_encoding
from tests.data import lerobot_sets as sets

PEER = os.environ.get("CEREBELLA_LEROBOT_PYTHON", "")
LENGTHS = (40, 25, 33)
CODEC_LEVELS = 2.0
"""Mean difference between two decoders' RGB of the same packets, in levels of 255."""

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not PEER, reason="CEREBELLA_LEROBOT_PYTHON names no interpreter with lerobot"),
]


def peer(*words: str) -> str:
    script = Path(__file__).with_name("lerobot_peer.py")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "SVT_LOG": "1", "PYTHONPATH": ""}
    run = subprocess.run([PEER, str(script), *words], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def check_same(store: LeRobotStore, read: Mapping[str, Any]) -> None:
    """Everything that LeRobot read is what we read."""
    first = 0
    for index in range(len(store)):
        length, columns = store.episode(index).length, store.columns(index)
        rows = slice(first, first + length)
        for name in ("observation.state", "timestamp", "frame_index", "episode_index", "index", "task_index"):
            np.testing.assert_array_equal(read[name][rows], columns[name])
        np.testing.assert_array_equal(read["action"][rows, 0], columns["action"])  # this row
        np.testing.assert_array_equal(read["action"][rows, 1][:-1], columns["action"][1:])  # and the next one
        assert read["action_is_pad"][rows][:, 1].tolist() == [False] * (length - 1) + [True]
        assert [store.tasks[int(task)] for task in columns["task_index"]] == read["task"][rows].tolist()
        for camera in [name for name, feature in store.features.items() if feature.is_picture]:
            ours = store.frames(index, camera, 0, length).astype(int)
            difference = np.abs(ours - read[camera][rows]).mean(axis=(1, 2, 3))
            assert difference.max() < CODEC_LEVELS, (camera, index, difference)
        first += length
    assert first == len(read["timestamp"])


def check_statistics(store: LeRobotStore, read: Mapping[str, Any], exact: tuple[str, ...]) -> None:
    ours = store.stats()
    for name in ("observation.state", "action", sets.TOP):
        for key in exact:
            np.testing.assert_allclose(read[f"stats/{name}/{key}"], ours[name][key], rtol=1e-6)
            assert read[f"stats/{name}/{key}"].shape == ours[name][key].shape


def test_the_versions(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(peer("versions"))
    with capsys.disabled():
        print(f"\ninterop with {', '.join(f'{name} {version}' for name, version in found.items())}")
    assert found["lerobot"] == "0.4.4"


@pytest.mark.parametrize("codec", ["libx264", "default"])
def test_lerobot_reads_what_we_write(tmp_path: Path, codec: str) -> None:
    directory = tmp_path / "ours"
    encoding = default_encoding() if codec == "default" else sets.ENCODING
    sizes = FileSizes() if codec == "default" else FileSizes(data_mb=1e-3)  # several files of everything
    with LeRobotWriter(directory, sets.FPS, sets.FEATURES, "toy_arm", encoding, sizes) as writer:
        for episode, length in enumerate(LENGTHS):
            for frame in range(length):
                values = {"observation.state": sets.state(episode, frame), "action": sets.action(episode, frame)}
                writer.add_frame({**values, sets.TOP: sets.picture(episode, frame)}, sets.TASKS[episode % 2])
            writer.save_episode()
    peer("read", str(directory), str(tmp_path / "read.npz"))
    store, read = LeRobotStore(directory), np.load(tmp_path / "read.npz")
    check_same(store, read)
    check_statistics(store, read, ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"))
    written = [(episode, frame) for episode, length in enumerate(LENGTHS) for frame in range(length)]
    assert all(sets.is_picture(read[sets.TOP][row], *where) for row, where in enumerate(written))


def test_we_read_what_lerobot_writes(tmp_path: Path) -> None:
    rows = [(episode, frame) for episode, length in enumerate(LENGTHS) for frame in range(length)]
    still = np.random.default_rng(0).integers(0, 256, (len(rows), 24, 36, 3), dtype=np.uint8)
    content = {
        "observation.state": np.stack([sets.state(*row) for row in rows]),
        "action": np.stack([sets.action(*row) for row in rows]),
        sets.TOP: np.stack([sets.picture(*row) for row in rows]),
        "observation.images.still": still,
        "grid": np.arange(6 * len(rows), dtype=np.int64).reshape(len(rows), 2, 3),
    }
    dtypes = {
        "observation.state": "float32",
        "action": "float32",
        sets.TOP: "video",
        "observation.images.still": "image",
    }
    episode, task = [row[0] for row in rows], [sets.TASKS[row[0] % 2] for row in rows]
    features = json.dumps({**dtypes, "grid": "int64"})
    np.savez(tmp_path / "content.npz", **content, episode=episode, task=task, features=features)
    directory = tmp_path / "theirs"
    peer("write", str(directory), str(tmp_path / "content.npz"))
    assert validate(directory, "all") == []
    store = LeRobotStore(directory)
    assert (store.robot_type, store.fps) == ("peer_arm", 30.0)
    first = 0
    for index, length in enumerate(LENGTHS):
        columns, part = store.columns(index), slice(first, first + length)
        for name in ("observation.state", "action", "grid"):
            np.testing.assert_array_equal(columns[name], content[name][part])
        np.testing.assert_allclose(columns["timestamp"], np.arange(length) / 30, atol=1e-6)
        np.testing.assert_array_equal(store.frames(index, "observation.images.still", 0, length), still[part])
        frames = store.frames(index, sets.TOP, 0, length)
        assert all(sets.is_picture(frame, index, number) for number, frame in enumerate(frames))
        assert store.episode(index).tasks == (sets.TASKS[index % 2],)
        first += length
    for name in ("observation.state", "action"):
        values, stats = content[name].astype(np.float64), store.stats()[name]
        np.testing.assert_allclose(stats["mean"], values.mean(0), atol=1e-5)
        np.testing.assert_allclose(stats["std"], values.std(0), atol=1e-5)
    peer("read", str(directory), str(tmp_path / "read.npz"))
    check_same(store, np.load(tmp_path / "read.npz"))


def test_both_read_the_same_after_v21_was_upgraded_by_either(tmp_path: Path) -> None:
    old = LeRobotStore(sets.write_v2(tmp_path / "old", LENGTHS))
    sets.write_v2(tmp_path / "parent/upgraded", LENGTHS)
    peer("upgrade", str(tmp_path / "parent"), "upgraded")
    peer("read", str(tmp_path / "parent/upgraded"), str(tmp_path / "theirs.npz"))
    theirs = np.load(tmp_path / "theirs.npz")
    check_same(old, theirs)  # our v2.1 reader against LeRobot's conversion
    check_same(LeRobotStore(tmp_path / "parent/upgraded"), theirs)
    convert(old, tmp_path / "ours")
    peer("read", str(tmp_path / "ours"), str(tmp_path / "ours.npz"))
    check_same(old, np.load(tmp_path / "ours.npz"))
    check_statistics(old, theirs, ("min", "max", "mean", "std", "count"))


def test_lerobot_reads_a_set_of_its_own_that_we_continued(tmp_path: Path) -> None:
    """The metadata files of both must have one schema, or LeRobot cannot load the set."""
    rows = [(0, frame) for frame in range(6)]
    content: dict[str, Any] = {"observation.state": np.stack([sets.state(*row) for row in rows])}
    content["action"] = np.stack([sets.action(*row) for row in rows])
    content[sets.TOP] = np.stack([sets.picture(*row) for row in rows])
    features = json.dumps({"observation.state": "float32", "action": "float32", sets.TOP: "video"})
    np.savez(tmp_path / "content.npz", **content, episode=[0] * 6, task=[sets.TASKS[0]] * 6, features=features)
    directory = tmp_path / "set"
    peer("write", str(directory), str(tmp_path / "content.npz"))
    with LeRobotWriter.resume(directory) as writer:
        for frame in range(8):
            values = {"observation.state": sets.state(1, frame), "action": sets.action(1, frame)}
            writer.add_frame({**values, sets.TOP: sets.picture(1, frame)}, "a new task")
        assert writer.save_episode() == 1
    peer("read", str(directory), str(tmp_path / "read.npz"))
    check_same(LeRobotStore(directory), np.load(tmp_path / "read.npz"))
