"""The file of a recording: MCAP, one channel per kind of record, written so that a killed process loses one second.

Layout: a metadata record `cerebella` with the header, then chunks (zstd) of messages in the order in which things
happened, then the index. Each flush ends a chunk and hands it to the disk. Topics: `/observation`, `/reply`, `/request`,
`/tick`, `/event`, `/filtered`, `/note`, `/camera/VIEW`, and `/end`, which a killed recording lacks.
"""

import contextlib
import os
from pathlib import Path

from mcap.writer import CompressionType, Writer

from cerebella.runtime.recording.messages import (
    END,
    EVENT,
    FILTERED,
    OBSERVATION,
    PICTURE,
    REPLY,
    REQUEST,
    TICK,
    pack,
    schema_bytes,
)

METADATA_NAME = "cerebella"
CAMERA_TOPIC = "/camera/"
CLOSED = "closed"
"""The reason in `/end` of a recording that holds everything."""
TOPICS = {
    "/observation": OBSERVATION,
    "/reply": REPLY,
    "/request": REQUEST,
    "/tick": TICK,
    "/event": EVENT,
    "/filtered": FILTERED,
    "/note": EVENT,
    "/end": END,
}
"""Topic -> message; the topics of cameras are `/camera/VIEW`."""
_CHUNK_BYTES = 1024 * 1024


class McapFile:
    """Appends messages. One thread at a time.

    Args:
        path: must not exist yet. header: its JSON text.

    Raises:
        FileExistsError: there is a file already; a recording is never overwritten.
    """

    def __init__(self, path: Path, header: str) -> None:
        self._stream = path.open("xb")
        self._writer = Writer(self._stream, chunk_size=_CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._writer.start(library="cerebella")
        self._writer.add_metadata(METADATA_NAME, {"header": header})
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._last_ns = 0
        self.num_messages = 0
        self.flush()

    def add(self, topic: str, data: bytes, time_ns: int) -> None:
        """Append a message; its time is moved up to the last one's, so that times in a file never run backwards."""
        self._last_ns = max(self._last_ns, time_ns)
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._channels[topic] = self._register(topic)
        self._writer.add_message(channel, self._last_ns, data, self._last_ns, sequence=self.num_messages)
        self.num_messages += 1

    def flush(self) -> None:
        """End the chunk and wait until the disk has it."""
        self._writer.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Write the index."""
        self._writer.finish()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def abandon(self) -> None:
        """Let go of the file after a fault, without an index."""
        with contextlib.suppress(OSError):  # the fault again: closing tries to write what is left
            self._stream.close()

    def _register(self, topic: str) -> int:
        message = PICTURE if topic.startswith(CAMERA_TOPIC) else TOPICS[topic]
        if message not in self._schemas:
            self._schemas[message] = self._writer.register_schema(message, "protobuf", schema_bytes(message))
        return self._writer.register_channel(topic, "protobuf", self._schemas[message])


def encode_end(num_records: int, num_lost_records: int, num_dropped_pictures: int, reason: str) -> bytes:
    """The last message of a recording that was closed."""
    return pack(
        END,
        {
            "num_records": num_records,
            "num_lost_records": num_lost_records,
            "num_dropped_pictures": num_dropped_pictures,
            "reason": reason,
        },
    )
