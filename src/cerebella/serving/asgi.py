"""A `Service` as an ASGI application, for servers that own the sockets themselves (Ray Serve runs one per replica).

The same limits, health pages and orderly end as `server.Server`; what belongs to the socket (TLS, pings, the cap on the
size of a frame) is the outer server's.
"""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from websockets.datastructures import Headers
from websockets.frames import CloseCode

from cerebella.serving.access import is_authorized
from cerebella.serving.dialect import Dialect, HttpAnswer
from cerebella.serving.errors import PeerGone, Reason
from cerebella.serving.peers import SocketPeer
from cerebella.serving.server import ServerConfig
from cerebella.serving.service import Service

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)

_NO_TOKEN = HttpAnswer(401, "a token is needed: Authorization: Api-Key TOKEN\n")


class AsgiPeer(SocketPeer):
    """A websocket that has been accepted, as ASGI shows it. See `SocketPeer` for the time-outs."""

    def __init__(self, receive: Receive, send: Send, config: ServerConfig, on_reject: Callable[[Reason], None]) -> None:
        super().__init__(config.idle_timeout_s, config.write_timeout_s, on_reject)
        self._max_message_bytes = config.max_message_bytes
        self._from_peer = receive
        self._to_peer = send
        self._is_open = True
        self._turn = asyncio.Lock()

    async def receive(self) -> bytes | str:
        """See `Peer.receive`."""
        if not self._is_open:
            raise PeerGone("left")
        event = await self._read(self._from_peer())
        if event["type"] == "websocket.disconnect":
            self._is_open = False
            raise PeerGone("left")
        data = event.get("bytes")
        message: bytes | str = event.get("text", "") if data is None else data
        if len(message) > self._max_message_bytes:
            self._on_reject("size")
            await self.close(CloseCode.MESSAGE_TOO_BIG, f"at most {self._max_message_bytes} bytes")
            raise PeerGone("sent a message that is too large")
        return message

    async def send(self, message: bytes | str) -> None:
        """See `Peer.send`."""
        async with self._turn:
            if not self._is_open:
                raise PeerGone("left")
            kind = "text" if isinstance(message, str) else "bytes"
            try:
                await self._write(self._to_peer({"type": "websocket.send", kind: message}))
            except (OSError, RuntimeError):  # how ASGI servers report a peer that left between two events
                self._is_open = False
                raise PeerGone("left") from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """See `Peer.close`."""
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(OSError, RuntimeError):  # it left first
                await self._to_peer({"type": "websocket.close", "code": int(code), "reason": reason})

    def abort(self) -> None:
        """Nothing more is sent; the connection ends when the application returns."""
        self._is_open = False


class AsgiApp:
    """One dialect over one service. Belongs to the event loop that calls it.

    Args:
        service: not warm yet; the outer server's start (ASGI `lifespan`) warms it up, its end closes it.
        dialect: a websocket dialect.
        config: `host`, `tls_*` and `drain_timeout_s` are the outer server's affair; the rest holds.
    """

    def __init__(self, service: Service, dialect: Dialect, config: ServerConfig) -> None:
        if dialect.framing != "websocket":
            raise ValueError(f"{dialect.name} is no websocket dialect; ASGI has no plain sockets")
        self._service = service
        self._dialect = dialect
        self._config = config
        self._peers: set[AsgiPeer] = set()

    @property
    def num_peers(self) -> int:
        """Open websockets."""
        return len(self._peers)

    def close_sessions(self) -> None:
        """Answer what is under way, then end every open connection with 1001, so that its client connects again."""
        for peer in self._peers:
            peer.drain()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await _respond(send, self._http(scope["path"], _headers(scope)))
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _websocket(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        headers = _headers(scope)
        if "Origin" in headers:  # a web page that some browser shows may not talk to robots
            return await self._refuse(scope, send, "unauthorized", HttpAnswer(403, "no web pages\n"))
        if not is_authorized(headers, self._config.token):
            return await self._refuse(scope, send, "unauthorized", _NO_TOKEN)
        if len(self._peers) >= self._config.max_connections:
            return await self._refuse(scope, send, "busy", HttpAnswer(503, "too many connections\n"))
        await send({"type": "websocket.accept"})
        peer = AsgiPeer(receive, send, self._config, lambda reason: self._service.reject(self._dialect.name, reason))
        await self._converse(peer)

    async def _refuse(self, scope: MutableMapping[str, Any], send: Send, reason: Reason, answer: HttpAnswer) -> None:
        """Answer the handshake with a status of ours, where the outer server can; else it answers 403 by itself."""
        self._service.reject(self._dialect.name, reason)
        if "websocket.http.response" in scope.get("extensions", {}):
            await _respond(send, answer, "websocket.http.response")
        else:
            await send({"type": "websocket.close", "code": int(CloseCode.POLICY_VIOLATION)})

    async def _converse(self, peer: AsgiPeer) -> None:
        """One connection from its first to its last frame."""
        self._peers.add(peer)
        self._service.metrics.connection(self._dialect.name, +1)
        try:
            await self._service.wait_until_warm()
            await self._dialect.serve(peer, self._service)
            await peer.close()
        except PeerGone as gone:
            if gone.is_draining:
                await peer.close(CloseCode.GOING_AWAY, "the server is shutting down")
        except Exception:  # the boundary of one connection: a fault in a dialect ends this connection, not the server
            error_id = secrets.token_hex(4)
            log.exception("error %s: a connection of the dialect %s failed", error_id, self._dialect.name)
            await peer.close(CloseCode.INTERNAL_ERROR, f"error {error_id}")
        finally:
            self._peers.discard(peer)
            self._service.metrics.connection(self._dialect.name, -1)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """The outer server starts, and waits for the policy to be warm; it ends, and waits for the inference thread."""
        await receive()  # lifespan.startup
        try:
            await self._service.warm_up()
        except Exception as error:  # the boundary to a foreign policy; the outer server says that it cannot start
            log.exception("the policy failed during the warm-up")
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await self._service.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _http(self, path: str, headers: Headers) -> HttpAnswer:
        """The answer to a plain GET."""
        service = self._service
        status = 200 if service.is_ready else 503
        if path == "/healthz":
            return HttpAnswer(status, "OK\n" if status == 200 else f"{service.state}\n")
        if path == "/health":
            body = {"status": "ok" if status == 200 else service.state, "policy_id": service.metadata.policy_id}
            return HttpAnswer(status, json.dumps(body), "application/json")
        if not is_authorized(headers, self._config.token):
            service.reject(self._dialect.name, "unauthorized")
            return _NO_TOKEN
        if path == "/metrics":
            return HttpAnswer(200, service.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
        return self._dialect.http(path, service) or HttpAnswer(404, "a policy server: connect with a websocket\n")


def _headers(scope: MutableMapping[str, Any]) -> Headers:
    headers = Headers()
    for name, value in scope["headers"]:
        headers[name.decode("latin-1")] = value.decode("latin-1")
    return headers


async def _respond(send: Send, answer: HttpAnswer, kind: str = "http.response") -> None:
    headers = [(b"content-type", answer.content_type.encode())]
    if answer.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="cerebella"'))
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": answer.body.encode()})
