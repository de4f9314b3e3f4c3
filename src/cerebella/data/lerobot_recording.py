"""One episode while it is recorded: numbers in memory, video on disk, and a directory that appears when it is finished.

`recording/episode-000012/` holds `data.parquet` (one row group, as it will be in the set), one mp4 per video feature, and
`episode.json` (length, tasks, statistics). While it is recorded the directory's name ends in `.partial`.
"""

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from cerebella.data.episodes import Feature
from cerebella.data.lerobot_files import PARTIAL, data_schema, stats_json, sync
from cerebella.data.lerobot_info import parse_summary
from cerebella.data.statistics import PictureStatistics, RunningStatistics, Summary
from cerebella.data.video import VideoEncoder, VideoEncoding
from cerebella.types import ImageArray

RECORDING = "recording"


@dataclass(frozen=True)
class StagedEpisode:
    """A finished episode that is not part of the shared files yet."""

    directory: Path
    index: int
    length: int
    tasks: Mapping[int, str]
    stats: Mapping[str, Summary]

    @property
    def data(self) -> Path:
        """Its rows."""
        return self.directory / "data.parquet"

    def video(self, feature: str) -> Path:
        """Its video of one feature."""
        return self.directory / f"{feature}.mp4"


@dataclass(frozen=True)
class EpisodeRows:
    """The rows of one episode, n frames.

    Args:
        columns: feature -> numbers [n, *shape], or a list of n texts or embedded pictures; no video, no book-keeping.
        timestamps: float32[n], seconds from the episode's start. tasks: the instruction at each frame.
        picture_stats: statistics of the features that hold pictures.
    """

    columns: Mapping[str, NDArray[Any] | Sequence[Any]]
    timestamps: NDArray[np.float32]
    tasks: Sequence[str]
    picture_stats: Mapping[str, Summary]


class EpisodeRecording:
    """The episode that frames are being added to.

    Args:
        directory: of the set. index: of this episode. first_frame: global index of its first frame.
        features: what every frame must hold, book-keeping left out.
    """

    def __init__(
        self,
        directory: Path,
        index: int,
        first_frame: int,
        fps: float,
        features: Mapping[str, Feature],
        encoding: VideoEncoding,
    ) -> None:
        self._partial = unfinished_directory(directory, index)
        self._index, self._first_frame, self._fps = index, first_frame, fps
        self._features = features
        self._rows: dict[str, list[Any]] = {name: [] for name, f in features.items() if f.dtype != "video"}
        self._tasks: list[str] = []
        self._pictures = {name: PictureStatistics() for name, f in features.items() if f.is_picture}
        self._encoders = {
            name: VideoEncoder(self._partial / f"{name}.mp4", f.shape[0], f.shape[1], fps, encoding)
            for name, f in features.items()
            if f.dtype == "video"
        }

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, frame: Mapping[str, Any], task: str) -> None:
        """Append one checked frame (`check_frame`)."""
        for name, feature in self._features.items():
            if feature.dtype == "video":
                self._encoders[name].add(frame[name])
            elif feature.dtype == "image":
                self._rows[name].append({"bytes": _png(frame[name]), "path": f"frame-{len(self):06d}.png"})
            elif feature.dtype == "string":
                self._rows[name].append(str(frame[name]))
            else:
                self._rows[name].append(np.array(frame[name], dtype=feature.dtype).reshape(feature.shape))
            if feature.is_picture:
                self._pictures[name].update(frame[name])
        self._tasks.append(task)

    def save(self, known_tasks: Mapping[str, int]) -> StagedEpisode:
        """Finish it. New tasks get the next numbers after the known ones."""
        for encoder in self._encoders.values():
            encoder.close()
        columns = {
            name: values if self._features[name].dtype in ("string", "image") else np.stack(values)
            for name, values in self._rows.items()
        }
        stats = {name: running.summary() for name, running in self._pictures.items()}
        timestamps = (np.arange(len(self)) / self._fps).astype(np.float32)
        rows = EpisodeRows(columns, timestamps, self._tasks, stats)
        return stage_episode(self._partial, rows, self._features, self._index, self._first_frame, known_tasks)

    def discard(self) -> None:
        """Forget it."""
        for encoder in self._encoders.values():
            encoder.close()
        shutil.rmtree(self._partial, ignore_errors=True)


