"""Small LeRobotDatasets on disk: v3.0 from our writer, v2.1 and v2.0 file by file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cerebella.data.episodes import Feature
from cerebella.data.lerobot_files import data_schema
from cerebella.data.lerobot_recording import numeric_summary
from cerebella.data.lerobot_writer import FileSizes, LeRobotWriter
from cerebella.data.statistics import PictureStatistics
from cerebella.data.video import VideoEncoder, VideoEncoding
from cerebella.types import ImageArray

FPS = 30
TOP = "observation.images.base"
JOINTS = ("shoulder", "elbow", "gripper")
ENCODING = VideoEncoding("libx264", keyframe_every=4, crf=12, preset="veryfast")
FEATURES = {
    "observation.state": Feature("float32", (3,), JOINTS),
    "action": Feature("float32", (3,), JOINTS),
    TOP: Feature("video", (32, 48, 3)),
}
TASKS = ("pick the cube", "place the cube")
NOISE = 9.0
"""Mean error of a decoded frame against its picture, in levels, that H.264 may have."""


def state(episode: int, frame: int) -> NDArray[np.float32]:
    """Never two alike."""
    return np.array([0.1 * episode, 0.01 * frame, frame % 2], dtype=np.float32)


def action(episode: int, frame: int) -> NDArray[np.float32]:
    return state(episode, frame) + np.float32(0.5)


def picture(episode: int, frame: int) -> ImageArray:
    """A bright bar that moves by a few pixels each frame on a ground that says the episode."""
    image = np.zeros((32, 48, 3), dtype=np.uint8)
    image[..., 2] = 40 + 50 * episode
    image[..., 0] = 20
    left = (3 * frame) % 42
    image[:, left : left + 6] = (230, 200, 40)
    return image


def write_v3(directory: Path, lengths: Sequence[int] = (7, 5, 9), sizes: FileSizes | None = None) -> Path:
    with LeRobotWriter(directory, FPS, FEATURES, "toy_arm", ENCODING, sizes) as writer:
        for episode, length in enumerate(lengths):
            for frame in range(length):
                values = {"observation.state": state(episode, frame), "action": action(episode, frame)}
                writer.add_frame({**values, TOP: picture(episode, frame)}, TASKS[episode % 2])
            writer.save_episode()
    return directory


def write_v2(directory: Path, lengths: Sequence[int] = (7, 5, 9), version: str = "v2.1") -> Path:
    """The same content in the older layout: one parquet and one mp4 per episode, JSON lines."""
    first, episodes, stats = 0, [], []
    for episode, length in enumerate(lengths):
        columns: dict[str, Any] = {
            "observation.state": np.stack([state(episode, frame) for frame in range(length)]),
            "action": np.stack([action(episode, frame) for frame in range(length)]),
            "timestamp": (np.arange(length) / FPS).astype(np.float32),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, episode),
            "index": np.arange(first, first + length),
            "task_index": np.full(length, episode % 2),
        }
        data = directory / f"data/chunk-000/episode_{episode:06d}.parquet"
        data.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table({name: values.tolist() for name, values in columns.items()}, schema=data_schema(FEATURES))
        pq.write_table(table, data)
        video = directory / f"videos/chunk-000/{TOP}/episode_{episode:06d}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        pictures = PictureStatistics()
        with VideoEncoder(video, 32, 48, FPS, ENCODING) as encoder:
            for frame in range(length):
                encoder.add(picture(episode, frame))
                pictures.update(picture(episode, frame))
        episodes.append({"episode_index": episode, "tasks": [TASKS[episode % 2]], "length": length})
        summaries = {**{n: numeric_summary(v) for n, v in columns.items()}, TOP: pictures.summary()}
        kept = ("min", "max", "mean", "std", "count")
        listed = {name: {key: summary[key].tolist() for key in kept} for name, summary in summaries.items()}
        stats.append({"episode_index": episode, "stats": listed})
        first += length
    meta = directory / "meta"
    meta.mkdir(exist_ok=True)
    write_lines(meta / "episodes.jsonl", episodes)
    write_lines(meta / "tasks.jsonl", [{"task_index": i, "task": text} for i, text in enumerate(TASKS)])
    if version == "v2.1":
        write_lines(meta / "episodes_stats.jsonl", stats)
    else:
        (meta / "stats.json").write_text(json.dumps(stats[0]["stats"]))
    info = json.loads((write_info_v3(directory)).read_text())
    info |= {
        "codebase_version": version,
        "total_episodes": len(lengths),
        "total_frames": first,
        "total_videos": len(lengths),
        "total_chunks": 1,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    (meta / "info.json").write_text(json.dumps(info))
    return directory


def write_info_v3(directory: Path) -> Path:
    from cerebella.data.lerobot_files import info_json

    path = directory / "meta/info.json"
    path.write_text(json.dumps(info_json(FEATURES, FPS, "toy_arm", 0, 0, len(TASKS), {})))
    return path


def write_lines(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def is_picture(frame: ImageArray, episode: int, number: int) -> bool:
    """Whether a decoded frame is this picture, and no neighbour."""
    errors = [np.abs(frame.astype(int) - picture(episode, n)).mean() for n in range(max(0, number - 2), number + 3)]
    here = min(number, 2)
    return int(np.argmin(errors)) == here and errors[here] < NOISE


def edit_rows(path: Path, column: str, change: Any) -> None:
    """Rewrite a column of a parquet file: `change` gets and returns its list."""
    table = pq.read_table(path)
    groups = [pq.ParquetFile(path).metadata.row_group(i).num_rows for i in range(pq.read_metadata(path).num_row_groups)]
    values = pa.array(change(table.column(column).to_pylist()), table.schema.field(column).type)
    table = table.set_column(table.schema.get_field_index(column), table.schema.field(column), values)
    with pq.ParquetWriter(path, table.schema) as writer:
        start = 0
        for rows in groups:
            writer.write_table(table.slice(start, rows), row_group_size=rows)
            start += rows
