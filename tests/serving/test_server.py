"""Sockets: who is let in, what is refused, what a slow or greedy peer costs the others, and an orderly end."""

import asyncio
import http.client
import json
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cerebella.serving.arrays import pack, unpack
from cerebella.serving.background import BackgroundServer
from cerebella.serving.client import RemotePolicy
from cerebella.serving.dialect import Dialect, HttpAnswer, Peer
from cerebella.serving.openpi import OpenpiDialect
from cerebella.serving.server import Server, ServerConfig
from cerebella.serving.service import Service, ServiceConfig
from tests.runtime.tagged import make_metadata

from .gate import NO_PREFIX, WAIT_S, BatchPolicy, GatedPolicy, observed, wait_until

TLS = Path(__file__).parent / "tls"
TOKEN = "secret-token"


class LoudDialect(Dialect):
    """Plain socket: answers each message with itself, as often as its first byte says; `!` is a fault of the dialect."""

    name = "loud"
    framing: ClassVar[Literal["websocket", "length_prefix"]] = "length_prefix"

    async def serve(self, peer: Peer, service: Service) -> None:
        while True:
            message = await peer.receive()
            assert isinstance(message, bytes)
            if message == b"!":
                raise KeyError("a secret of the dialect")
            for _ in range(message[0]):
                await peer.send(message)


class PageDialect(OpenpiDialect):
    """Has a page of its own."""

    def http(self, path: str, service: Service) -> HttpAnswer | None:
        return HttpAnswer(200, path, "text/x-path") if path.startswith("/page") else None


def serving(policy: BatchPolicy | None = None, **config: Any) -> BackgroundServer:
    return BackgroundServer(policy or BatchPolicy(), {OpenpiDialect(): 0, LoudDialect(): 0}, ServerConfig(**config))


