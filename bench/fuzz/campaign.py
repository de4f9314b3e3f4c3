"""Hostile messages to one port, one after the other, and a good client in between.

Whatever is sent, the server must answer or end the connection, in time; a good client must then get the right actions;
nothing may be executed.
"""

import contextlib
import pickle
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
import numpy as np

from cerebella.serving.arrays import unpack
from cerebella.serving.npz import unpack_npz

from .messages import STATE, Messages, valid_messages
from .raw_client import Ended, RawClient
from .server_process import MAX_MESSAGE_BYTES, echo
from .trees import packed

NUM_HALF_OPEN = 8
"""Connections in the middle of a frame that are kept open beside the others."""


@dataclass
class Outcome:
    """What came of a campaign against one dialect."""

    num_sent: Counter[str] = field(default_factory=Counter)
    num_answered: int = 0
    num_ended: int = 0
    num_checks: int = 0
    duration_s: float = 0.0


class Campaign:
    """Sends the messages of one stream to one server.

    Args:
        dialect: see `messages.DIALECTS`. port: of that dialect, on the loopback interface.
        seed: decides every message. canary: file that an executed pickle creates.
    """

    def __init__(self, dialect: str, port: int, seed: int, canary: Path) -> None:
        self.outcome = Outcome()
        self._dialect = dialect
        self._port = port
        self._canary = canary
        self._messages = Messages(dialect, seed, canary)
        self._is_websocket = dialect in ("openpi", "vla_eval")
        self._client: RawClient | None = None
        self._half_open: deque[RawClient] = deque()
        self._num_marks = 0

    def run(self, num_messages: int, batch: int, between: Callable[[], None]) -> Outcome:
        """Send everything; after each batch check, and call `between`.

        Raises:
            AssertionError: a wrong answer to the good client, or something was executed. TimeoutError: no reaction.
        """
        start_s = time.monotonic()
        for number in range(1, num_messages + 1):
            category = self._messages.category()
            self._send(category)
            self.outcome.num_sent[category] += 1
            if number % batch == 0 or number == num_messages:
                self._check()
                between()
        for client in (*self._half_open, *([self._client] if self._client else [])):
            client.close()
        self.outcome.duration_s = time.monotonic() - start_s
        return self.outcome

    def _send(self, category: str) -> None:
        if category == "half frame":
            client = self._connect()
            self._half_open.append(client)
            if len(self._half_open) > NUM_HALF_OPEN:
                self._half_open.popleft().close()
            with contextlib.suppress(Ended):
                client.send_bytes(self._messages.half_frame())
            return
        if self._client is None:
            self._client = self._connect()
        try:
            if category == "oversized":
                self._client.send(bytes(MAX_MESSAGE_BYTES + 1))
            else:
                self._client.send(self._messages.message(category))
            self._await_reaction(self._client)
            self.outcome.num_answered += 1
        except Ended:
            self.outcome.num_ended += 1
            self._client.close()
            self._client = None

    def _await_reaction(self, client: RawClient) -> None:
        """Until the message has been dealt with. vla_eval leaves some unanswered, so a question follows each there."""
        if self._dialect != "vla_eval":
            client.receive()
            return
        self._num_marks += 1
        hello = {"type": "hello", "payload": {"protocol_version": 1}, "seq": self._num_marks, "timestamp": 0.0}
        client.send(packed(hello))
        while True:
            answer = msgpack.unpackb(client.receive())
            if answer["type"] == "hello" and answer["seq"] == self._num_marks:
                return

    def _connect(self) -> RawClient:
        client = RawClient(self._port, self._is_websocket)
        if self._dialect == "openpi":
            client.receive()  # the server speaks first
        return client

    def _check(self) -> None:
        """A good client gets the right actions, and the canary is not there."""
        client = self._connect()
        client.send(valid_messages(self._dialect)[1 if self._dialect == "openpi" else 0])
        actions = _actions(self._dialect, client.receive())
        client.close()
        expected = echo(STATE)
        if self._dialect == "vla_eval":
            expected = expected[0]
        assert np.array_equal(actions, expected), f"{self._dialect}: {actions} instead of {expected}"
        assert not self._canary.exists(), f"{self._dialect}: something in a message was executed"
        self.outcome.num_checks += 1


def _actions(dialect: str, answer: bytes) -> np.ndarray:
    if dialect == "xiaomi_npz":
        return unpack_npz(answer, 1 << 20)["actions"][0]
    if dialect == "xiaomi_pickle":  # the pickle of torch.tensor(rows); torch is not needed to look at the rows
        start = answer.index(b"tensor\n") + len(b"tensor\n")
        rows = pickle.loads(b"\x80\x02" + answer[start:-3] + b".")
        return np.array(rows[0], dtype=np.float32)[:, :7]
    fields = unpack(answer)
    return fields["actions"] if dialect == "openpi" else fields["payload"]["actions"]
