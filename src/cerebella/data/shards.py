"""Shards: samples or conversations in tar files of some thousand records, on a disk or in object storage (fsspec).

For sets that are too large, too remote or too numerous in files to be read from videos. A directory, at any URL that
fsspec knows (`s3://`, `gs://`, `memory://`, a path), holds

    shards.json          what is in it: the number of records of every shard; written last, so a half written set has none
    shard-000000.tar     records (`shard_files`)
    shard-000000.index   little-endian int64[n + 1]: record i is the bytes [index[i], index[i + 1]) of the tar

Neighbouring records are read with one range request. A reader keeps one number per shard, and the indices of the shards it
reads now; every lane of a mixture has its own shards, so each rank reads its shard set only.
"""

import io
import json
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import fsspec
import numpy as np

from cerebella.data.episodes import DataFault
from cerebella.data.shard_files import PictureFormat, Record, append_record, read_records
from cerebella.data.sources import RobotGroup
from cerebella.data.windows import IndexArray, Run, WindowIndex
from cerebella.types import Conversation, Sample

_VERSION = 1
_KEPT_INDICES = 256


def write_shards(
    url: str, records: Iterable[Record], records_per_shard: int = 1024, picture_format: PictureFormat = "jpg"
) -> int:
    """Write a set of shards; returns the number of records. One shard at a time is in memory.

    Args:
        url: an empty or new directory. records: all samples of one robot type and control mode, or all conversations.

    Raises:
        ValueError: no record, records of two kinds or robots, a count below 1, or a directory that holds shards already.
    """
    if records_per_shard < 1:
        raise ValueError(f"records_per_shard must be 1 or more; got {records_per_shard}")
    filesystem, root = fsspec.core.url_to_fs(url)
    filesystem.makedirs(root, exist_ok=True)
    if any(str(path).endswith((".tar", "shards.json")) for path in filesystem.ls(root, detail=False)):
        raise ValueError(f"{url} holds shards already; choose another directory")
    counts: list[int] = []
    groups: set[RobotGroup | None] = set()
    waiting = iter(records)
    while chunk := list(islice(waiting, records_per_shard)):
        groups |= {_group(record) for record in chunk}
        if len(groups) > 1:
            kinds = sorted("conversations" if group is None else "/".join(group) for group in groups)
            raise ValueError(f"one set of shards has one kind of record; got {', '.join(kinds)}")
        content, offsets = _pack(chunk, sum(counts), picture_format)
        stem = f"{root}/{_shard_name(len(counts))}"
        filesystem.pipe_file(f"{stem}.tar", content)
        filesystem.pipe_file(f"{stem}.index", np.asarray(offsets, dtype="<i8").tobytes())
        counts.append(len(chunk))
    if not counts:
        raise ValueError(f"there is no record to write to {url}")
    (group,) = groups
    facts = {"version": _VERSION, "group": None if group is None else list(group), "num_records": counts}
    filesystem.pipe_file(f"{root}/shards.json", json.dumps(facts).encode())
    return sum(counts)


class ShardSource:
    """The records of some shards as a source of a mixture.

    Args:
        url: what `write_shards` wrote. run_length: records that are read with one request.
        name: the URL if not given. shards: numbers of the shards to read; all of them if not given.

    Raises:
        FileNotFoundError: there is no finished set of shards. ValueError: its description cannot be read.
    """

    def __init__(
        self, url: str, run_length: int = 64, name: str | None = None, shards: Sequence[int] | None = None
    ) -> None:
        self._filesystem, self._root = fsspec.core.url_to_fs(url)
        self.url, self.run_length, self.name = url, run_length, url if name is None else name
        group, counts = _read_facts(self._filesystem, self._root, url)
        self.group = group
        self.shards = tuple(range(len(counts)) if shards is None else shards)
        chosen = [counts[shard] for shard in self.shards]
        self.windows = WindowIndex(np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(chosen, dtype=np.int64)]))
        self._indices: OrderedDict[int, IndexArray] = OrderedDict()
        self._lock = threading.Lock()

    def part(self, lane: int, num_lanes: int) -> "ShardSource":
        """Every `num_lanes`-th shard: an epoch of a lane is its own shards once.

        Raises:
            ValueError: there are fewer shards than lanes.
        """
        if len(self.shards) < num_lanes:
            raise ValueError(
                f"{self.name} has {len(self.shards)} shards for {num_lanes} lanes; write more (smaller) shards"
            )
        return ShardSource(self.url, self.run_length, self.name, self.shards[lane::num_lanes])

    def read(self, run: Run) -> list[Sample] | list[Conversation]:
        """Neighbouring records of one shard, with one range request.

        Raises:
            DataFault: the shard is missing, cut off or damaged.
        """
        file = f"{self._root}/{_shard_name(self.shards[run.episode])}"
        offsets = self._index(run.episode, file)
        start, end = int(offsets[run.start]), int(offsets[run.start + run.length])
        try:
            content = self._filesystem.cat_file(f"{file}.tar", start=start, end=end)
        except OSError as error:
            raise DataFault("missing file", f"{file}.tar", None, f"cannot be read: {error}") from error
        if len(content) < end - start:
            detail = f"the bytes {start}..{end} end at {start + len(content)}"
            raise DataFault("wrong length", f"{file}.tar", None, detail)
        return read_records(content, run.length, f"{file}.tar")  # pyright: ignore[reportReturnType]  # one kind per set

    def _index(self, place: int, file: str) -> IndexArray:
        """Where the records of a shard begin; the newest are kept."""
        with self._lock:
            if place in self._indices:
                self._indices.move_to_end(place)
                return self._indices[place]
        try:
            content = self._filesystem.cat_file(f"{file}.index")
        except OSError as error:
            raise DataFault("missing file", f"{file}.index", None, f"cannot be read: {error}") from error
        wanted = int(np.diff(self.windows.offsets)[place]) + 1
        if len(content) != 8 * wanted:
            raise DataFault("wrong length", f"{file}.index", None, f"{len(content)} bytes instead of {8 * wanted}")
        offsets = np.frombuffer(content, dtype="<i8").astype(np.int64)
        with self._lock:
            self._indices[place] = offsets
            while len(self._indices) > _KEPT_INDICES:
                self._indices.popitem(last=False)
        return offsets


def _pack(records: Sequence[Record], first: int, picture_format: PictureFormat) -> tuple[bytes, list[int]]:
    """A shard's bytes, and where each record begins (and the last one ends)."""
    buffer = io.BytesIO()
    offsets = [0]
    with tarfile.open(fileobj=buffer, mode="w:") as archive:
        for number, record in enumerate(records, start=first):
            append_record(archive, f"{number:012d}", record, picture_format)
            offsets.append(archive.offset)
    return buffer.getvalue(), offsets


def _read_facts(filesystem: Any, root: str, url: str) -> tuple[RobotGroup | None, list[int]]:
    try:
        facts = json.loads(filesystem.cat_file(f"{root}/shards.json"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{url} has no shards.json: no shards, or a set that was not finished") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{url}/shards.json is damaged: {error}") from error
    if not isinstance(facts, dict) or facts.get("version") != _VERSION:
        raise ValueError(f"{url}/shards.json is not of version {_VERSION}; got {str(facts)[:100]}")
    group = facts["group"]
    return None if group is None else RobotGroup(*group), [int(count) for count in facts["num_records"]]


def _group(record: Record) -> RobotGroup | None:
    return RobotGroup(record.robot_type, record.control_mode) if isinstance(record, Sample) else None


def _shard_name(number: int) -> str:
    return f"shard-{number:06d}"
