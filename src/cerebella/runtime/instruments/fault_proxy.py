"""A network that fails on request: a TCP proxy that delays, loses, repeats, mangles, hangs and cuts, by a script.

    with FaultProxy(("127.0.0.1", server_port), framing="websocket", seed=1) as proxy:
        connect_client("127.0.0.1", proxy.port)
        proxy.set_rules(Rule("drop", "to client", first=3, count=1))      # lose the fourth reply from now on
        proxy.wait_for("drop")

The unit of a fault is one websocket frame, so that a client sees whole messages go wrong, or what was read at once
(`framing="bytes"`), so that it sees a broken stream. The proxy has its own thread and event loop; rules may be changed at
any time.
What is drawn (whether a rule hits, which bits flip) comes from the seed, per connection and direction.
"""

import asyncio
import concurrent.futures
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self, get_args

from cerebella.runtime.instruments.fault_rules import DIRECTIONS, Cut, Direction, Fault, Passage, Rule, Script
from cerebella.runtime.instruments.framing import ByteSplitter, Framing, Splitter, Unit, WebsocketSplitter

_READ_BYTES = 1 << 16
_NUM_QUEUED = 1024


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers: dict[Direction, asyncio.StreamWriter] = {"to client": client, "to server": server}
        self.is_flowing = asyncio.Event()
        self.is_flowing.set()

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()

    def reset(self) -> None:
        for writer in self.writers.values():
            _cut(writer)


