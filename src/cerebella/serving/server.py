"""Sockets around a `Service`: one port per dialect, health, metrics, limits, and an orderly end.

Plain HTTP GET on every websocket port: `/healthz` (200 once warm, 503 before, while shutting down, and when the policy is
stuck), `/health` (the same as JSON), `/metrics` (Prometheus; needs the token if there is one). A websocket that connects
during the warm-up is kept waiting for its first frame, so that clients need not try again.
"""

import asyncio
import http
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from websockets.asyncio.server import Server as WebsocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from cerebella.serving.access import check_exposure, is_authorized, is_loopback, tls_context
from cerebella.serving.dialect import Dialect, HttpAnswer
from cerebella.serving.errors import PeerGone
from cerebella.serving.peers import STREAM_LIMIT_BYTES, LengthPrefixPeer, SocketPeer, WebsocketPeer
from cerebella.serving.service import Service

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerConfig:
    """Sockets and limits.

    Args:
        host: address to listen on; one that other machines can reach needs a token.
        token: what clients must send; None for none. Not shown when printed.
        tls_certificate, tls_key: PEM files; both or none.
        max_message_bytes: a larger message ends its connection. max_connections: over all dialects.
        idle_timeout_s, write_timeout_s: a peer that sends, or takes, nothing for so long is dropped.
        drain_timeout_s: how long the end waits for answers under way.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    max_message_bytes: int = 64 << 20
    max_connections: int = 64
    idle_timeout_s: float = 600.0
    write_timeout_s: float = 5.0
    drain_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        check_exposure(self.host, self.token)
        for name in ("max_message_bytes", "max_connections", "idle_timeout_s", "write_timeout_s", "drain_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0; got {getattr(self, name)}")


class Server:
    """Listens until `stop`. Belongs to one event loop.

    Args:
        service: warmed up by the caller, before or after `start`; closed by `stop`.
        listeners: dialect -> port; 0 picks a free one.
        config: sockets and limits.

    Raises:
        ValueError: a dialect on a plain socket, which cannot carry a token, for other machines; TLS files that do not fit.
    """

    def __init__(self, service: Service, listeners: Mapping[Dialect, int], config: ServerConfig | None = None) -> None:
        self.config = config or ServerConfig()
        self._service = service
        self._listeners = dict(listeners)
        self._tls = tls_context(self.config.tls_certificate, self.config.tls_key)
        for dialect in self._listeners:
            if dialect.framing == "length_prefix" and not is_loopback(self.config.host):
                raise ValueError(
                    f"{dialect.name} has no place for a token, so it is served on loopback only; host is {self.config.host!r}"
                )
        if not self._tls and not is_loopback(self.config.host):
            log.warning("host %s without TLS: the token and all pictures travel in the clear", self.config.host)
        self._sockets: list[asyncio.Server | WebsocketServer] = []
        self._peers: dict[SocketPeer, asyncio.Task[None]] = {}
        self.ports: dict[str, int] = {}
        """Dialect -> port, after `start`."""

    async def start(self) -> None:
        """Open all sockets.

        Raises:
            OSError: a port is taken; then none is open.
        """
        try:
            for dialect, port in self._listeners.items():
                listening = await (
                    self._websocket(dialect, port) if dialect.framing == "websocket" else self._plain(dialect, port)
                )
                self._sockets.append(listening)
                self.ports[dialect.name] = next(iter(listening.sockets)).getsockname()[1]
        except OSError:
            await self.stop()
            raise

    def address(self, dialect: str) -> str:
        """URL or host:port that a client connects to."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        framing = next(known.framing for known in self._listeners if known.name == dialect)
        scheme = {"websocket": "wss" if self._tls else "ws", "length_prefix": "tls" if self._tls else "tcp"}[framing]
        return f"{scheme}://{host}:{self.ports[dialect]}"

    async def stop(self) -> None:
        """Accept nothing more, answer what is under way, close every connection with 1001. May be called twice."""
        self._service.drain()
        for listening in self._sockets:
            if isinstance(listening, WebsocketServer):
                listening.close(close_connections=False)
            else:
                listening.close()
        for peer in self._peers:
            peer.drain()
        if tasks := list(self._peers.values()):
            _, late = await asyncio.wait(tasks, timeout=self.config.drain_timeout_s)
            for peer, task in list(self._peers.items()):
                if task in late:
                    log.warning("a connection did not end within %g s and is cut off", self.config.drain_timeout_s)
                    peer.abort()
                    task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)
        await self._service.close()

    async def _websocket(self, dialect: Dialect, port: int) -> WebsocketServer:
        config = self.config

        async def handle(connection: ServerConnection) -> None:
            await self._converse(
                dialect,
                WebsocketPeer(
                    connection,
                    config.idle_timeout_s,
                    config.write_timeout_s,
                    lambda reason: self._service.reject(dialect.name, reason),
                ),
            )

        return await serve(
            handle,
            config.host,
            port,
            ssl=self._tls,
            origins=[None],  # a web page that some browser on this machine shows may not talk to robots
            process_request=lambda connection, request: self._http(dialect, connection, request),
            server_header=None,
            compression=None,
            max_size=config.max_message_bytes,
            max_queue=2,
            open_timeout=10.0,
            ping_interval=20.0 if dialect.pings else None,
            ping_timeout=60.0,
            close_timeout=min(5.0, config.drain_timeout_s),
            logger=_quiet_logger(),
        )

    async def _plain(self, dialect: Dialect, port: int) -> asyncio.Server:
        config = self.config

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = LengthPrefixPeer(
                reader,
                writer,
                config.max_message_bytes,
                config.idle_timeout_s,
                config.write_timeout_s,
                lambda reason: self._service.reject(dialect.name, reason),
            )
            try:
                await self._converse(dialect, peer)
            finally:
                await peer.close()

        return await asyncio.start_server(handle, config.host, port, ssl=self._tls, limit=STREAM_LIMIT_BYTES)

    async def _converse(self, dialect: Dialect, peer: WebsocketPeer | LengthPrefixPeer) -> None:
        """One connection from its first to its last frame."""
        if len(self._peers) >= self.config.max_connections:
            self._service.reject(dialect.name, "busy")
            await peer.close(CloseCode.TRY_AGAIN_LATER, "too many connections")
            return
        task = asyncio.current_task()
        assert task is not None
        self._peers[peer] = task
        self._service.metrics.connection(dialect.name, +1)
        try:
            await self._service.wait_until_warm()
            await dialect.serve(peer, self._service)
        except PeerGone as gone:
            if gone.is_draining:
                await peer.close(CloseCode.GOING_AWAY, "the server is shutting down")
        except Exception:  # the boundary of one connection: a fault in a dialect ends this connection, not the server
            error_id = secrets.token_hex(4)
            log.exception("error %s: a connection of the dialect %s failed", error_id, dialect.name)
            await peer.close(CloseCode.INTERNAL_ERROR, f"error {error_id}")
        finally:
            del self._peers[peer]
            self._service.metrics.connection(dialect.name, -1)

    def _http(self, dialect: Dialect, connection: ServerConnection, request: Request) -> Response | None:
        """The answer to a plain GET; None lets the websocket handshake go on."""
        path = request.path.partition("?")[0]
        status = 200 if self._service.is_ready else 503
        if path == "/healthz":
            return _response(connection, HttpAnswer(status, "OK\n" if status == 200 else f"{self._service.state}\n"))
        if path == "/health":
            body = {
                "status": "ok" if status == 200 else self._service.state,
                "policy_id": self._service.metadata.policy_id,
            }
            return _response(connection, HttpAnswer(status, json.dumps(body), "application/json"))
        if not is_authorized(request.headers, self.config.token):
            self._service.reject(dialect.name, "unauthorized")
            response = _response(connection, HttpAnswer(401, "a token is needed: Authorization: Api-Key TOKEN\n"))
            response.headers["WWW-Authenticate"] = 'Bearer realm="cerebella"'
            return response
        if path == "/metrics":
            return _response(
                connection, HttpAnswer(200, self._service.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
            )
        if (answer := dialect.http(request.path, self._service)) is not None:
            return _response(connection, answer)
        if len(self._peers) >= self.config.max_connections:
            self._service.reject(dialect.name, "busy")
            return _response(connection, HttpAnswer(503, "too many connections\n"))
        return None


def _response(connection: ServerConnection, answer: HttpAnswer) -> Response:
    response = connection.respond(http.HTTPStatus(answer.status), answer.body)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = answer.content_type
    return response


def _quiet_logger() -> logging.Logger:
    """Handshakes that fail (port scans, wrong clients) are no errors of ours."""
    logger = logging.getLogger("cerebella.serving.websockets")
    logger.setLevel(logging.CRITICAL)
    return logger
