"""The messages of a recording as Protocol Buffers: their schemas, and plain fields to bytes and back.

Protocol Buffers because viewers decode them without a plug-in (Foxglove and rerun draw `float` fields and show
`foxglove.CompressedImage`; of JSON messages rerun 0.41 shows only the bytes), and because a `repeated float` is a float32
vector bit by bit. Each schema travels inside the file, so that a reader needs nothing else.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.message import DecodeError, Message

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "fixed64": _Field.TYPE_FIXED64,
    "float": _Field.TYPE_FLOAT,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
}
_TIMESTAMP = "google.protobuf.Timestamp"

PICTURE = "foxglove.CompressedImage"
OBSERVATION = "cerebella.Observation"
REPLY = "cerebella.Reply"
TICK = "cerebella.Tick"
REQUEST = "cerebella.Request"
EVENT = "cerebella.Event"
FILTERED = "cerebella.Filtered"
END = "cerebella.End"

SCHEMAS: dict[str, tuple[str, ...]] = {
    # the interface that viewers know: https://docs.foxglove.dev/docs/visualization/message-schemas/compressed-image
    PICTURE: (f"1 {_TIMESTAMP} timestamp", "4 string frame_id", "2 bytes data", "3 string format"),
    "cerebella.Camera": (
        "1 string view",
        "2 int64 height",
        "3 int64 width",
        "4 fixed64 digest",
        "5 bool is_stored",
    ),
    "cerebella.Taxels": ("1 string finger", "2 repeated float values"),
    OBSERVATION: (
        "1 int64 tick",
        "2 double timestamp_s",
        "3 double now_s",
        "4 string prompt",
        "5 repeated float state",
        "6 repeated cerebella.Camera cameras",
        "7 repeated cerebella.Taxels tactile",
    ),
    REPLY: (
        "1 int64 tick",
        "2 double phase",
        "3 int64 request_id",
        "4 bool is_error",
        "5 string error",
        "6 int64 horizon",
        "7 repeated float actions",
        "8 int64 start_tick",
        "9 int64 observation_tick",
        "10 int64 prefix_length",
        "11 string policy_id",
        "12 double duration_s",
    ),
    TICK: (
        "1 int64 tick",
        "2 int64 control_tick",
        "3 double phase",
        "4 string state",
        "5 repeated float values",
        "6 repeated float raw",
        "7 int64 chunk_id",
        "8 int64 row",
        "9 int64 observation_tick",
        "10 bool is_promised",
        "11 double sent_s",
        "12 string prompt",
    ),
    REQUEST: (
        "1 int64 id",
        "2 int64 observation_tick",
        "3 double submitted_s",
        "4 int64 num_promised_rows",
        "5 repeated float action_prefix",
        "6 int64 promised_delay",
        "7 int64 arrival_tick",
        "8 int64 num_ticks_waited",
        "9 double consumed",
        "10 string outcome",
        "11 string reason",
        "12 double duration_s",
        "13 bool is_bridged",
        "14 bool is_broken",
        "15 bool is_guided",
    ),
    EVENT: ("1 int64 tick", "2 string name", "3 string details"),
    FILTERED: (
        "1 int64 tick",
        "2 repeated float values",
        "3 bool is_takeover",
        "4 int64 remaining_ticks",
        "5 string reason",
    ),
    END: (
        "1 int64 num_records",
        "2 int64 num_lost_records",
        "3 int64 num_dropped_pictures",
        "4 string reason",
    ),
}
"""Message name -> its fields, each `number [repeated] type name`. Details of an event are JSON text."""


def pack(name: str, fields: Mapping[str, Any]) -> bytes:
    """Fields to bytes. Vectors are lists of numbers, messages inside a message are mappings.

    Raises:
        ValueError, TypeError: a field is unknown or of another type.
    """
    return _message_class(name)(**fields).SerializeToString()


def unpack(name: str, data: bytes) -> Any:
    """Bytes to a message whose attributes are its fields; a field that is absent is 0, false or empty.

    Raises:
        ValueError: these bytes are no such message.
    """
    try:
        return _message_class(name).FromString(data)
    except DecodeError as error:
        raise ValueError(f"not a {name}: {error}") from error


def schema_bytes(name: str) -> bytes:
    """The schema as it travels in a file: a serialised `FileDescriptorSet` with all that it refers to."""
    files = {file.name: file for file in _files()}
    wanted, queue = [], [_file_name(name)]
    while queue:
        file = files[queue.pop()]
        if file not in wanted:
            wanted.append(file)
            queue.extend(file.dependency)
    return descriptor_pb2.FileDescriptorSet(file=reversed(wanted)).SerializeToString()


@cache
def _message_class(name: str) -> type[Message]:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in _files():
        pool.Add(file)
    return pool


@cache
def _files() -> tuple[descriptor_pb2.FileDescriptorProto, ...]:
    """One descriptor per message, each after those it depends on."""
    timestamp = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(timestamp)
    return (timestamp, *(_file(name, fields) for name, fields in SCHEMAS.items()))


def _file(name: str, fields: tuple[str, ...]) -> descriptor_pb2.FileDescriptorProto:
    package, _, short = name.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(name=_file_name(name), package=package, syntax="proto3")
    message = file.message_type.add(name=short)
    for line in fields:
        number, *label, kind, field_name = line.split()
        field = message.field.add(name=field_name, number=int(number))
        field.label = _Field.LABEL_REPEATED if label else _Field.LABEL_OPTIONAL
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type, field.type_name = _Field.TYPE_MESSAGE, f".{kind}"
            file.dependency.append(_file_name(kind))
    return file


def _file_name(message: str) -> str:
    return "google/protobuf/timestamp.proto" if message == _TIMESTAMP else f"{message.replace('.', '/')}.proto"
