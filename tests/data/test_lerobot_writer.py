"""What the writer leaves on disk, and that no crash costs a finished episode."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cerebella.data import lerobot_sealed
from cerebella.data.episodes import Feature
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.lerobot_writer import FileSizes, LeRobotWriter, recover
from tests.data import lerobot_sets as sets

NUMBERS = {"action": Feature("float32", (2,))}


def record(writer: LeRobotWriter, episode: int, length: int) -> None:
    for frame in range(length):
        values = {"observation.state": sets.state(episode, frame), "action": sets.action(episode, frame)}
        writer.add_frame({**values, sets.TOP: sets.picture(episode, frame)}, sets.TASKS[episode % 2])
    writer.save_episode()


def check_all(directory: Path, lengths: tuple[int, ...]) -> None:
    store = LeRobotStore(directory)
    assert [store.episode(i).length for i in range(len(store))] == list(lengths)
    for episode, length in enumerate(lengths):
        expected = np.stack([sets.action(episode, frame) for frame in range(length)])
        np.testing.assert_array_equal(store.columns(episode)["action"], expected)
        frames = store.frames(episode, sets.TOP, 0, length)
        assert all(sets.is_picture(frames[i], episode, i) for i in range(length))


def test_layout_of_a_finished_set(tmp_path: Path) -> None:
    directory = sets.write_v3(tmp_path / "set")
    written = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    assert written == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        f"videos/{sets.TOP}/chunk-000/file-000.mp4",
    ]
    metadata = pq.read_metadata(directory / written[0])
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [7, 5, 9]
    assert metadata.row_group(0).column(0).compression == "SNAPPY"
    info = json.loads((directory / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 30, "toy_arm")
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 21, 2)
    assert info["splits"] == {"train": "0:3"}
    assert info["features"][sets.TOP]["info"]["video.codec"] == "h264"
    assert info["features"][sets.TOP]["names"] == ["height", "width", "channels"]
    assert info["features"]["timestamp"] == {"dtype": "float32", "shape": [1], "names": None}
    rows = pq.read_table(directory / written[1]).to_pylist()
    assert [row["dataset_from_index"] for row in rows] == [0, 7, 12]
    assert [row["dataset_to_index"] for row in rows] == [7, 12, 21]
    assert rows[2][f"videos/{sets.TOP}/from_timestamp"] == pytest.approx(12 / 30)
    assert rows[2][f"videos/{sets.TOP}/to_timestamp"] == pytest.approx(21 / 30)
    assert rows[1]["tasks"] == [sets.TASKS[1]]
    statistics = {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}
    assert {key.rsplit("/", 1)[1] for key in rows[0] if key.startswith("stats/action/")} == statistics
    assert np.shape(rows[0][f"stats/{sets.TOP}/q50"]) == (3, 1, 1)
    stats = json.loads((directory / "meta/stats.json").read_text())
    assert set(stats["action"]) == statistics
    assert 0 <= np.min(stats[sets.TOP]["min"]) < np.max(stats[sets.TOP]["max"]) <= 1


def test_quantiles_of_the_set_are_those_of_all_frames(tmp_path: Path) -> None:
    directory = sets.write_v3(tmp_path / "set", sizes=FileSizes(data_mb=1e-6))
    everything = np.concatenate([LeRobotStore(directory).columns(i)["action"] for i in range(3)])
    stats = LeRobotStore(directory).stats()["action"]
    np.testing.assert_allclose(stats["q90"], np.quantile(everything.astype(np.float64), 0.9, axis=0))


def test_files_roll_at_their_size(tmp_path: Path) -> None:
    by_data = sets.write_v3(tmp_path / "by_data", sizes=FileSizes(data_mb=1e-6))
    by_video = sets.write_v3(tmp_path / "by_video", sizes=FileSizes(video_mb=1e-6))
    for directory in (by_data, by_video):
        assert len(list(directory.glob("data/*/*.parquet"))) == 3
        assert len(list(directory.glob("videos/*/*/*.mp4"))) == 3
        check_all(directory, (7, 5, 9))


def test_a_set_can_be_continued(tmp_path: Path) -> None:
    directory = sets.write_v3(tmp_path / "set", (4, 3))
    with LeRobotWriter.resume(directory, sets.ENCODING) as writer:
        assert writer.num_episodes == 2
        record(writer, 2, 5)
    check_all(directory, (4, 3, 5))
    assert dict(LeRobotStore(directory).tasks) == dict(enumerate(sets.TASKS))


def test_discarded_frames_leave_nothing(tmp_path: Path) -> None:
    with LeRobotWriter(tmp_path / "set", 30, NUMBERS, "toy") as writer:
        writer.add_frame({"action": np.zeros(2, np.float32)}, "a task that nobody needs")
        writer.discard_episode()
        writer.add_frame({"action": np.ones(2, np.float32)}, "keep")
        assert writer.save_episode() == 0
        writer.add_frame({"action": np.zeros(2, np.float32)}, "unfinished")
    store = LeRobotStore(tmp_path / "set")
    assert store.columns(0)["action"].tolist() == [[1.0, 1.0]]
    assert len(store) == 1
    assert dict(store.tasks) == {0: "keep"}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({}, r"it lacks \['action'\]"),
        ({"action": np.zeros(2, np.float32), "force": 1}, r"also holds \['force'\]"),
        ({"action": np.zeros(3, np.float32)}, r"'action' must be float32\[2\]; got float32\[3\]"),
        ({"action": np.array(["a", "b"])}, r"'action' must be float32\[2\]"),
        ({"action": np.array([0, np.nan], np.float32)}, r"'action' must be finite; got \[0.0, nan\]"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(tmp_path: Path, frame: dict[str, Any], message: str) -> None:
    writer = LeRobotWriter(tmp_path / "set", 30, NUMBERS, "toy")
    with pytest.raises(ValueError, match=message):
        writer.add_frame(frame, "task")
    with pytest.raises(ValueError, match="has no frame"):
        writer.save_episode()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"a/b": Feature("float32", (1,))}, "cannot be called 'a/b'"),
        ({"index": Feature("int64", (1,))}, "cannot be called 'index'"),
        ({"cam": Feature("video", (10, 10))}, r"must have the shape \(height, width, 3\)"),
        ({}, "at least one feature"),
    ],
)
def test_features_that_cannot_be_stored(tmp_path: Path, features: dict[str, Feature], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LeRobotWriter(tmp_path / "set", 30, features, "toy")


def test_odd_pictures_cannot_be_video(tmp_path: Path) -> None:
    writer = LeRobotWriter(tmp_path / "set", 30, {"cam": Feature("video", (33, 48, 3))}, "toy")
    with pytest.raises(ValueError, match=r"even height and width .* got 33 x 48.*dtype 'image'"):
        writer.add_frame({"cam": np.zeros((33, 48, 3), np.uint8)}, "task")


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    directory = sets.write_v3(tmp_path / "set", (3,))
    with pytest.raises(ValueError, match=r"is not empty; LeRobotWriter\.resume adds"):
        LeRobotWriter(directory, 30, NUMBERS, "toy")
    check_all(directory, (3,))


KILLED = """
import os, signal, sys
from pathlib import Path
from cerebella.data import lerobot_sealed
from tests.data import test_lerobot_writer

