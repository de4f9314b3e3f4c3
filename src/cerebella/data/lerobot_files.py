"""The files of a LeRobotDataset v3.0 as they are written: each appears whole or not at all."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cerebella.data.episodes import Feature
from cerebella.data.lerobot_info import BOOKKEEPING, TASKS
from cerebella.data.statistics import Summary

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CHUNKS_SIZE = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
PARTIAL = ".partial"
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, and put it in its place once it is safely on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    write(partial)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json_file(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file."""
    text = json.dumps(content, indent=4, ensure_ascii=False) + "\n"
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def data_schema(features: Mapping[str, Feature]) -> pa.Schema:
    """The columns of a data file: scalars, lists of fixed length, nested lists, text, embedded pictures; no video."""
    fields = [(name, _arrow_type(feature)) for name, feature in features.items() if feature.dtype != "video"]
    return pa.schema(fields + [(name, pa.type_for_alias(dtype)) for name, dtype in BOOKKEEPING.items()])


def write_tasks(directory: Path, tasks: Mapping[int, str]) -> None:
    """Replace `meta/tasks.parquet`: the text is the index of a pandas table, as LeRobot expects."""
    order = sorted(tasks)
    table = pa.table({"task_index": pa.array(order, pa.int64()), "__index_level_0__": [tasks[i] for i in order]})
    described = {
        "index_columns": ["__index_level_0__"],
        "column_indexes": [
            {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
        ],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {
                "name": None,
                "field_name": "__index_level_0__",
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": None,
            },
        ],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = table.replace_schema_metadata({"pandas": json.dumps(described)})
    replace_file(directory / TASKS, lambda partial: pq.write_table(table, partial, compression="snappy"))


def info_json(
    features: Mapping[str, Feature],
    fps: float,
    robot_type: str,
    num_episodes: int,
    num_frames: int,
    num_tasks: int,
    video_facts: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The object of `meta/info.json`. `video_facts`: feature -> its `info` block."""
    described: dict[str, Any] = {}
    for name, feature in features.items():
        described[name] = {
            "dtype": feature.dtype,
            "shape": list(feature.shape),
            "names": ["height", "width", "channels"] if feature.is_picture else list(feature.names) or None,
        }
        if name in video_facts:
            described[name]["info"] = dict(video_facts[name])
    for name, dtype in BOOKKEEPING.items():
        described[name] = {"dtype": dtype, "shape": [1], "names": None}
    has_video = any(feature.dtype == "video" for feature in features.values())
    return {
        "codebase_version": "v3.0",
        "robot_type": robot_type or None,
        "total_episodes": num_episodes,
        "total_frames": num_frames,
        "total_tasks": num_tasks,
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": int(fps) if float(fps).is_integer() else fps,
        "splits": {"train": f"0:{num_episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if has_video else None,
        "features": described,
    }


def stats_json(stats: Mapping[str, Summary]) -> dict[str, Any]:
    """The object of `meta/stats.json`."""
    return {name: {key: value.tolist() for key, value in summary.items()} for name, summary in stats.items()}


def file_number(number: int) -> dict[str, int]:
    """`chunk_index` and `file_index` of the n-th file."""
    return {"chunk_index": number // CHUNKS_SIZE, "file_index": number % CHUNKS_SIZE}


def join_tables(sources: Sequence[Path], target: Path) -> None:
    """Write several parquet files into one, a row group each."""
    with pq.ParquetWriter(target, pq.read_schema(sources[0]), compression="snappy") as writer:
        for source in sources:
            table = pq.read_table(source)
            writer.write_table(table, row_group_size=len(table))


def _arrow_type(feature: Feature) -> pa.DataType:
    if feature.dtype == "image":
        return _PICTURE
    scalar = pa.string() if feature.dtype == "string" else pa.from_numpy_dtype(np.dtype(feature.dtype))
    if feature.shape in ((), (1,)):
        return scalar
    if len(feature.shape) == 1:
        return pa.list_(scalar, feature.shape[0])
    nested = scalar
    for _ in feature.shape:
        nested = pa.list_(nested)
    return nested