class FaultProxy:
    """Listens on loopback and forwards to `upstream`; see the module.

    Args:
        upstream: (host, port) of the server. May be set to another one at any time, for connections to come.
        framing: `websocket` or `bytes`.
        rules: the script at the start.
        seed: of every draw.
        port: to listen on; 0 picks a free one.

    Attributes:
        port: where to connect.
        num_hits: (fault, direction) to how often it has happened.
        num_units: direction to the units that arrived and may fail.
        num_connections: accepted so far.
    """

    def __init__(
        self, upstream: tuple[str, int], framing: Framing = "bytes", *rules: Rule, seed: int = 0, port: int = 0
    ) -> None:
        if framing not in get_args(Framing):
            raise ValueError(f"unknown framing {framing!r}; known framings: {', '.join(get_args(Framing))}")
        self.upstream = upstream
        self.port = port
        self.num_hits: Counter[tuple[Fault, Direction]] = Counter()
        self.num_units: Counter[Direction] = Counter()
        self.num_connections = 0
        self._framing = framing
        self._seed = seed
        self._script = Script(rules)
        self._links: set[_Link] = set()
        self._has_hit = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_ending: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen. OSError: the port is taken."""
        is_ready: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(is_ready)), name="fault-proxy")
        self._thread.start()
        self.port = is_ready.result()

    def stop(self) -> None:
        """Cut every connection and end. May be called twice."""
        if self._thread is not None and self._loop is not None and self._is_ending is not None:
            self._loop.call_soon_threadsafe(self._is_ending.set)
            self._thread.join()
            self._thread = None

    def set_rules(self, *rules: Rule) -> None:
        """Replace the script; its counting of units and hits begins anew. No rule: everything passes."""
        self._script = Script(rules)

    def half_open(self) -> None:
        """Stop forwarding on every connection there is, in both directions; the sockets stay open."""
        self._on_links(lambda link: link.is_flowing.clear())

    def flow(self) -> None:
        """Forward again where that had stopped; what was held back comes now."""
        self._on_links(lambda link: link.is_flowing.set())

    def reset(self) -> None:
        """Cut every connection there is by a TCP reset."""
        self._on_links(_Link.reset)

    def close(self) -> None:
        """Close every connection there is in an orderly way."""
        self._on_links(_Link.close)

    def wait_for(self, fault: Fault, count: int = 1, timeout_s: float = 30.0) -> None:
        """Wait until a fault has happened `count` times in all, in either direction.

        Raises:
            TimeoutError: it has not.
        """
        with self._has_hit:
            happened = self._has_hit.wait_for(
                lambda: sum(self.num_hits[fault, direction] for direction in DIRECTIONS) >= count, timeout_s
            )
        if not happened:
            raise TimeoutError(f"{fault} did not happen {count} times within {timeout_s:g} s; hits: {self.num_hits}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _on_links(self, act: Callable[[_Link], object]) -> None:
        """Carry out in the proxy's thread, and wait."""

        async def act_on_all() -> None:
            for link in list(self._links):
                act(link)

        if self._loop is None:
            raise RuntimeError("the proxy is not running: call start() first")
        asyncio.run_coroutine_threadsafe(act_on_all(), self._loop).result()

    async def _serve(self, is_ready: "concurrent.futures.Future[int]") -> None:
        self._loop, self._is_ending = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connect(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        try:
            server = await asyncio.start_server(accept, "127.0.0.1", self.port)
        except OSError as error:
            is_ready.set_exception(error)
            return
        is_ready.set_result(server.sockets[0].getsockname()[1])
        await self._is_ending.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.num_connections
        self.num_connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.upstream)
        except OSError:  # no server: the client sees its connection cut
            _cut(writer)
            return
        link = _Link(writer, server_writer)
        self._links.add(link)
        pumps: list[Coroutine[Any, Any, None]] = [
            self._pump(link, reader, "to server", number),
            self._pump(link, server_reader, "to client", number),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for pump in pumps:
                    group.create_task(pump)
            link.close()
            for closing in link.writers.values():
                await closing.wait_closed()  # what is on its way to a slow reader still goes out
        except* OSError:  # one side is gone: so is the other
            link.reset()
        except* asyncio.CancelledError:
            link.reset()
        finally:
            self._links.discard(link)

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, direction: Direction, number: int) -> None:
        """Read, cut into units, let the script have its way with each, and hand them on in order."""
        generator = random.Random(f"{self._seed} {number} {direction}")
        splitter: Splitter = WebsocketSplitter() if self._framing == "websocket" else ByteSplitter()
        queue: asyncio.Queue[_Parcel | None] = asyncio.Queue(_NUM_QUEUED)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(link, direction, queue))
            held_back = b""
            while data := await reader.read(_READ_BYTES):
                await link.is_flowing.wait()
                for unit in splitter.feed(data):
                    passage = self._script.judge(unit, direction, generator) if unit.may_fail else Passage(unit)
                    self._note(unit, passage, direction)
                    if passage.is_held_back and passage.cut is None:
                        held_back += passage.encode()
                        continue
                    piece = passage.encode()
                    if unit.may_fail:
                        piece, held_back = piece + held_back, b""
                    await queue.put(_Parcel(loop.time() + passage.delay_s, piece, passage.cut))
            await queue.put(_Parcel(loop.time(), held_back))
            await queue.put(None)

    async def _deliver(self, link: _Link, direction: Direction, queue: "asyncio.Queue[_Parcel | None]") -> None:
        """Write each piece when it is due; a cut comes where it stands, behind everything that was before it."""
        writer = link.writers[direction]
        while (parcel := await queue.get()) is not None:
            await asyncio.sleep(parcel.due_s - asyncio.get_running_loop().time())
            if parcel.cut is not None:
                _CUTS[parcel.cut](link)
                if writer.is_closing():
                    return
            await link.is_flowing.wait()
            writer.write(parcel.piece)
            await writer.drain()
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    def _note(self, unit: Unit, passage: "Passage", direction: Direction) -> None:
        with self._has_hit:
            self.num_units[direction] += unit.may_fail
            for fault in passage.faults:
                self.num_hits[fault, direction] += 1
            self._has_hit.notify_all()


_CUTS: dict[Cut, Callable[[_Link], object]] = {
    "half open": lambda link: link.is_flowing.clear(),
    "reset": _Link.reset,
    "close": _Link.close,
}


def _cut(writer: asyncio.StreamWriter) -> None:
    """Without lingering, closing a socket sends RST."""
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@dataclass(frozen=True)
class _Parcel:
    """Bytes on their way; `due_s` in time of the event loop."""

    due_s: float
    piece: bytes
    cut: Cut | None = None