def get(server: BackgroundServer, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, body and content type of a plain GET."""
    client = http.client.HTTPConnection("127.0.0.1", server.server.ports["openpi"], timeout=WAIT_S)
    client.request("GET", path, headers=headers)
    answer = client.getresponse()
    body = answer.read().decode()
    client.close()
    return answer.status, body, answer.headers["Content-Type"]


def websocket(server: BackgroundServer, **options: Any) -> ClientConnection:
    options = {
        "compression": None,
        "max_size": None,
        "proxy": None,
        "open_timeout": WAIT_S,
        "close_timeout": 1.0,
    } | options
    return connect(server.address(), **options)


def answer_to(peer: ClientConnection) -> Any:
    frame = peer.recv(timeout=WAIT_S)
    assert isinstance(frame, bytes)
    return unpack(frame)


def plain(server: BackgroundServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server.ports["loud"]), timeout=WAIT_S)


def frame(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message


def read_frame(peer: socket.socket) -> bytes:
    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = peer.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    (size,) = struct.unpack(">I", exactly(4))
    return exactly(size)


def counted(server: BackgroundServer, line: str) -> bool:
    return line in server.service.metrics.text()


@pytest.fixture(scope="module")
def open_server() -> Iterator[BackgroundServer]:
    with serving(max_message_bytes=100_000) as server:
        yield server


def test_health_and_metrics(open_server: BackgroundServer) -> None:
    assert get(open_server, "/healthz") == (200, "OK\n", "text/plain; charset=utf-8")
    status, body, kind = get(open_server, "/health")
    assert (status, json.loads(body), kind) == (200, {"status": "ok", "policy_id": "tagged"}, "application/json")
    status, body, kind = get(open_server, "/metrics")
    assert status == 200
    assert "cerebella_ready 1.0" in body
    assert kind.startswith("text/plain; version=0.0.4")
    assert get(open_server, "/other")[0] == 426  # upgrade required


def test_a_dialect_may_have_pages() -> None:
    with BackgroundServer(BatchPolicy(), {PageDialect(): 0}) as server:
        assert get(server, "/page?n=3") == (200, "/page?n=3", "text/x-path")
        assert get(server, "/healthz")[0] == 200


def test_a_plain_socket_carries_messages(open_server: BackgroundServer) -> None:
    with plain(open_server) as peer:
        peer.sendall(frame(b"\x02hello") + frame(b"\x01you"))
        assert [read_frame(peer) for _ in range(3)] == [b"\x02hello", b"\x02hello", b"\x01you"]
    assert open_server.address("loud").startswith("tcp://127.0.0.1:")


def test_a_message_beyond_the_cap_ends_its_connection_and_no_other(open_server: BackgroundServer) -> None:
    with websocket(open_server) as other, websocket(open_server) as peer, plain(open_server) as raw:
        other.recv(timeout=WAIT_S)
        peer.recv(timeout=WAIT_S)
        with pytest.raises(ConnectionClosedError) as closed:  # noqa: PT012
            peer.send(bytes(100_001))
            peer.recv(timeout=WAIT_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        raw.sendall(struct.pack(">I", 100_001))
        with pytest.raises((EOFError, ConnectionResetError)):
            read_frame(raw)
        other.send(pack({"state": np.zeros(4), "prompt": "go"}))
        assert "actions" in answer_to(other)
    for dialect in ("openpi", "loud"):
        line = f'cerebella_rejected_messages_total{{dialect="{dialect}",reason="size"}} 1.0'
        wait_until(lambda line=line: counted(open_server, line))


def test_a_fault_of_a_dialect_ends_one_connection_without_telling_why(
    open_server: BackgroundServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "cerebella.serving"), plain(open_server) as peer:
        peer.sendall(frame(b"!"))
        with pytest.raises(EOFError):
            read_frame(peer)
    assert "a secret of the dialect" in caplog.text
    with plain(open_server) as peer:
        peer.sendall(frame(b"\x01on"))
        assert read_frame(peer) == b"\x01on"


def test_web_pages_may_not_connect(open_server: BackgroundServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        websocket(open_server, origin="http://127.0.0.1")
    assert refused.value.response.status_code == 403


def test_the_token_is_asked_for(open_server: BackgroundServer) -> None:
    with serving(token=TOKEN) as server:
        for options in ({}, {"additional_headers": {"Authorization": "Api-Key wrong-token"}}):
            with pytest.raises(InvalidStatus) as refused:
                websocket(server, **options)
            assert refused.value.response.status_code == 401
        assert get(server, "/metrics")[0] == 401
        assert get(server, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert get(server, "/healthz")[0] == 200
        assert counted(server, 'cerebella_rejected_messages_total{dialect="openpi",reason="unauthorized"} 3.0')
        with RemotePolicy(server.address(), token=TOKEN) as policy:
            assert policy.infer(observed(1), NO_PREFIX).horizon == 8
        url = server.address().replace("ws://", f"ws://robot:{TOKEN}@")  # for clients without an option for it
        with connect(url, proxy=None) as peer:
            assert answer_to(peer)["protocol_version"] == 1
    assert TOKEN not in repr(ServerConfig(token=TOKEN))


def test_tls() -> None:
    trust = ssl.create_default_context(cafile=TLS / "certificate.pem")
    with serving(tls_certificate=TLS / "certificate.pem", tls_key=TLS / "key.pem") as server:
        assert server.address().startswith("wss://127.0.0.1:")
        with RemotePolicy(server.address(), tls=trust) as policy:
            assert policy.infer(observed(3), NO_PREFIX).observation_tick == 3
        with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            RemotePolicy(server.address())
        with plain(server) as peer, trust.wrap_socket(peer, server_hostname="127.0.0.1") as secure:
            secure.sendall(frame(b"\x01on"))
            assert read_frame(secure) == b"\x01on"


def test_other_machines_are_not_served_by_accident() -> None:
    with pytest.raises(ValueError, match=r"'0.0.0.0' can be reached from other machines: set a token"):
        ServerConfig(host="0.0.0.0")
    config = ServerConfig(host="0.0.0.0", token=TOKEN)
    with pytest.raises(ValueError, match="loud has no place for a token, so it is served on loopback only"):
        Server(Service(BatchPolicy()), {LoudDialect(): 0}, config)


@pytest.mark.parametrize("name", ["max_message_bytes", "max_connections", "idle_timeout_s", "write_timeout_s"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        serving(None, **{name: 0})
    with pytest.raises(ValueError, match="max_batch must be above 0"):
        ServiceConfig(max_batch=0)


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = BackgroundServer(BatchPolicy(), {OpenpiDialect(): 0, LoudDialect(): taken.getsockname()[1]})
        with pytest.raises(OSError, match="in use"), server:
            pass


def test_nobody_is_served_before_the_policy_is_warm() -> None:
    policy = GatedPolicy()
    server = BackgroundServer(policy, {OpenpiDialect(): 0, LoudDialect(): 0}, wait_until_warm=False)
    with server, websocket(server) as peer:
        policy.wait_until_busy()
        assert get(server, "/healthz") == (503, "warming up\n", "text/plain; charset=utf-8")
        assert json.loads(get(server, "/health")[1])["status"] == "warming up"
        assert counted(server, "cerebella_ready 0.0")
        with pytest.raises(TimeoutError):
            peer.recv(timeout=0.2)
        policy.go(8)  # one inference per batch size
        assert answer_to(peer)["policy_id"] == "tagged"
        assert get(server, "/healthz")[0] == 200
    assert [len(batch) for batch in policy.batches] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_server_can_be_stopped_while_it_warms_up() -> None:
    policy = GatedPolicy()
    with BackgroundServer(policy, {OpenpiDialect(): 0}, wait_until_warm=False) as server, websocket(server) as peer:
        policy.wait_until_busy()
        server.stop()
        with pytest.raises(ConnectionClosed) as closed:
            peer.recv(timeout=WAIT_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    policy.go(100)


class BrokenPolicy(BatchPolicy):
    def infer_batch(self, observations: Any, prefixes: Any) -> Any:
        raise OSError("no memory")


def test_a_warm_up_that_fails_ends_the_server() -> None:
    with pytest.raises(OSError, match="no memory"), serving(BrokenPolicy()):
        pass


def test_a_policy_that_is_stuck_is_not_healthy() -> None:
    policy = GatedPolicy(num_free=8)
    config = ServiceConfig(max_inference_s=0.05)
    with BackgroundServer(policy, {OpenpiDialect(): 0}, service_config=config) as server, websocket(server) as peer:
        peer.recv(timeout=WAIT_S)
        peer.send(pack({"state": np.zeros(4), "prompt": "go"}))
        policy.wait_until_busy()
        wait_until(lambda: get(server, "/healthz")[:2] == (503, "stuck in one inference\n"))
        policy.go()
        peer.recv(timeout=WAIT_S)
        wait_until(lambda: get(server, "/healthz")[0] == 200)


def test_draining_answers_what_is_under_way_and_closes_with_1001() -> None:
    policy = GatedPolicy(num_free=8)
    with serving(policy) as server, websocket(server) as busy, websocket(server) as piped, websocket(server) as idle:
        for peer in (busy, piped, idle):
            peer.recv(timeout=WAIT_S)
        busy.send(pack({"state": np.zeros(4), "prompt": "go", "tick": 5}))
        policy.wait_until_busy()
        piped.send(pack({"state": np.zeros(4), "prompt": "go", "tick": 6, "seq": 60}))
        wait_until(lambda: server.service.num_open == 2)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with pytest.raises(ConnectionClosed) as closed:
            idle.recv(timeout=WAIT_S)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the server is shutting down")
        with pytest.raises(OSError, match="refused"):
            websocket(server)
        policy.go(2)
        assert answer_to(busy)["tick"] == 5
        assert answer_to(piped)["seq"] == 60
        for peer in (busy, piped):
            with pytest.raises(ConnectionClosed) as closed:
                peer.recv(timeout=WAIT_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        stopping.join(WAIT_S)
        assert not stopping.is_alive()


def test_draining_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    policy = GatedPolicy(num_free=8)
    with serving(policy, drain_timeout_s=0.2) as server, websocket(server) as peer:
        peer.recv(timeout=WAIT_S)
        peer.send(pack({"state": np.zeros(4), "prompt": "go"}))
        policy.wait_until_busy()
        threading.Timer(1.0, policy.go).start()
        server.stop()
        with pytest.raises(ConnectionClosed):
            peer.recv(timeout=WAIT_S)
    assert "is cut off" in caplog.text


def test_a_peer_that_says_nothing_is_dropped() -> None:
    with serving(idle_timeout_s=0.2) as server, websocket(server) as peer, plain(server) as raw:
        peer.recv(timeout=WAIT_S)
        with pytest.raises(ConnectionClosed) as closed:
            peer.recv(timeout=WAIT_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.reason == "nothing was sent for 0.2 s"
        raw.sendall(b"\x00\x00")  # half a length
        assert raw.recv(1) == b""


def test_a_slow_reader_is_dropped_and_delays_nobody() -> None:
    with serving(write_timeout_s=0.5) as server, plain(server) as greedy, RemotePolicy(server.address()) as robot:
        greedy.sendall(frame(b"\xff" + bytes(1 << 20)))  # asks for 255 MiB, and reads nothing
        wait_until(lambda: counted(server, 'cerebella_connections{dialect="loud"} 1.0'))
        durations_s = []
        for tick in range(50):
            started_s = time.monotonic()
            robot.infer(observed(tick), NO_PREFIX)
            durations_s.append(time.monotonic() - started_s)
        assert np.median(durations_s) < 0.1
        wait_until(lambda: counted(server, 'cerebella_connections{dialect="loud"} 0.0'))
        robot.infer(observed(99), NO_PREFIX)


def test_a_websocket_that_is_not_read_is_dropped_and_memory_stays() -> None:
    long_answers = BatchPolicy(make_metadata(4096, 4))
    with serving(long_answers, write_timeout_s=0.5) as server, plain_websocket(server) as greedy:
        request = pack({"state": np.zeros(4), "prompt": "go", "seq": 1})
        masked = b"\x82\xfe" + struct.pack(">H", len(request)) + bytes(4) + request  # a mask of zeros
        sent = 0
        with pytest.raises((ConnectionError, TimeoutError)):  # noqa: PT012
            while sent < 1 << 30:
                sent += greedy.send(masked * 100)
        wait_until(lambda: counted(server, 'cerebella_connections{dialect="openpi"} 0.0'), patience_s=120.0)
        wait_until(lambda: server.service.num_open == 0)


def plain_websocket(server: BackgroundServer) -> socket.socket:
    """A websocket by hand, whose user never reads after the handshake."""
    peer = socket.create_connection(("127.0.0.1", server.server.ports["openpi"]), timeout=WAIT_S)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.sendall(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert peer.recv(12) == b"HTTP/1.1 101"
    return peer


def test_there_are_only_so_many_connections() -> None:
    with serving(max_connections=2) as server, websocket(server) as first, plain(server) as second:
        first.recv(timeout=WAIT_S)
        second.sendall(frame(b"\x01a"))
        read_frame(second)
        with pytest.raises(InvalidStatus) as refused:
            websocket(server)
        assert refused.value.response.status_code == 503
        with plain(server) as third:
            assert third.recv(1) == b""
        first.close()
        wait_until(lambda: counted(server, 'cerebella_connections{dialect="openpi"} 0.0'))
        with RemotePolicy(server.address()) as robot:
            robot.infer(observed(1), NO_PREFIX)


def test_a_flood_of_clients_does_not_delay_a_robot() -> None:
    """Twenty clients ask as fast as they can, a hundred more come and go; one robot's answers stay quick."""
    with serving(max_connections=32) as server, RemotePolicy(server.address()) as robot:
        stop = threading.Event()
        flood = threading.Thread(target=lambda: asyncio.run(flood_of(server.address(), stop)))
        flood.start()
        wait_until(lambda: counted(server, 'cerebella_connections{dialect="openpi"} 21.0'))
        durations_s = []
        for tick in range(100):
            started_s = time.monotonic()
            robot.infer(observed(tick), NO_PREFIX)
            durations_s.append(time.monotonic() - started_s)
        stop.set()
        flood.join(WAIT_S)
    assert np.quantile(durations_s, 0.9) < 0.5


async def flood_of(url: str, stop: threading.Event) -> None:
    from websockets.asyncio.client import connect as connect_async

    async def ask_for_ever() -> None:
        async with connect_async(url, compression=None, proxy=None) as peer:
            await peer.recv()
            seq = 0
            while not stop.is_set():
                seq += 1
                await peer.send(pack({"state": np.zeros(4), "prompt": "go", "seq": seq}))
                await peer.recv()

    async def come_and_go() -> None:
        while not stop.is_set():
            try:
                async with connect_async(url, compression=None, proxy=None) as peer:
                    await peer.send(b"no message")
            except (ConnectionClosed, InvalidStatus, OSError):
                pass
            await asyncio.sleep(0.002)

    await asyncio.gather(*(ask_for_ever() for _ in range(20)), come_and_go())