def stage_episode(
    partial: Path,
    rows: EpisodeRows,
    features: Mapping[str, Feature],
    index: int,
    first_frame: int,
    known_tasks: Mapping[str, int],
) -> StagedEpisode:
    """Write an episode's rows beside its videos into its unfinished directory, then let the finished one appear.

    Args:
        index, first_frame: number of the episode, and of its first frame, in the set.
        known_tasks: task -> number; new ones get the next numbers.
    """
    task_index = dict(known_tasks)
    for task in rows.tasks:
        task_index.setdefault(task, len(task_index))
    length = len(rows.timestamps)
    columns: dict[str, NDArray[Any] | Sequence[Any]] = {
        **rows.columns,
        "timestamp": rows.timestamps,
        "frame_index": np.arange(length),
        "episode_index": np.full(length, index),
        "index": np.arange(first_frame, first_frame + length),
        "task_index": np.asarray([task_index[task] for task in rows.tasks], dtype=np.int64),
    }
    stats, lists = dict(rows.picture_stats), {name: list(values) for name, values in columns.items()}
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and values.dtype != object:
            stats[name] = numeric_summary(values)
            is_scalar = values[0].size == 1 and values.ndim <= 2
            lists[name] = values.reshape(length).tolist() if is_scalar else values.tolist()
    table = pa.table(lists, schema=data_schema(features))
    pq.write_table(table, partial / "data.parquet", compression="snappy", row_group_size=length)
    used = {str(task_index[task]): task for task in dict.fromkeys(rows.tasks)}
    content = {"episode_index": index, "length": length, "tasks": used, "stats": stats_json(stats)}
    (partial / "episode.json").write_text(json.dumps(content), encoding="utf-8")
    for path in partial.iterdir():
        sync(path)
    sync(partial)
    final = partial.with_name(partial.name.removesuffix(PARTIAL))
    os.rename(partial, final)
    sync(final.parent)
    return read_staged(final)


def check_frame(frame: Mapping[str, Any], features: Mapping[str, Feature]) -> None:
    """Raise a ValueError unless a frame holds every feature, nothing else, in its shape and type, and finite."""
    missing, unknown = [n for n in features if n not in frame], [n for n in frame if n not in features]
    if missing or unknown:
        raise ValueError(
            f"a frame must hold {', '.join(features)}; it lacks {missing or 'none'} and also holds {unknown or 'none'}"
        )
    for name, feature in features.items():
        value = frame[name]
        if feature.dtype == "string":
            if not isinstance(value, str):
                raise ValueError(f"{name!r} must be text; got a {type(value).__name__}")
            continue
        array = np.asarray(value)
        wanted = "uint8" if feature.is_picture else feature.dtype
        fits = array.dtype == np.uint8 if feature.is_picture else np.can_cast(array.dtype, wanted, "same_kind")
        is_scalar = feature.shape in ((), (1,)) and array.shape in ((), (1,))
        if not fits or not (is_scalar or array.shape == feature.shape):
            raise ValueError(f"{name!r} must be {wanted}{list(feature.shape)}; got {array.dtype}{list(array.shape)}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name!r} must be finite; got {array.tolist()}")


def unfinished_directory(directory: Path, index: int) -> Path:
    """A new, empty directory for an episode that is not finished yet."""
    path = directory / RECORDING / f"episode-{index:06d}{PARTIAL}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def read_staged(directory: Path) -> StagedEpisode:
    """A finished episode from its directory."""
    path = directory / "episode.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    return StagedEpisode(
        directory=directory,
        index=int(content["episode_index"]),
        length=int(content["length"]),
        tasks={int(index): str(text) for index, text in content["tasks"].items()},
        stats={name: parse_summary(path, entry) for name, entry in content["stats"].items()},
    )


def staged_episodes(directory: Path) -> list[StagedEpisode]:
    """All finished episodes of a set that are not part of its shared files yet, in order."""
    return [
        read_staged(path)
        for path in sorted((directory / RECORDING).glob("episode-*"))
        if not path.name.endswith(PARTIAL)
    ]


def numeric_summary(array: NDArray[Any]) -> Summary:
    """Statistics of one episode's column [length, *shape]."""
    running = RunningStatistics(array.shape[1:])
    running.update(array)
    return running.summary()


def _png(image: ImageArray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
