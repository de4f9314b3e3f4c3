"""The shared files of a LeRobotDataset v3.0 as they grow: what is part of the set, and how finished episodes become part.

The order is what makes it safe: data, videos and tasks first, then one file of `meta/episodes`, which is the commit. What a
crash leaves before it is overwritten by the next try, which takes the same file number.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cerebella.data.episodes import Feature
from cerebella.data.lerobot_files import (
    DATA_PATH,
    EPISODES_PATH,
    VIDEO_PATH,
    file_number,
    info_json,
    join_tables,
    replace_file,
    write_json_file,
    write_tasks,
)
from cerebella.data.lerobot_info import BOOKKEEPING, INFO, TASKS, read_table, read_tasks
from cerebella.data.lerobot_layout import episode_files
from cerebella.data.lerobot_recording import StagedEpisode
from cerebella.data.statistics import Summary, merge
from cerebella.data.video import VideoEncoding, join_videos, video_facts
from cerebella.embodiment import read_json_object


@dataclass(frozen=True)
class SetFormat:
    """What is fixed for a whole set: rate, robot type, features without book-keeping, and how pictures become video."""

    fps: float
    robot_type: str
    features: Mapping[str, Feature]
    encoding: VideoEncoding

    @property
    def videos(self) -> tuple[str, ...]:
        """Features that are stored as video."""
        return tuple(name for name, feature in self.features.items() if feature.dtype == "video")


@dataclass(frozen=True)
class Sealed:
    """What is part of a set. `next_file`: number of the first unused file; `video_facts`: `info` block per video."""

    num_episodes: int = 0
    num_frames: int = 0
    next_file: int = 0
    tasks: Mapping[int, str] = field(default_factory=dict)
    video_facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_sealed(directory: Path, videos: Sequence[str]) -> Sealed:
    """What is part of a set on disk, whether or not `meta/info.json` has heard of it."""
    raw = read_json_object(directory / INFO)
    num_episodes = num_frames = next_file = 0
    for path in episode_files(directory):
        table = read_table(path)
        num_episodes += len(table)
        num_frames += sum(table.column("length").to_pylist())
        for name in table.column_names:
            if name.endswith("/file_index"):
                chunks = table.column(name.replace("/file_index", "/chunk_index")).to_numpy()
                files = table.column(name).to_numpy()
                next_file = max(next_file, int((chunks * raw["chunks_size"] + files).max()) + 1)
    return Sealed(
        num_episodes=num_episodes,
        num_frames=num_frames,
        next_file=next_file,
        tasks=read_tasks(directory, "v3.0") if (directory / TASKS).is_file() else {},
        video_facts={name: raw["features"][name]["info"] for name in videos if raw["features"][name].get("info")},
    )


def seal(directory: Path, layout: SetFormat, sealed: Sealed, staged: Sequence[StagedEpisode]) -> Sealed:
    """Make finished episodes part of the set, in one new file each of data, metadata and every camera."""
    if not staged:
        return sealed
    file, facts = file_number(sealed.next_file), dict(sealed.video_facts)
    replace_file(directory / DATA_PATH.format(**file), lambda path: join_tables([s.data for s in staged], path))
    lengths = [episode.length for episode in staged]
    for name in layout.videos:
        target, sources = directory / VIDEO_PATH.format(video_key=name, **file), [s.video(name) for s in staged]
        replace_file(target, lambda path, parts=sources: join_videos(parts, lengths, layout.fps, path))
        facts.setdefault(name, video_facts(target, layout.encoding))
    tasks = {**sealed.tasks, **{index: text for episode in staged for index, text in episode.tasks.items()}}
    write_tasks(directory, tasks)
    rows = pa.Table.from_pylist(_episode_rows(layout, sealed.num_frames, file, staged))
    replace_file(directory / EPISODES_PATH.format(**file), lambda path: pq.write_table(rows, path))
    result = replace(
        sealed,
        num_episodes=sealed.num_episodes + len(staged),
        num_frames=sealed.num_frames + sum(lengths),
        next_file=sealed.next_file + 1,
        tasks=tasks,
        video_facts=facts,
    )
    write_info(directory, layout, result)
    for episode in staged:
        shutil.rmtree(episode.directory)
    return result


def write_info(directory: Path, layout: SetFormat, sealed: Sealed) -> None:
    """Replace `meta/info.json`."""
    content = info_json(
        layout.features,
        layout.fps,
        layout.robot_type,
        sealed.num_episodes,
        sealed.num_frames,
        len(sealed.tasks),
        sealed.video_facts,
    )
    write_json_file(directory / INFO, content)


def merged_stats(directory: Path) -> dict[str, Summary]:
    """The statistics in `meta/episodes`, merged; quantiles approximately (`statistics.merge`)."""
    parts: dict[str, list[Summary]] = {}
    for path in episode_files(directory):
        table = read_table(path)
        columns = {name: table.column(name).to_pylist() for name in table.column_names if name.startswith("stats/")}
        for row in range(len(table)):
            episode: dict[str, Summary] = {}
            for name, values in columns.items():
                feature, statistic = name.removeprefix("stats/").rsplit("/", 1)
                if values[row] is not None:
                    episode.setdefault(feature, {})[statistic] = np.asarray(values[row], dtype=np.float64)
            for feature, summary in episode.items():
                parts.setdefault(feature, []).append(summary)
    return {name: merge(summaries) for name, summaries in parts.items()}


def _episode_rows(
    layout: SetFormat, first_frame: int, file: Mapping[str, int], staged: Sequence[StagedEpisode]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    done = 0
    for episode in staged:
        row: dict[str, Any] = {
            "episode_index": episode.index,
            "tasks": list(episode.tasks.values()),
            "length": episode.length,
            "dataset_from_index": first_frame + done,
            "dataset_to_index": first_frame + done + episode.length,
        }
        for name in layout.videos:
            row[f"videos/{name}/from_timestamp"] = done / layout.fps
            row[f"videos/{name}/to_timestamp"] = (done + episode.length) / layout.fps
        for what in ("data", "meta/episodes", *(f"videos/{name}" for name in layout.videos)):
            row.update({f"{what}/{key}": value for key, value in file.items()})
        for name, summary in episode.stats.items():
            dtype = BOOKKEEPING.get(name) or layout.features[name].dtype
            row.update({f"stats/{name}/{key}": _listed(dtype, key, value) for key, value in summary.items()})
        rows.append(row)
        done += episode.length
    return rows


def _listed(dtype: str, statistic: str, value: NDArray[Any]) -> list[Any]:
    """The range of integers as integers, as LeRobot has it; everything else as floats."""
    is_integer = dtype not in ("image", "video") and np.dtype(dtype).kind in "iu"
    keeps_integer = statistic == "count" or (is_integer and statistic in ("min", "max"))
    return (value.astype(np.int64) if keeps_integer else value).tolist()