point, count = sys.argv[2], int(sys.argv[3])
module, name = {"rename": (os, "rename"), "join": (lerobot_sealed, "join_videos")}[point]
test_lerobot_writer.stop_at(module, name, count, lambda: os.kill(os.getpid(), signal.SIGKILL))
test_lerobot_writer.record_four(Path(sys.argv[1]), lambda index: print(index, flush=True))
"""


class Stopped(BaseException):
    """Stands for the end of a process: nobody catches it, and nothing is tidied up."""


def stop_at(module: Any, name: str, count: int, stop: Callable[[], None]) -> Any:
    """Replace a function so that its `count`-th call never happens. The original."""
    original, calls = getattr(module, name), 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            stop()
        return original(*arguments, **options)

    setattr(module, name, counted)
    return original


def record_four(directory: Path, say: Callable[[int], object]) -> None:
    """Four episodes of 3, 4, 5 and 6 frames; files are sealed after every second one."""
    writer = LeRobotWriter(directory, sets.FPS, sets.FEATURES, "toy_arm", sets.ENCODING, FileSizes(data_mb=0.004))
    for episode in range(4):
        record(writer, episode, 3 + episode)
        say(episode)
    writer.finalise()


def check_recovered(directory: Path, num_said: int) -> None:
    found = recover(directory)
    assert num_said <= found.num_episodes <= num_said + 1  # stopped after finishing one, before saying so
    check_all(directory, tuple(3 + episode for episode in range(found.num_episodes)))
    assert recover(directory).num_added == 0  # safe to repeat
    assert not list(directory.rglob("*.partial"))


@pytest.mark.parametrize(("point", "count"), [("rename", 3), ("join", 1)])
def test_kill_9_keeps_every_finished_episode(tmp_path: Path, point: str, count: int) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "set"), point, str(count)]
    root = Path(__file__).parents[2]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert run.returncode == -signal.SIGKILL, run.stderr
    check_recovered(tmp_path / "set", len(run.stdout.split()))


@pytest.mark.parametrize("step", ["rename", "replace", "join_videos"])
def test_the_end_at_any_step_keeps_every_finished_episode(tmp_path: Path, step: str) -> None:
    def stop() -> None:
        raise Stopped

    module = lerobot_sealed if step == "join_videos" else os
    for count in itertools.count(1):
        directory, said = tmp_path / str(count), list[int]()
        original = stop_at(module, step, count, stop)
        try:
            record_four(directory, said.append)
            assert count > 2
            break
        except Stopped:
            pass
        finally:
            setattr(module, step, original)
        if (directory / "meta/info.json").is_file():  # else not even the set had begun
            check_recovered(directory, len(said))
            with LeRobotWriter.resume(directory, sets.ENCODING) as writer:
                record(writer, writer.num_episodes, 2)
            store = LeRobotStore(directory)
            assert list(store.tasks) == list(range(len(store.tasks)))


def test_a_set_that_is_being_written_says_so(tmp_path: Path) -> None:
    writer = LeRobotWriter(tmp_path / "set", 30, NUMBERS, "toy")
    writer.add_frame({"action": np.zeros(2, np.float32)}, "task")
    writer.save_episode()
    with pytest.raises(ValueError, match=r"finished episodes wait in recording/\. `cerebella data recover` adds them"):
        LeRobotStore(tmp_path / "set")
    writer.finalise()
    assert len(LeRobotStore(tmp_path / "set")) == 1
