"""What a wire dialect is: it reads messages from one peer, asks the service, and writes answers.

A dialect holds no policy, no thread and no socket option. Size caps, time-outs, tokens, TLS, warm-up and draining are done
around it: `serve` runs once per connection, after the policy is warm, and ends by returning or by raising `PeerGone`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from cerebella.serving.service import Service


class Peer(Protocol):
    """One connection as a dialect sees it: whole messages in and out."""

    @property
    def id(self) -> str:
        """Unique in this server; the first half of every session key."""
        ...

    async def receive(self) -> bytes | str:
        """The next message.

        Raises:
            PeerGone: it left, sent nothing for too long, sent a message beyond the size cap, or the server is draining.
        """
        ...

    async def send(self, message: bytes | str) -> None:
        """Write one message; waits while the peer reads slower than we write. Calls from several tasks do not mix.

        Raises:
            PeerGone: it left, or did not read for longer than the write time-out.
        """
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection; codes as in a websocket (a plain socket just ends)."""
        ...


@dataclass(frozen=True)
class HttpAnswer:
    """The answer to a plain HTTP GET on a websocket port."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


class Dialect:
    """Base class of the dialects: a name, a framing, and `serve`.

    Attributes:
        name: label in metrics and logs.
        framing: `websocket`, or `length_prefix`: TCP, each message behind its length in 4 bytes, big-endian.
        pings: whether a websocket that answers no ping for a minute is dropped.
    """

    name: ClassVar[str]
    framing: ClassVar[Literal["websocket", "length_prefix"]] = "websocket"
    pings: ClassVar[bool] = True

    async def serve(self, peer: Peer, service: Service) -> None:
        """Talk to one peer until one side has had enough. See the module's text for how it may end."""
        raise NotImplementedError

    def http(self, path: str, service: Service) -> HttpAnswer | None:
        """The answer to GET `path` beyond /healthz, /health and /metrics; None if this dialect has none there."""
        return None
