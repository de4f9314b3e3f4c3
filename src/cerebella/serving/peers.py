"""Connections as a dialect sees them: whole messages, with size caps and time-outs."""

import asyncio
import secrets
import struct
from collections.abc import Awaitable, Callable
from typing import TypeVar

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from cerebella.serving.errors import PeerGone, Reason

T = TypeVar("T")

STREAM_LIMIT_BYTES = 1 << 20
"""A plain socket is read ahead by so much."""


class SocketPeer:
    """What both kinds of connection share: time-outs, and waking up when the server drains.

    Args:
        idle_timeout_s: a peer that sends no whole message for so long is dropped.
        write_timeout_s: a peer that does not take a message for so long is dropped.
        on_reject: told when a message is refused because of its size.
    """

    def __init__(self, idle_timeout_s: float, write_timeout_s: float, on_reject: Callable[[Reason], None]) -> None:
        self.id = secrets.token_hex(8)
        self._idle_timeout_s = idle_timeout_s
        self._write_timeout_s = write_timeout_s
        self._on_reject = on_reject
        self._is_draining = False
        self._receiving: asyncio.Timeout | None = None

    def drain(self) -> None:
        """From now on `receive` raises `PeerGone` at once, also where it waits already."""
        self._is_draining = True
        if self._receiving is not None:
            self._receiving.reschedule(asyncio.get_running_loop().time())

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the connection without waiting for anything."""
        raise NotImplementedError

    async def _read(self, message: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(0 if self._is_draining else self._idle_timeout_s) as self._receiving:
                return await message
        except TimeoutError:
            if self._is_draining:
                raise PeerGone("the server is shutting down", is_draining=True) from None
            await self.close(CloseCode.GOING_AWAY, f"nothing was sent for {self._idle_timeout_s:g} s")
            raise PeerGone("idle for too long") from None
        finally:
            self._receiving = None

    async def _write(self, sending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await sending
        except TimeoutError:
            self.abort()
            raise PeerGone("does not read what it is sent") from None


class WebsocketPeer(SocketPeer):
    """A websocket."""

    def __init__(
        self,
        connection: ServerConnection,
        idle_timeout_s: float,
        write_timeout_s: float,
        on_reject: Callable[[Reason], None],
    ) -> None:
        super().__init__(idle_timeout_s, write_timeout_s, on_reject)
        self._connection = connection

    async def receive(self) -> bytes | str:
        """See `Peer.receive`."""
        try:
            return await self._read(self._connection.recv())
        except ConnectionClosed as closed:
            if closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                self._on_reject("size")
            raise PeerGone("left") from None

    async def send(self, message: bytes | str) -> None:
        """See `Peer.send`."""
        try:
            await self._write(self._connection.send(message))
        except ConnectionClosed:
            raise PeerGone("left") from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """See `Peer.close`."""
        await self._connection.close(code, reason)

    def abort(self) -> None:
        """See `SocketPeer.abort`."""
        self._connection.transport.abort()


class LengthPrefixPeer(SocketPeer):
    """A plain TCP (or TLS) socket: each message behind its length in 4 bytes, big-endian."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        max_message_bytes: int,
        idle_timeout_s: float,
        write_timeout_s: float,
        on_reject: Callable[[Reason], None],
    ) -> None:
        super().__init__(idle_timeout_s, write_timeout_s, on_reject)
        self._reader = reader
        self._writer = writer
        self._max_message_bytes = max_message_bytes

    async def receive(self) -> bytes:
        """See `Peer.receive`."""
        try:
            return await self._read(self._read_message())
        except (asyncio.IncompleteReadError, OSError):
            raise PeerGone("left") from None

    async def send(self, message: bytes | str) -> None:
        """See `Peer.send`."""
        if self._writer.is_closing():
            raise PeerGone("left")
        data = message.encode() if isinstance(message, str) else message
        self._writer.write(struct.pack(">I", len(data)) + data)
        try:
            await self._write(self._writer.drain())
        except OSError:
            raise PeerGone("left") from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """See `Peer.close`; what was written is sent first."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            self.abort()

    def abort(self) -> None:
        """See `SocketPeer.abort`."""
        self._writer.transport.abort()

    async def _read_message(self) -> bytes:
        (size,) = struct.unpack(">I", await self._reader.readexactly(4))
        if size > self._max_message_bytes:
            self._on_reject("size")
            self.abort()
            raise PeerGone(f"announced a message of {size} bytes; at most {self._max_message_bytes} are accepted")
        return await self._reader.readexactly(size)
