"""A policy whose answers tell what it was asked, a robot for it, and a socket client for the length-prefixed dialects."""

import socket
import struct
import threading
from types import TracebackType

import numpy as np

from cerebella.interfaces import PolicyMetadata
from cerebella.released_robots import released_embodiment
from cerebella.types import ActionChunk, FloatArray, Observation

HORIZON = 6
STATE = np.linspace(-0.5, 0.5, 8).astype(np.float32)
PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
PATIENCE_S = 20.0


class EchoPolicy:
    """Row i is the first seven numbers of the state, plus i; the rows of a prefix come first. Keeps what it was asked.

    Args:
        robot: robot type of a released checkpoint.

    Attributes:
        asked: observation and prefix of each inference.
        is_open: cleared, inferences wait until it is set.
    """

    def __init__(self, robot: str = "libero_all") -> None:
        self.metadata = PolicyMetadata("echo", released_embodiment(robot), HORIZON, None, HORIZON - 1, "none")
        self.asked: list[tuple[Observation, FloatArray]] = []
        self.is_open = threading.Event()
        self.is_open.set()

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        assert self.is_open.wait(PATIENCE_S)
        self.asked.append((observation, action_prefix))
        actions = expected_actions(observation.state)
        actions[: len(action_prefix)] = action_prefix
        return ActionChunk(actions, observation.tick, observation.tick, len(action_prefix), "echo", 0.0)


def expected_actions(state: np.ndarray) -> FloatArray:
    rows = np.arange(HORIZON, dtype=np.float32)[:, None]
    return (np.asarray(state, dtype=np.float32).reshape(-1)[:7] + rows).astype(np.float32)


class SocketClient:
    """Messages behind their length in 4 bytes, big-endian."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("tcp://").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)

    def __enter__(self) -> "SocketClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, message: bytes) -> None:
        self.socket.sendall(struct.pack(">I", len(message)) + message)

    def receive(self) -> bytes | None:
        """The next message; None if the server has ended the connection."""
        head = self._read(4)
        return None if head is None else self._read(struct.unpack(">I", head)[0])

    def _read(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            try:
                packet = self.socket.recv(size - len(data))
            except ConnectionResetError:
                return None
            if not packet:
                return None
            data += packet
        return data
