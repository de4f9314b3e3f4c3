"""The metadata of a LeRobotDataset that is not about single episodes: `meta/info.json`, tasks, statistics of the set."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cerebella.data.episodes import DataFault, Feature
from cerebella.data.statistics import Summary, merge
from cerebella.embodiment import read_json_object

INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
LEGACY_TASKS = "meta/tasks.jsonl"
LEGACY_EPISODES = "meta/episodes.jsonl"
LEGACY_EPISODE_STATS = "meta/episodes_stats.jsonl"
VERSIONS = ("v2.0", "v2.1", "v3.0")
BOOKKEEPING: Mapping[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every set has, one scalar per frame, and their dtypes."""


@dataclass(frozen=True)
class LeRobotInfo:
    """`meta/info.json`, checked. `raw` is the whole object, for what is not read here."""

    version: str
    fps: float
    robot_type: str
    features: Mapping[str, Feature]
    data_path: str
    video_path: str
    chunks_size: int
    num_episodes: int
    num_frames: int
    raw: Mapping[str, Any]

    @property
    def videos(self) -> tuple[str, ...]:
        """Features that are stored as video."""
        return tuple(name for name, feature in self.features.items() if feature.dtype == "video")


def read_info(directory: Path) -> LeRobotInfo:
    """Read `meta/info.json`.

    Raises:
        FileNotFoundError: this is no LeRobotDataset. DataFault: a field is missing or senseless. ValueError: another version.
    """
    path = directory / INFO
    if not path.is_file():
        raise FileNotFoundError(f"{directory} is not a LeRobotDataset: it has no {INFO}")
    raw = read_json_object(path)
    version = str(raw.get("codebase_version", "missing"))
    if version not in VERSIONS:
        raise ValueError(f"{path}: codebase_version is {version!r}; known versions: {', '.join(VERSIONS)}")
    try:
        fps = float(raw["fps"])
        features = {name: parse_feature(name, entry) for name, entry in raw["features"].items()}
        info = LeRobotInfo(
            version=version,
            fps=fps,
            robot_type=str(raw.get("robot_type") or ""),
            features=features,
            data_path=str(raw["data_path"]),
            video_path=str(raw.get("video_path") or ""),
            chunks_size=int(raw.get("chunks_size", 1000)),
            num_episodes=int(raw["total_episodes"]),
            num_frames=int(raw["total_frames"]),
            raw=raw,
        )
    except KeyError as error:
        raise DataFault("metadata", path, None, f"the field {error} is missing") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise DataFault("metadata", path, None, str(error)) from error
    if not (np.isfinite(fps) and fps > 0):
        raise DataFault("wrong fps", path, None, f"fps must be above 0 frames/s; got {raw['fps']}")
    if info.videos and not info.video_path:
        raise DataFault("metadata", path, None, f"video_path is missing, and {info.videos[0]!r} is a video")
    return info


def parse_feature(name: str, entry: Mapping[str, Any]) -> Feature:
    """A feature of `info.json`. Book-keeping columns become scalars; pictures become (height, width, channels)."""
    dtype, shape, names = (
        str(entry["dtype"]),
        tuple(int(size) for size in entry["shape"]),
        flat_names(entry.get("names")),
    )
    if name in BOOKKEEPING:
        return Feature(dtype, ())
    if dtype not in ("image", "video"):
        return Feature(dtype, shape, names)
    if len(shape) != 3:
        raise ValueError(f"feature {name!r} is a {dtype} of shape {list(shape)}; it needs height, width and channels")
    facts = {**entry, **(entry.get("info") or {}), **(entry.get("video_info") or {})}
    if facts.get("video.is_depth_map") or facts.get("is_depth_map"):
        return Feature("depth", shape, names)
    if names and names[0].startswith("channel"):
        shape = (shape[1], shape[2], shape[0])
    return Feature(dtype, shape, ("height", "width", "channels"))


def flat_names(names: Any) -> tuple[str, ...]:
    """Names of entries, whether a list, an object of lists (`{"motors": [...]}`), an object of indices, or null."""
    if isinstance(names, Mapping):
        lists = [entry for entry in names.values() if isinstance(entry, list)]
        if not lists:
            return tuple(str(name) for name in names)
        names = [name for entry in lists for name in entry]
    if not isinstance(names, list | tuple):
        return ()
    return tuple(str(name) for name in names) if not any(isinstance(name, list) for name in names) else ()


def read_tasks(directory: Path, version: str) -> dict[int, str]:
    """Task index -> instruction.

    Raises:
        DataFault: the file is missing or broken.
    """
    if version != "v3.0":
        lines = read_json_lines(directory / LEGACY_TASKS)
        return {int(line["task_index"]): str(line["task"]) for line in lines}
    path = directory / TASKS
    table = read_table(path)
    texts = [name for name in table.column_names if pa.types.is_string(table.schema.field(name).type)]
    texts += [name for name in table.column_names if pa.types.is_large_string(table.schema.field(name).type)]
    if "task_index" not in table.column_names or not texts:
        raise DataFault("metadata", path, None, f"it needs a task_index and a text; it has {table.column_names}")
    index = table.column("task_index").to_pylist()
    return dict(zip((int(i) for i in index), table.column(texts[0]).to_pylist(), strict=True))


def read_stats(directory: Path, version: str) -> dict[str, Summary]:
    """Statistics of the whole set as stored; of v2.1, its episodes' merged. Empty where the set has none.

    Raises:
        DataFault: the file is broken.
    """
    path = directory / STATS
    if path.is_file():
        return {name: parse_summary(path, entry) for name, entry in read_json_object(path).items()}
    if version == "v2.1" and (directory / LEGACY_EPISODE_STATS).is_file():
        parts: dict[str, list[Summary]] = {}
        for line in read_json_lines(directory / LEGACY_EPISODE_STATS):
            for name, entry in line["stats"].items():
                parts.setdefault(name, []).append(parse_summary(directory / LEGACY_EPISODE_STATS, entry))
        return {name: merge(entries) for name, entries in parts.items()}
    return {}


def parse_summary(path: Path, entry: Mapping[str, Any]) -> Summary:
    """One feature's statistics from JSON."""
    try:
        summary: Summary = {name: np.atleast_1d(np.asarray(value, dtype=np.float64)) for name, value in entry.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise DataFault("metadata", path, None, f"statistics that are no numbers: {error}") from error
    if "count" in summary:
        summary["count"] = summary["count"].astype(np.int64)
    return summary


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file.

    Raises:
        DataFault: no file, or a line is not a JSON object (says which).
    """
    if not path.is_file():
        raise DataFault("missing file", path, None, "there is no such file")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise DataFault("metadata", path, None, f"line {number} is not JSON: {error}") from error
            if not isinstance(entry, dict):
                raise DataFault("metadata", path, None, f"line {number} is a {type(entry).__name__}, not an object")
            yield entry


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A whole parquet file.

    Raises:
        DataFault: no file, or not readable (a file without a footer was not closed, or was cut off).
    """
    if not path.is_file():
        raise DataFault("missing file", path, None, "there is no such file")
    try:
        return pq.ParquetFile(path).read(columns)
    except (pa.ArrowException, OSError) as error:
        raise DataFault("truncated parquet", path, None, one_line(error)) from error


def one_line(error: Exception) -> str:
    """The message of a library's error on one line."""
    return " ".join(str(error).split())
