"""A byte stream cut into the units that a fault can hit: what was read at once, or one websocket frame.

RFC 6455 section 5.2. Payloads stay masked: cutting, flipping bits and growing mean the same with and without the mask.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

Framing = Literal["bytes", "websocket"]
_HEAD_END = b"\r\n\r\n"
_DATA_OPCODES = (0x0, 0x1, 0x2)


@dataclass(frozen=True)
class Unit:
    """Something that goes through the proxy as a whole.

    Args:
        payload: what a fault may change.
        first_byte: of a websocket frame (flags and opcode); -1: plain bytes.
        mask: the four bytes of a masked frame, else empty.
        may_fail: false for the handshake and for control frames, which pass untouched.
    """

    payload: bytes
    first_byte: int = -1
    mask: bytes = b""
    may_fail: bool = True

    def encode(self) -> bytes:
        """The bytes on the wire, with a length that fits the payload."""
        if self.first_byte < 0:
            return self.payload
        length, mask_bit = len(self.payload), 0x80 if self.mask else 0
        if length < 126:
            head = struct.pack("!BB", self.first_byte, mask_bit | length)
        elif length < 1 << 16:
            head = struct.pack("!BBH", self.first_byte, mask_bit | 126, length)
        else:
            head = struct.pack("!BBQ", self.first_byte, mask_bit | 127, length)
        return head + self.mask + self.payload


class Splitter(Protocol):
    """Bytes in, whole units out; keeps what is not whole yet."""

    def feed(self, data: bytes) -> Iterator[Unit]:
        """The units that these bytes complete."""
        ...


class ByteSplitter:
    """Every read is a unit."""

    def feed(self, data: bytes) -> Iterator[Unit]:
        """These bytes."""
        yield Unit(data)


class WebsocketSplitter:
    """The HTTP head, then frames. A connection that is not upgraded (a health check) passes as bytes, untouched."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._state: Literal["head", "frames", "plain"] = "head"

    def feed(self, data: bytes) -> Iterator[Unit]:
        """The head, then each frame that is complete."""
        self._buffer += data
        if self._state == "head" and _HEAD_END in self._buffer:
            head = self._take(self._buffer.index(_HEAD_END) + len(_HEAD_END))
            self._state = "frames" if b"upgrade: websocket" in head.lower() else "plain"
            yield Unit(head, may_fail=False)
        if self._state == "plain" and self._buffer:
            yield Unit(self._take(len(self._buffer)), may_fail=False)
        while self._state == "frames" and (unit := self._next_frame()) is not None:
            yield unit

    def _next_frame(self) -> Unit | None:
        if len(self._buffer) < 2:
            return None
        first_byte, second_byte = self._buffer[0], self._buffer[1]
        length, start = second_byte & 0x7F, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, start = int.from_bytes(self._buffer[2 : 2 + size], "big"), 2 + size
        num_mask_bytes = 4 if second_byte & 0x80 else 0
        if len(self._buffer) < start + num_mask_bytes + length:
            return None
        self._take(start)
        mask = self._take(num_mask_bytes)
        return Unit(self._take(length), first_byte, mask, first_byte & 0x0F in _DATA_OPCODES)

    def _take(self, num_bytes: int) -> bytes:
        taken = bytes(self._buffer[:num_bytes])
        del self._buffer[:num_bytes]
        return taken
