"""Both layouts read the same: numbers, pictures, tasks, statistics."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from cerebella.data.episodes import DataFault, EpisodeStore, Feature
from cerebella.data.lerobot_info import flat_names, parse_feature
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.lerobot_writer import FileSizes, LeRobotWriter
from tests.data import lerobot_sets as sets

LENGTHS = (7, 5, 9)


@pytest.fixture(scope="module", params=["v3.0", "v3.0 in three files", "v2.1", "v2.0"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LeRobotStore:
    directory = tmp_path_factory.mktemp("sets") / "set"
    if request.param.startswith("v3.0"):
        sizes = FileSizes(data_mb=1e-6) if "three" in request.param else None
        return LeRobotStore(sets.write_v3(directory, LENGTHS, sizes))
    return LeRobotStore(sets.write_v2(directory, LENGTHS, request.param))


def test_it_is_an_episode_store(store: LeRobotStore) -> None:
    generic: EpisodeStore = store
    assert [generic.episode(i).length for i in range(len(generic))] == list(LENGTHS)
    assert generic.episode(1).tasks == (sets.TASKS[1],)
    assert (generic.fps, generic.robot_type) == (30.0, "toy_arm")
    assert generic.features["action"] == Feature("float32", (3,), sets.JOINTS)
    assert generic.features["timestamp"].shape == ()
    assert dict(generic.tasks) == dict(enumerate(sets.TASKS))


def test_numbers_are_those_that_were_written(store: LeRobotStore) -> None:
    first = 0
    for index, length in enumerate(LENGTHS):
        columns = store.columns(index)
        assert set(columns) == {*sets.FEATURES, "timestamp", "frame_index", "episode_index", "index", "task_index"} - {
            sets.TOP
        }
        expected = np.stack([sets.state(index, frame) for frame in range(length)])
        np.testing.assert_array_equal(columns["observation.state"], expected)
        np.testing.assert_array_equal(columns["action"], expected + np.float32(0.5))
        np.testing.assert_array_equal(columns["index"], np.arange(first, first + length))
        np.testing.assert_allclose(columns["timestamp"], np.arange(length) / 30, atol=1e-6)
        assert columns["action"].dtype == np.float32
        assert columns["task_index"].shape == (length,)
        first += length


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 5), (3, 5), (4, 5), (1, 4)])
def test_a_range_of_frames_is_exactly_that_range(store: LeRobotStore, start: int, stop: int) -> None:
    for index in range(len(LENGTHS)):
        frames = store.frames(index, sets.TOP, start, stop)
        assert frames.shape == (stop - start, 32, 48, 3)
        assert frames.dtype == np.uint8
        assert all(sets.is_picture(frame, index, start + i) for i, frame in enumerate(frames))


def test_statistics_of_the_set(store: LeRobotStore) -> None:
    stats = store.stats()
    assert stats[sets.TOP]["mean"].shape == (3, 1, 1)
    if store.info.version != "v2.0":  # whose fixture holds those of one episode
        everything = np.concatenate([store.columns(i)["action"] for i in range(len(store))])
        np.testing.assert_allclose(stats["action"]["mean"], everything.mean(0), atol=1e-6)
        np.testing.assert_allclose(stats["action"]["std"], everything.std(0), atol=1e-6)
        assert stats["action"]["count"].tolist() == [sum(LENGTHS)]


def test_it_travels_to_worker_processes(store: LeRobotStore) -> None:
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.columns(1)["action"], store.columns(1)["action"])


def test_what_does_not_exist_is_named(store: LeRobotStore) -> None:
    with pytest.raises(ValueError, match=r"episodes 0\.\.2; there is no episode 3"):
        store.columns(3)
    with pytest.raises(DataFault, match=r"missing column: no column 'effort'; columns: observation\.state"):
        store.columns(0, ["effort"])
    with pytest.raises(DataFault, match=r"no camera 'wrist'; cameras: observation\.images\.base"):
        store.frames(0, "wrist", 0, 1)
    with pytest.raises(ValueError, match=r"frames 0\.\.6; got the range \[6, 8\)"):
        store.frames(0, sets.TOP, 6, 8)


def test_all_kinds_of_features_survive(tmp_path: Path) -> None:
    features = {
        "state": Feature("float64", (2,)),
        "reward": Feature("float32", (1,)),
        "is_done": Feature("bool", (1,)),
        "mode": Feature("int8", (1,)),
        "grid": Feature("int64", (2, 3)),
        "tactile": Feature("float32", (2, 11, 9)),
        "note": Feature("string", (1,)),
        "still": Feature("image", (10, 15, 3)),
    }
    rng = np.random.default_rng(0)
    frames = [
        {
            "state": rng.normal(size=2),
            "reward": np.float32(i),
            "is_done": np.array([i == 3]),
            "mode": np.int8(-i),
            "grid": rng.integers(0, 9, (2, 3)),
            "tactile": rng.normal(size=(2, 11, 9)).astype(np.float32),
            "note": f"frame é {i}",
            "still": rng.integers(0, 255, (10, 15, 3), dtype=np.uint8),
        }
        for i in range(4)
    ]
    with LeRobotWriter(tmp_path / "set", 15, features, "") as writer:
        for frame in frames:
            writer.add_frame(frame, "do it")
        writer.save_episode()
    store = LeRobotStore(tmp_path / "set")
    columns = store.columns(0)
    for name, feature in features.items():
        if feature.dtype == "image":
            expected = np.stack([frame[name] for frame in frames[1:3]])
            np.testing.assert_array_equal(store.frames(0, name, 1, 3), expected)  # PNG loses nothing
        elif feature.dtype == "string":
            assert columns[name].tolist() == [frame[name] for frame in frames]
        else:
            expected = np.stack([np.asarray(frame[name]).reshape(feature.shape) for frame in frames])
            np.testing.assert_array_equal(columns[name], expected)
            assert columns[name].dtype == np.dtype(feature.dtype)
    assert store.robot_type == ""


@pytest.mark.parametrize(
    ("names", "flat"),
    [
        (["a", "b"], ("a", "b")),
        ({"motors": ["a", "b"]}, ("a", "b")),
        ({"left": ["a"], "right": ["b"]}, ("a", "b")),
        ({"a": 0, "b": 1}, ("a", "b")),
        (None, ()),
    ],
)
def test_names_come_in_several_forms(names: object, flat: tuple[str, ...]) -> None:
    assert flat_names(names) == flat


def test_pictures_with_channels_first_are_turned() -> None:
    entry = {"dtype": "video", "shape": [3, 480, 640], "names": ["channels", "height", "width"]}
    assert parse_feature("camera", entry).shape == (480, 640, 3)
    depth = {"dtype": "video", "shape": [480, 640, 1], "names": None, "info": {"video.is_depth_map": True}}
    assert not parse_feature("depth", depth).is_picture


def test_another_directory_or_version_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is not a LeRobotDataset: it has no meta/info\.json"):
        LeRobotStore(tmp_path)
    sets.write_v2(tmp_path / "old", (4,))
    path = tmp_path / "old/meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"codebase_version": "v1.6"}))
    with pytest.raises(ValueError, match=r"codebase_version is 'v1\.6'; known versions: v2\.0, v2\.1, v3\.0"):
        LeRobotStore(tmp_path / "old")


def test_one_row_group_for_several_episodes_reads_the_same(tmp_path: Path) -> None:
    """Sets that other programs converted are not always cut by episode."""
    import pyarrow.parquet as pq

    store = LeRobotStore(sets.write_v3(tmp_path / "set"))
    before = store.columns(1)["action"]
    path = store.place(0).data
    pq.write_table(pq.read_table(path), path)
    assert pq.read_metadata(path).num_row_groups == 1
    np.testing.assert_array_equal(LeRobotStore(tmp_path / "set").columns(1)["action"], before)
