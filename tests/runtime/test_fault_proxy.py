"""The proxy against a real echo server: over plain sockets for the bytes, over websockets for whole messages."""

import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from cerebella.runtime.instruments.fault_proxy import FaultProxy
from cerebella.runtime.instruments.fault_rules import Fault, Rule
from cerebella.runtime.instruments.framing import Unit, WebsocketSplitter
from cerebella.runtime.instruments.processes import ServerProcess, frozen

TIMEOUT_S = 20.0
SHORT_S = 0.3


class EchoLines(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


@pytest.fixture(scope="module")
def line_server() -> Iterator[tuple[str, int]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), EchoLines) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield "127.0.0.1", server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def message_server() -> Iterator[tuple[str, int]]:
    def echo(connection: ServerConnection) -> None:
        try:
            for message in connection:
                connection.send(message)
        except ConnectionClosed:
            return

    with serve(echo, "127.0.0.1", 0, compression=None, max_size=1 << 20) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield "127.0.0.1", server.socket.getsockname()[1]
        server.shutdown()


def open_client(proxy: FaultProxy, max_size: int = 1 << 20) -> ClientConnection:
    address = f"ws://127.0.0.1:{proxy.port}"
    return connect(address, compression=None, max_size=max_size, ping_interval=None, close_timeout=1, proxy=None)


def exchange(client: ClientConnection, *messages: bytes) -> list[bytes]:
    """Send all, and return what is back by the time that it becomes quiet."""
    for message in messages:
        client.send(message)
    got: list[bytes] = []
    while True:
        try:
            answer = client.recv(SHORT_S)
        except TimeoutError:
            return got
        assert isinstance(answer, bytes)
        got.append(answer)


ONE, TWO, THREE = b"one" * 10, b"two" * 100, b"three" * 20_000
"""Frames with a length of 7, 16 and 64 bits."""


@pytest.mark.parametrize("rules", [(), (Rule("drop", "to client", first=100),), (Rule("drop", "to client", 0.0),)])
def test_without_a_rule_that_hits_everything_passes(message_server: tuple[str, int], rules: tuple[Rule, ...]) -> None:
    with FaultProxy(message_server, "websocket", *rules) as proxy, open_client(proxy) as client:
        assert exchange(client, ONE, TWO, THREE, b"") == [ONE, TWO, THREE, b""]
        assert (proxy.num_units, sum(proxy.num_hits.values())) == ({"to server": 4, "to client": 4}, 0)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("drop", "to client", first=1, count=1), [ONE, THREE]),
        (Rule("drop", "to server", first=1, count=1), [ONE, THREE]),
        (Rule("duplicate", "to client", first=1, count=1), [ONE, TWO, TWO, THREE]),
        (Rule("reorder", "to client", first=0, count=1), [TWO, ONE, THREE]),
        (Rule("reorder", "to server", first=0, count=2), [THREE, ONE, TWO]),
        (Rule("truncate", "to client", first=2, num_bytes=7), [ONE, TWO, THREE[:7]]),
        (Rule("truncate", "to server", first=1, count=1), [ONE, b"", THREE]),
        (Rule("oversize", "to client", first=1, count=1, num_bytes=1000), [ONE, TWO + bytes(700), THREE]),
    ],
    ids=lambda value: f"{value.fault} {value.direction}" if isinstance(value, Rule) else "",
)
def test_messages_go_wrong_as_a_whole(message_server: tuple[str, int], rule: Rule, expected: list[bytes]) -> None:
    with FaultProxy(message_server, "websocket", rule) as proxy, open_client(proxy) as client:
        assert exchange(client, ONE, TWO, THREE) == expected
        assert proxy.num_hits[rule.fault, rule.direction] >= 1


def test_corruption_flips_bits_and_comes_from_the_seed(message_server: tuple[str, int]) -> None:
    def mangled(seed: int) -> bytes:
        rule = Rule("corrupt", "to server", num_bytes=3)
        with FaultProxy(message_server, "websocket", rule, seed=seed) as proxy, open_client(proxy) as client:
            return exchange(client, bytes(1000))[0]

    first = mangled(1)
    assert 1 <= sum(byte.bit_count() for byte in first) <= 3
    assert len(first) == 1000
    assert mangled(1) == first != mangled(2)


