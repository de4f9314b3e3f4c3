"""The messages of an MCAP file one after the other, also of a file whose writer was killed."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Message, Metadata, Schema
from mcap.stream_reader import breakup_chunk
from mcap.writer import MCAP0_MAGIC

_HEAD = struct.Struct("<BQ")  # opcode and length of every record
_DAMAGE = (McapError, struct.error, UnicodeDecodeError, ValueError, zstandard.ZstdError, OverflowError, MemoryError)
"""What the parsers raise for bytes that are no record; the last two for lengths that nothing could have."""


@dataclass(frozen=True)
class StoredMessage:
    """A message with its place: `sequence` counts all messages of a recording from 0."""

    topic: str
    schema: str
    sequence: int
    time_ns: int
    data: bytes


@dataclass
class FileState:
    """What `messages` found out while it read.

    Args:
        is_finished: the file has its end; false while, or after, its writer was killed.
        num_bytes: size of the file. num_bytes_read: up to which it is whole.
        metadata: MCAP metadata records by name.
    """

    is_finished: bool
    num_bytes: int
    num_bytes_read: int
    metadata: dict[str, dict[str, str]]


def open_state(path: Path) -> FileState:
    """A state to hand to `messages`.

    Raises:
        FileNotFoundError: there is no such file. ValueError: not MCAP.
    """
    num_bytes = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(len(MCAP0_MAGIC))
        if head != MCAP0_MAGIC:
            raise ValueError(f"{path} is no MCAP file: it begins with {head!r}")
        stream.seek(max(len(head), num_bytes - len(MCAP0_MAGIC)))
        is_finished = stream.read() == MCAP0_MAGIC
    return FileState(is_finished, num_bytes, len(MCAP0_MAGIC), {})


def messages(path: Path, state: FileState) -> Iterator[StoredMessage]:
    """All messages in the order of the file; fills `state` as it goes.

    A file without an end is read up to the last record that is whole.

    Raises:
        ValueError: a file that has its end is damaged; names the file and the byte.
    """
    channels: dict[int, Channel] = {}
    schemas: dict[int, Schema] = {}
    with path.open("rb") as stream:
        stream.seek(state.num_bytes_read)
        while head := stream.read(_HEAD.size):
            if len(head) < _HEAD.size:
                return
            opcode, length = _HEAD.unpack(head)
            if opcode == Opcode.DATA_END and state.is_finished:
                state.num_bytes_read = state.num_bytes
                return
            if opcode == 0 or stream.tell() + length > state.num_bytes:
                if state.is_finished:
                    raise ValueError(f"{path} is damaged at byte {state.num_bytes_read}: a record has no valid length")
                return
            body = stream.read(length)
            try:
                found = list(_records(opcode, body))
            except _DAMAGE as error:
                if state.is_finished:
                    raise ValueError(f"{path} is damaged at byte {state.num_bytes_read}: {error}") from error
                return
            state.num_bytes_read = stream.tell()
            for record in found:
                if isinstance(record, Metadata):
                    state.metadata[record.name] = record.metadata
                elif isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    channels[record.id] = record
                elif isinstance(record, Message):
                    channel = channels.get(record.channel_id)
                    if channel is None or channel.schema_id not in schemas:
                        raise ValueError(
                            f"{path} is damaged: channel {record.channel_id} of a message was never described"
                        )
                    schema = schemas[channel.schema_id].name
                    yield StoredMessage(channel.topic, schema, record.sequence, record.log_time, record.data)


def _records(opcode: int, body: bytes) -> Iterator[object]:
    """What a record of the file holds, as far as it matters here."""
    stream = ReadDataStream(io.BytesIO(body))
    if opcode == Opcode.CHUNK:
        yield from breakup_chunk(Chunk.read(stream), validate_crc=True)
    elif opcode == Opcode.METADATA:
        yield Metadata.read(stream)
