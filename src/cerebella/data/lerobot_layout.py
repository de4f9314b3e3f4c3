"""Where each episode of a LeRobotDataset lies: one file per episode (v2.x), or rows and seconds of shared files (v3.0).

Only numbers per episode are held, never per frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cerebella.data.episodes import DataFault
from cerebella.data.lerobot_info import LEGACY_EPISODES, LeRobotInfo, one_line, read_json_lines

EPISODES = "meta/episodes"


@dataclass(frozen=True)
class VideoPlace:
    """A video file, and the second at which the episode starts in it."""

    path: Path
    start_s: float


@dataclass(frozen=True)
class Place:
    """Where one episode lies: rows [first_row, first_row + length) of a parquet file."""

    length: int
    tasks: tuple[str, ...]
    data: Path
    first_row: int
    videos: Mapping[str, VideoPlace]


class Layout(Protocol):
    """The episodes of a set, in order."""

    def __len__(self) -> int:
        """Number of episodes."""
        ...

    def place(self, index: int) -> Place:
        """Where episode `index` lies; 0 <= index < len."""
        ...


def read_layout(directory: Path, info: LeRobotInfo) -> Layout:
    """The layout of a set of any version.

    Raises:
        DataFault: the metadata of the episodes are missing, broken, or not numbered 0, 1, 2, ...
    """
    return _SharedFiles(directory, info) if info.version == "v3.0" else _OneFileEach(directory, info)


class _OneFileEach:
    """v2.0 and v2.1."""

    def __init__(self, directory: Path, info: LeRobotInfo) -> None:
        self._directory, self._info = directory, info
        path = directory / LEGACY_EPISODES
        lengths: list[int] = []
        self._tasks: list[tuple[str, ...]] = []
        known: dict[tuple[str, ...], tuple[str, ...]] = {}
        for line in read_json_lines(path):
            try:
                index, length, tasks = int(line["episode_index"]), int(line["length"]), line.get("tasks", [])
            except (KeyError, TypeError, ValueError) as error:
                raise DataFault(
                    "metadata", path, len(lengths), f"episode_index or length is missing: {error}"
                ) from error
            _check_order(path, index, len(lengths))
            texts = tuple(str(task) for task in tasks)
            lengths.append(length)
            self._tasks.append(known.setdefault(texts, texts))
        self._lengths = np.asarray(lengths, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._lengths)

    def place(self, index: int) -> Place:
        info, chunk = self._info, index // self._info.chunks_size
        videos = {
            key: VideoPlace(
                self._directory / info.video_path.format(episode_chunk=chunk, video_key=key, episode_index=index), 0.0
            )
            for key in info.videos
        }
        data = self._directory / info.data_path.format(episode_chunk=chunk, episode_index=index)
        return Place(int(self._lengths[index]), self._tasks[index], data, 0, videos)


class _SharedFiles:
    """v3.0: the numbers of `meta/episodes`, without the statistics in it."""

    def __init__(self, directory: Path, info: LeRobotInfo) -> None:
        self._directory, self._info = directory, info
        paths = episode_files(directory)
        wanted = ["episode_index", "tasks", "length", "dataset_from_index", "data/chunk_index", "data/file_index"]
        for key in info.videos:
            wanted += [f"videos/{key}/{field}" for field in ("chunk_index", "file_index", "from_timestamp")]
        tables = [_read_columns(path, wanted) for path in paths]
        table = pa.concat_tables(tables) if tables else None
        self._numbers: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {}
        self._tasks = table.column("tasks").combine_chunks() if table is not None else None
        for name in wanted:
            if name != "tasks" and table is not None:
                self._numbers[name] = table.column(name).to_numpy()
        for row, index in enumerate(self._numbers.get("episode_index", [])):
            _check_order(directory / EPISODES, int(index), row)
        self._file_starts = self._first_rows() if table is not None else {}

    def __len__(self) -> int:
        return len(self._numbers["length"]) if self._numbers else 0

    def place(self, index: int) -> Place:
        assert self._tasks is not None
        info, file = self._info, self._file(index, "data")
        videos: dict[str, VideoPlace] = {}
        for key in info.videos:
            chunk_index, file_index = self._file(index, f"videos/{key}")
            path = info.video_path.format(video_key=key, chunk_index=chunk_index, file_index=file_index)
            start_s = float(self._numbers[f"videos/{key}/from_timestamp"][index])
            videos[key] = VideoPlace(self._directory / path, start_s)
        return Place(
            length=int(self._numbers["length"][index]),
            tasks=tuple(str(task) for task in self._tasks[index].as_py() or ()),
            data=self._directory / info.data_path.format(chunk_index=file[0], file_index=file[1]),
            first_row=int(self._numbers["dataset_from_index"][index]) - self._file_starts[file],
            videos=videos,
        )

    def _file(self, index: int, what: str) -> tuple[int, int]:
        chunk, file = self._numbers[f"{what}/chunk_index"][index], self._numbers[f"{what}/file_index"][index]
        return int(chunk), int(file)

    def _first_rows(self) -> dict[tuple[int, int], int]:
        """The global index of the first row in each data file."""
        starts: dict[tuple[int, int], int] = {}
        for index in range(len(self)):
            first = int(self._numbers["dataset_from_index"][index])
            file = self._file(index, "data")
            starts[file] = min(first, starts.get(file, first))
        return starts


def episode_files(directory: Path) -> list[Path]:
    """The files of `meta/episodes` in order."""
    return sorted((directory / EPISODES).glob("chunk-*/file-*.parquet"))


def _read_columns(path: Path, wanted: list[str]) -> pa.Table:
    try:
        file = pq.ParquetFile(path)
        missing = [name for name in wanted if name not in file.schema_arrow.names]
        if missing:
            raise DataFault("metadata", path, None, f"it lacks the columns {missing}")
        return file.read(wanted).select(wanted)
    except (pa.ArrowException, OSError) as error:
        raise DataFault("truncated parquet", path, None, one_line(error)) from error


def _check_order(path: Path, index: int, row: int) -> None:
    if index != row:
        raise DataFault("metadata", path, row, f"row {row} says episode_index {index}; episodes must be 0, 1, 2, ...")