def test_what_hits_comes_from_the_seed(message_server: tuple[str, int]) -> None:
    messages = [bytes([number]) for number in range(60)]

    def survivors(seed: int) -> list[bytes]:
        rule = Rule("drop", "to server", 0.5)
        with FaultProxy(message_server, "websocket", rule, seed=seed) as proxy, open_client(proxy) as client:
            return exchange(client, *messages)

    first = survivors(3)
    assert 15 <= len(first) <= 45
    assert survivors(3) == first != survivors(4)


def test_too_large_a_message_ends_the_connection_with_a_reason(message_server: tuple[str, int]) -> None:
    rule = Rule("oversize", "to client", num_bytes=1 << 16)
    with FaultProxy(message_server, "websocket", rule) as proxy, open_client(proxy, max_size=1 << 15) as client:
        client.send(ONE)
        with pytest.raises(ConnectionClosed, match="1009"):
            client.recv(TIMEOUT_S)


def test_delay_is_latency_not_throughput(message_server: tuple[str, int]) -> None:
    """Five messages at once are late together, in order; the sixth, after the change of rules, is not."""
    rule = Rule("delay", "to client", count=5, seconds=lambda number: 0.3 if number < 5 else 0.0)
    with FaultProxy(message_server, "websocket", rule) as proxy, open_client(proxy) as client:
        start_s = time.monotonic()
        for number in range(5):
            client.send(bytes([number]))
        arrivals_s = []
        for number in range(5):
            assert client.recv(TIMEOUT_S) == bytes([number])
            arrivals_s.append(time.monotonic() - start_s)
        assert arrivals_s[0] >= 0.3
        assert arrivals_s[4] < 0.3 + 1.0
        assert proxy.num_hits["delay", "to client"] == 5


def test_half_open_holds_back_until_it_flows_again(message_server: tuple[str, int]) -> None:
    with FaultProxy(message_server, "websocket") as proxy, open_client(proxy) as client:
        assert exchange(client, ONE) == [ONE]
        proxy.half_open()
        assert exchange(client, TWO) == []
        with open_client(proxy) as other:  # connections to come are not concerned
            assert exchange(other, ONE) == [ONE]
        proxy.flow()
        assert client.recv(TIMEOUT_S) == TWO


def test_half_open_by_the_script(message_server: tuple[str, int]) -> None:
    rule = Rule("half open", "to client", first=1, count=1)
    with FaultProxy(message_server, "websocket", rule) as proxy, open_client(proxy) as client:
        assert exchange(client, ONE, TWO, THREE) == [ONE]
        proxy.wait_for("half open")


@pytest.mark.parametrize("fault", ["reset", "close"])
def test_a_cut_ends_the_connection_and_the_next_one_works(message_server: tuple[str, int], fault: Fault) -> None:
    with FaultProxy(message_server, "websocket", Rule(fault, "to client", first=1, count=1)) as proxy:
        with open_client(proxy) as client:
            assert exchange(client, ONE) == [ONE]
            client.send(TWO)
            with pytest.raises(ConnectionClosed):
                client.recv(TIMEOUT_S)
        with open_client(proxy) as client:
            assert exchange(client, THREE) == [THREE]
        assert proxy.num_connections == 2


def test_a_reset_is_a_reset_and_a_close_is_an_end(line_server: tuple[str, int]) -> None:
    with FaultProxy(line_server) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT_S) as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"hello\n"
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                client.recv(100)
        with socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT_S) as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"hello\n"
            proxy.close()
            assert client.recv(100) == b""


def test_bytes_pass_in_both_directions_until_both_have_ended(line_server: tuple[str, int]) -> None:
    payload = b"x" * 1_000_000 + b"\n"
    with FaultProxy(line_server) as proxy, socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT_S) as client:
        sender = threading.Thread(target=lambda: (client.sendall(payload), client.shutdown(socket.SHUT_WR)))
        sender.start()
        got = bytearray()
        while piece := client.recv(1 << 16):
            got += piece
        sender.join()
    assert got == payload


