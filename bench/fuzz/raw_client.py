"""The client's end of each transport, written by hand so that it can also break the rules."""

import os
import socket
import struct

TIMEOUT_S = 30.0
_LINGER_RESET = struct.pack("ii", 1, 0)
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10


class Ended(Exception):
    """The server has ended the connection."""


class RawClient:
    """One connection: whole messages, or any bytes.

    Args:
        port: on the loopback interface.
        is_websocket: framing; else each message goes behind its length in 4 bytes, big-endian.
    """

    def __init__(self, port: int, is_websocket: bool) -> None:
        self._is_websocket = is_websocket
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)  # leave no ports behind
        self._buffer = b""
        if is_websocket:
            self._shake_hands(port)

    def close(self) -> None:
        """Reset the connection."""
        self._socket.close()

    def send(self, message: bytes) -> None:
        """One whole message."""
        self.send_bytes(self.frame(message))

    def send_bytes(self, data: bytes) -> None:
        """Anything."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Ended from None

    def frame(self, message: bytes, opcode: int = _BINARY) -> bytes:
        """A message as it goes over the wire; a websocket's mask is zero, which leaves the payload as it is."""
        if not self._is_websocket:
            return struct.pack(">I", len(message)) + message
        size = len(message)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 1 << 16:
            length = b"\xfe" + struct.pack(">H", size)
        else:
            length = b"\xff" + struct.pack(">Q", size)
        return bytes([0x80 | opcode]) + length + bytes(4) + message

    def receive(self) -> bytes:
        """The next message. Text is passed over: where a server of ours sends some, it ends the connection next.

        Raises:
            Ended: the server has ended the connection. TimeoutError: it does neither.
        """
        if not self._is_websocket:
            (size,) = struct.unpack(">I", self._take(4))
            return self._take(size)
        while True:
            first, second = self._take(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", self._take(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self._take(8))
            payload = self._take(size)
            opcode = first & 0x0F
            if opcode == _CLOSE:
                raise Ended
            if opcode == _PING:
                self.send_bytes(self.frame(payload, _PONG))
            elif opcode == _BINARY:
                return payload

    def _shake_hands(self, port: int) -> None:
        key = os.urandom(16).hex()[:22] + "=="
        self.send_bytes(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._read_more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(f"the server refuses a websocket: {head[:100]!r}")

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._read_more()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _read_more(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            raise Ended from None
        if not data:
            raise Ended
        self._buffer += data
