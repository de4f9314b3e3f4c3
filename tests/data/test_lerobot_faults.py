"""Every fault is an error that names file and episode, or a counted skip; nothing else is lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cerebella.data.episodes import DataFault
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.mapping import DatasetMap, choose_map
from cerebella.data.validate import usable_episodes, validate
from cerebella.data.video import VideoEncoder
from tests.data import lerobot_sets as sets
from tests.data.toy_robot import toy_map

LENGTHS = (7, 5, 9)
VIDEO_1 = f"videos/chunk-000/{sets.TOP}/episode_000001.mp4"
DATA_1 = "data/chunk-000/episode_000001.parquet"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sets.write_v2(tmp_path_factory.mktemp("whole") / "set", LENGTHS)


@pytest.fixture
def directory(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "set"))


def cut_video(directory: Path) -> None:
    path = directory / VIDEO_1
    content = bytearray(path.read_bytes())
    start = content.find(b"mdat") + 4
    content[start : len(content) - 900] = bytes(len(content) - 900 - start)
    path.write_bytes(content)


def half_video(directory: Path) -> None:
    path = directory / VIDEO_1
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def short_video(directory: Path) -> None:
    with VideoEncoder(directory / VIDEO_1, 32, 48, sets.FPS, sets.ENCODING) as encoder:
        for frame in range(3):
            encoder.add(sets.picture(1, frame))


def slow_video(directory: Path) -> None:
    with VideoEncoder(directory / VIDEO_1, 32, 48, 15, sets.ENCODING) as encoder:
        for frame in range(5):
            encoder.add(sets.picture(1, frame))


def small_video(directory: Path) -> None:
    with VideoEncoder(directory / VIDEO_1, 16, 48, sets.FPS, sets.ENCODING) as encoder:
        for frame in range(5):
            encoder.add(sets.picture(1, frame)[:16])


def truncate_parquet(directory: Path) -> None:
    path = directory / DATA_1
    path.write_bytes(path.read_bytes()[:-200])


def write_nan(directory: Path) -> None:
    def change(rows: list[list[float]]) -> list[list[float]]:
        rows[3][1] = float("nan")
        return rows

    sets.edit_rows(directory / DATA_1, "action", change)


def drop_rows(directory: Path) -> None:
    table = pq.read_table(directory / DATA_1)
    pq.write_table(table.slice(0, 3), directory / DATA_1)


def drop_column(directory: Path) -> None:
    table = pq.read_table(directory / DATA_1)
    pq.write_table(table.drop_columns(["action"]), directory / DATA_1)


def stretch_time(directory: Path) -> None:
    sets.edit_rows(directory / DATA_1, "timestamp", lambda seconds: [2 * second for second in seconds])


def unknown_task(directory: Path) -> None:
    sets.edit_rows(directory / DATA_1, "task_index", lambda tasks: [9 for _ in tasks])


def empty_episode(directory: Path) -> None:
    path = directory / "meta/episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["length"] = 0
    sets.write_lines(path, lines)


FAULTS: list[tuple[Callable[[Path], object], str, str]] = [
    (cut_video, "corrupt video", VIDEO_1),
    (half_video, "corrupt video", VIDEO_1),
    (short_video, "corrupt video", VIDEO_1),
    (slow_video, "wrong fps", VIDEO_1),
    (small_video, "wrong shape", VIDEO_1),
    (lambda directory: (directory / VIDEO_1).unlink(), "missing file", VIDEO_1),
    (truncate_parquet, "truncated parquet", DATA_1),
    (lambda directory: (directory / DATA_1).unlink(), "missing file", DATA_1),
    (write_nan, "not finite", DATA_1),
    (drop_rows, "wrong length", DATA_1),
    (drop_column, "missing column", DATA_1),
    (stretch_time, "wrong fps", DATA_1),
    (unknown_task, "missing task", DATA_1),
    (empty_episode, "empty episode", DATA_1),
]


@pytest.mark.parametrize(("damage", "kind", "file"), FAULTS)
def test_a_broken_episode_is_named_or_skipped(
    directory: Path, damage: Callable[[Path], object], kind: str, file: str
) -> None:
    damage(directory)
    faults = [fault for fault in validate(directory, "all") if fault.episode is not None]
    assert {fault.episode for fault in faults} == {1}
    assert (kind, str(directory / file)) in {(fault.kind, fault.file) for fault in faults}
    store = LeRobotStore(directory)
    with pytest.raises(DataFault) as caught:
        usable_episodes(store, decode="all")
    assert caught.value.fault.episode == 1
    usable = usable_episodes(store, on_fault="skip", decode="all")
    assert usable.episodes == (0, 2)
    assert usable.num_skipped == 1
    assert kind in {fault.kind for fault in usable.faults}


def test_a_whole_set_has_no_fault(directory: Path, tmp_path: Path) -> None:
    assert validate(directory, "all") == []
    assert validate(sets.write_v3(tmp_path / "v3", LENGTHS), "all") == []
    assert usable_episodes(LeRobotStore(directory), toy_map(), decode="all").episodes == (0, 1, 2)


@pytest.mark.parametrize("damage", [write_nan, truncate_parquet])
def test_reading_itself_says_what_is_broken(directory: Path, damage: Callable[[Path], object]) -> None:
    damage(directory)
    with pytest.raises(DataFault, match=r"episode 1: (not finite: 'action'\[1\] is nan at frame 3|truncated parquet)"):
        toy_map().arrays(LeRobotStore(directory), 1)


def test_reading_a_corrupt_video_names_file_and_episode(directory: Path) -> None:
    cut_video(directory)
    with pytest.raises(DataFault, match=r"episode_000001\.mp4, episode 1: corrupt video"):
        LeRobotStore(directory).frames(1, sets.TOP, 0, 5)


def test_a_map_ignores_what_it_does_not_read(directory: Path) -> None:
    """A broken camera that training does not use costs no episode."""
    half_video(directory)
    without_camera = DatasetMap(toy_map().state, toy_map().action, {}, toy_map().embodiment)
    assert usable_episodes(LeRobotStore(directory), without_camera, decode="all").episodes == (0, 1, 2)


def test_a_set_that_does_not_fit_the_map(directory: Path) -> None:
    path = directory / "meta/info.json"
    info = json.loads(path.read_text())

    def with_info(**changes: object) -> LeRobotStore:
        path.write_text(json.dumps(info | changes))
        return LeRobotStore(directory)

    with pytest.raises(DataFault, match=r"wrong fps: 15\.0 frames/s; the embodiment 'toy_arm' has rows at 30 Hz"):
        usable_episodes(with_info(fps=15), toy_map())
    with pytest.raises(DataFault, match=r"wrong fps: fps must be above 0 frames/s; got 0"):
        with_info(fps=0)
    features = {name: feature for name, feature in info["features"].items() if name != sets.TOP}
    with pytest.raises(DataFault, match=r"no camera 'observation\.images\.base' for the view 'base'; cameras: none"):
        toy_map().check(with_info(features=features))
    with pytest.raises(DataFault, match="no map for the robot type 'spider'; known robot types: toy_arm"):
        choose_map(with_info(robot_type="spider"), {"toy_arm": toy_map()})
    assert choose_map(with_info(), {"toy_arm": toy_map()}).robot_type == "toy_arm"
    path.write_text(json.dumps({key: value for key, value in info.items() if key != "features"}))
    with pytest.raises(DataFault, match="the field 'features' is missing"):
        LeRobotStore(directory)


def test_broken_metadata_are_faults(tmp_path: Path) -> None:
    v3 = sets.write_v3(tmp_path / "v3", (3, 3))
    episodes = v3 / "meta/episodes/chunk-000/file-000.parquet"
    whole = episodes.read_bytes()
    episodes.write_bytes(whole[:-100])
    assert [fault.kind for fault in validate(v3)] == ["truncated parquet"]
    episodes.write_bytes(whole)
    sets.edit_rows(episodes, "length", lambda lengths: [lengths[0], 0])
    assert {(fault.kind, fault.episode) for fault in validate(v3)} == {("empty episode", 1), ("metadata", None)}
    v2 = sets.write_v2(tmp_path / "v2", (3, 3))
    (v2 / "meta/episodes.jsonl").write_text('{"episode_index": 0, "length": 3}\nnot json\n')
    assert [str(fault).split(": ", 1)[1][:30] for fault in validate(v2)] == ["metadata: line 2 is not JSON: E"[:30]]
    (v2 / "meta/episodes.jsonl").write_text('{"episode_index": 1, "length": 3}\n')
    assert "episodes must be 0, 1, 2, ..." in validate(v2)[0].detail