def connect_and_read(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client:
        return client.recv(100)


def test_without_a_server_the_client_is_cut(line_server: tuple[str, int]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with FaultProxy(("127.0.0.1", unused.getsockname()[1])) as proxy:
            with pytest.raises(ConnectionResetError):  # when connecting or when reading, whichever is later
                connect_and_read(proxy.port)
            proxy.upstream = line_server
            with socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT_S) as client:
                client.sendall(b"hello\n")
                assert client.recv(100) == b"hello\n"


def test_what_is_no_websocket_passes_untouched(tmp_path: Path) -> None:
    """A health check over HTTP, through a proxy that would drop every frame."""
    (tmp_path / "healthz").write_text("fine " * 50_000)
    program = (
        "import http.server, sys, functools\n"
        "handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n"
        "print('port', server.server_address[1], flush=True)\n"
        "server.serve_forever()"
    )
    with ServerProcess([sys.executable, "-c", program, str(tmp_path)], r"port (\d+)") as server:
        rules = [Rule("drop", "to client"), Rule("drop", "to server")]
        with FaultProxy(("127.0.0.1", server.port), "websocket", *rules) as proxy:
            answer = urlopen(f"http://127.0.0.1:{proxy.port}/healthz")
            assert answer.read() == b"fine " * 50_000


def test_frames_are_found_however_they_arrive() -> None:
    units = [Unit(b"a" * 5, 0x82), Unit(b"b" * 300, 0x81, b"mask"), Unit(b"", 0x89), Unit(b"c" * 70_000, 0x02)]
    head = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
    stream = head + b"".join(unit.encode() for unit in units)
    splitter = WebsocketSplitter()
    found = [unit for at in range(len(stream)) for unit in splitter.feed(stream[at : at + 1])]
    assert [unit.payload for unit in found] == [head, *[unit.payload for unit in units]]
    assert [unit.may_fail for unit in found] == [False, True, True, False, True]
    assert b"".join(unit.encode() for unit in found) == stream


ECHO_PROGRAM = """
import asyncio
async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()
async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    print("listening on", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def test_a_server_process_can_be_frozen_killed_and_started_again() -> None:
    server = ServerProcess([sys.executable, "-c", ECHO_PROGRAM], r"listening on (\d+)")
    with server, FaultProxy(("127.0.0.1", server.port)) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), SHORT_S) as client:
            with frozen(server.pid):
                client.sendall(b"hello")
                with pytest.raises(TimeoutError):
                    client.recv(100)
            client.settimeout(TIMEOUT_S)
            assert client.recv(100) == b"hello"
            server.kill()
            assert client.recv(100) == b""
        server.start()
        proxy.upstream = ("127.0.0.1", server.port)
        with socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT_S) as client:
            client.sendall(b"again")
            assert client.recv(100) == b"again"


def test_a_server_that_does_not_come_up_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)was not ready.*out of luck"):
        ServerProcess([sys.executable, "-c", "raise SystemExit('out of luck')"], "ready").start()


def test_a_taken_port_is_an_error(line_server: tuple[str, int]) -> None:
    with pytest.raises(OSError, match="address already in use"):
        FaultProxy(line_server, port=line_server[1]).start()


def test_waiting_for_what_does_not_happen_ends(line_server: tuple[str, int]) -> None:
    with FaultProxy(line_server) as proxy, pytest.raises(TimeoutError, match="drop did not happen 1 times"):
        proxy.wait_for("drop", timeout_s=0.01)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fault": "explode"}, "unknown fault 'explode'; known faults: delay, drop"),
        ({"direction": "up"}, "unknown direction 'up'"),
        ({"probability": 1.5}, "probability in"),
        ({"fault": "delay"}, "seconds is for delay"),
        ({"seconds": 1.0}, "seconds is for delay"),
        ({"fault": "corrupt"}, "num_bytes is for"),
        ({"num_bytes": 1}, "num_bytes is for"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule(**({"fault": "drop", "direction": "to client"} | fields))  # pyright: ignore[reportArgumentType]
