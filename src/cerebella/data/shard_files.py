"""Samples and conversations as members of tar shards, and back: the file format, without any order or transport.

A record is a few members with one key, so that WebDataset's tools read the shards as well:

    00000017.json        kind, and everything that is text
    00000017.npz         of a sample: state float32, actions float32, is_valid bool
    00000017.base.jpg    one picture per view (of a conversation: 00000017.0.jpg, 00000017.1.jpg, ...)
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image

from cerebella.data.episodes import DataFault
from cerebella.types import Conversation, ImageArray, Sample

PictureFormat = Literal["jpg", "png"]
Record = Sample | Conversation
_ARRAYS = ("state", "actions", "is_valid")


def append_record(archive: tarfile.TarFile, key: str, record: Record, picture_format: PictureFormat) -> None:
    """Add one record's members. `jpg` (quality 95) is smaller, `png` keeps every pixel."""
    if isinstance(record, Sample):
        pictures: Mapping[str, ImageArray] = record.images
        facts: dict[str, Any] = {
            "kind": "sample",
            "prompt": record.prompt,
            "robot_type": record.robot_type,
            "control_mode": record.control_mode,
            "num_committed": record.num_committed,
        }
    else:
        pictures = {str(i): image for i, image in enumerate(record.images)}
        facts = {"kind": "conversation", "turns": record.turns, "source": record.source}
    names = {name: f"{name}.{picture_format}" for name in pictures}
    _add(archive, f"{key}.json", json.dumps({**facts, "pictures": names}, ensure_ascii=False).encode())
    if isinstance(record, Sample):
        buffer = io.BytesIO()
        np.savez(buffer, **{name: getattr(record, name) for name in _ARRAYS})
        _add(archive, f"{key}.npz", buffer.getvalue())
    for name, image in pictures.items():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "jpeg" if picture_format == "jpg" else "png", quality=95)
        _add(archive, f"{key}.{names[name]}", buffer.getvalue())


def read_records(content: bytes, num_records: int, file: str) -> list[Record]:
    """The records in a piece of a shard that begins with a record and ends with one.

    Args:
        file: for messages.

    Raises:
        DataFault: fewer records than stated, a missing member, or one that cannot be read.
    """
    records: list[Record] = []
    try:
        for members in _grouped(content):
            records.append(_record(members))
    except (tarfile.TarError, zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError) as error:
        raise DataFault("metadata", file, None, f"after {len(records)} of {num_records} records: {error!r}") from error
    if len(records) != num_records:
        raise DataFault("wrong length", file, None, f"{len(records)} whole records instead of {num_records}")
    return records


def _grouped(content: bytes) -> Iterator[dict[str, bytes]]:
    """{suffix: bytes} of each record."""
    key, members = "", dict[str, bytes]()
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None:
                raise tarfile.ReadError(f"{member.name} is no file")
            name, suffix = member.name.split(".", 1)
            if name != key and members:
                yield members
                members = {}
            key = name
            members[suffix] = file.read()
            if len(members[suffix]) != member.size:
                raise tarfile.ReadError(f"{member.name} is cut off")
    if members:
        yield members


def _record(members: Mapping[str, bytes]) -> Record:
    facts = json.loads(members["json"])
    pictures = {name: _picture(members[member]) for name, member in facts["pictures"].items()}
    if facts["kind"] == "conversation":
        turns = tuple((role, text) for role, text in facts["turns"])
        return Conversation(tuple(pictures[str(i)] for i in range(len(pictures))), turns, facts["source"])
    if facts["kind"] != "sample":
        raise ValueError(f"kind {facts['kind']!r}; known kinds: sample, conversation")
    with np.load(io.BytesIO(members["npz"]), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in _ARRAYS}
    texts = {name: facts[name] for name in ("prompt", "robot_type", "control_mode", "num_committed")}
    return Sample(images=pictures, **arrays, **texts)


def _picture(content: bytes) -> ImageArray:
    with Image.open(io.BytesIO(content)) as image:
        return np.array(image.convert("RGB"))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
