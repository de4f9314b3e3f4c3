"""A LeRobotDataset (v3.0, v2.1, v2.0) as an `EpisodeStore`: one row range and one frame range at a time."""

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cerebella.data.episodes import Columns, DataFault, EpisodeInfo, Feature, check_episode, check_range
from cerebella.data.lerobot_info import LeRobotInfo, one_line, read_info, read_stats, read_tasks
from cerebella.data.lerobot_layout import Place, read_layout
from cerebella.data.statistics import Summary
from cerebella.data.video import decode_range
from cerebella.types import ImageArray

_OPEN_FILES = 32


class LeRobotStore:
    """Reads a LeRobotDataset directory. Fulfils `EpisodeStore`.

    Raises:
        FileNotFoundError: this is no LeRobotDataset. DataFault: its metadata are broken. ValueError: another version.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.info: LeRobotInfo = read_info(self.directory)
        if any((self.directory / "recording").glob("episode-*")):
            raise ValueError(
                f"{self.directory} is still being written, or its writer was killed: finished episodes wait in recording/. "
                "`cerebella data recover` adds them"
            )
        self.layout = read_layout(self.directory, self.info)
        self._tasks = read_tasks(self.directory, self.info.version) if len(self.layout) else {}

    @property
    def name(self) -> str:
        """The directory."""
        return str(self.directory)

    @property
    def robot_type(self) -> str:
        """As `meta/info.json` says."""
        return self.info.robot_type

    @property
    def fps(self) -> float:
        """As `meta/info.json` says."""
        return self.info.fps

    @property
    def features(self) -> Mapping[str, Feature]:
        """All features; book-keeping columns are scalars."""
        return self.info.features

    @property
    def tasks(self) -> Mapping[int, str]:
        """Task index -> instruction."""
        return self._tasks

    def __len__(self) -> int:
        return len(self.layout)

    def episode(self, index: int) -> EpisodeInfo:
        """Length and instructions of one episode."""
        place = self.place(index)
        return EpisodeInfo(index, place.length, place.tasks, self.fps)

    def place(self, index: int) -> Place:
        """Where one episode lies on disk."""
        check_episode(self, index)
        return self.layout.place(index)

    def stats(self) -> dict[str, Summary]:
        """The stored statistics of the set (`data.stats` measures them anew). Empty where the set has none."""
        return read_stats(self.directory, self.info.version)

    def columns(self, index: int, names: Sequence[str] | None = None) -> Columns:
        """Low-dimensional columns of one episode, [length, *shape], in the dtypes that the features declare."""
        known = [name for name, feature in self.features.items() if _is_column(feature)]
        chosen = known if names is None else list(names)
        if unknown := [name for name in chosen if name not in known]:
            raise DataFault(
                "missing column", self.name, index, f"no column {unknown[0]!r}; columns: {', '.join(known)}"
            )
        table, file = self.table(index, chosen), self.place(index).data
        return {name: _array(table.column(name), self.features[name], file, index, name) for name in chosen}

    def frames(self, index: int, feature: str, start: int, stop: int) -> ImageArray:
        """Pictures of the frames [start, stop), uint8[stop - start, h, w, 3] RGB. Video: one seek, then a run."""
        check_range(self, index, feature, start, stop)
        place, described = self.place(index), self.features[feature]
        if described.dtype == "video":
            video = place.videos[feature]
            frames = decode_range(video.path, video.start_s + start / self.fps, stop - start, self.fps, index)
            file = video.path
        else:
            stored = self.table(index, [feature]).column(feature).slice(start, stop - start)
            frames, file = (
                np.stack([self._picture(entry, place.data, index) for entry in stored.to_pylist()]),
                place.data,
            )
        if frames.shape[1:] != described.shape:
            detail = f"{feature!r} is {list(frames.shape[1:])} (height, width, channels); it should be {list(described.shape)}"
            raise DataFault("wrong shape", file, index, detail)
        return frames

    def table(self, index: int, names: Sequence[str]) -> pa.Table:
        """The rows of one episode as stored, with the columns `names`; reads only the row groups that they are in."""
        place = self.place(index)
        if not place.length:
            raise DataFault("empty episode", place.data, index, "it has no frame")
        if not place.data.is_file():
            raise DataFault("missing file", place.data, index, "there is no such file")
        wanted = list(dict.fromkeys((*names, "episode_index")))
        try:
            file = pq.ParquetFile(place.data, metadata=_metadata(place.data))
            if missing := [name for name in wanted if name not in file.schema_arrow.names]:
                detail = f"it lacks the column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}"
                raise DataFault("missing column", place.data, index, detail)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            last = place.first_row + place.length
            if not len(ends) or last > ends[-1]:
                detail = f"rows {place.first_row}..{last - 1} are wanted; the file has {int(sum(sizes))}"
                raise DataFault("wrong length", place.data, index, detail)
            first_group, last_group = np.searchsorted(ends, [place.first_row, last - 1], side="right")
            table = file.read_row_groups(
                range(int(first_group), int(last_group) + 1), columns=wanted, use_threads=False
            )
        except (pa.ArrowException, OSError) as error:
            raise DataFault("truncated parquet", place.data, index, one_line(error)) from error
        table = table.slice(place.first_row - (int(ends[first_group]) - sizes[first_group]), place.length)
        owners = table.column("episode_index").to_numpy()
        if (owners != index).any():
            detail = f"its rows belong to the episodes {sorted({int(owner) for owner in owners})}"
            raise DataFault("wrong length", place.data, index, detail)
        return table

    def _picture(self, entry: Mapping[str, Any] | None, file: Path, index: int) -> ImageArray:
        """An embedded picture, or the file that stands for it."""
        entry = entry or {}
        try:
            source = io.BytesIO(entry["bytes"]) if entry.get("bytes") else self.directory / str(entry.get("path"))
            with Image.open(source) as picture:
                return np.asarray(picture.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise DataFault("corrupt video", file, index, f"a picture cannot be decoded: {one_line(error)}") from error


def _is_column(feature: Feature) -> bool:
    return feature.dtype == "string" or (not feature.is_picture and _is_numeric(feature.dtype))


def _is_numeric(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "biuf"
    except TypeError:
        return False


def _metadata(path: Path) -> pq.FileMetaData:
    status = path.stat()
    return _read_metadata(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=_OPEN_FILES)
def _read_metadata(path: str, _modified_ns: int, _size: int) -> pq.FileMetaData:
    return pq.read_metadata(path)


def _array(column: pa.ChunkedArray, feature: Feature, file: Path, index: int, name: str) -> NDArray[Any]:
    """[length, *shape] from a column of numbers, (nested) lists of numbers, or text."""
    length = len(column)
    if feature.dtype == "string":
        texts = np.empty(length, dtype=object)
        texts[:] = [entry[0] if isinstance(entry, list) else entry for entry in column.to_pylist()]
        return texts
    values = column.combine_chunks()
    while pa.types.is_nested(values.type):
        values = values.flatten()
    wanted = (length, *feature.shape)
    if values.null_count or len(values) != int(np.prod(wanted)):
        detail = f"{name!r} has {len(values)} numbers ({values.null_count} missing) in {length} frames; wanted {list(wanted)}"
        raise DataFault("wrong shape", file, index, detail)
    return values.to_numpy(zero_copy_only=False).reshape(wanted).astype(feature.dtype, copy=False)
