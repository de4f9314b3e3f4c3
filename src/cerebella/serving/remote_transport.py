"""`RemoteTransport`: the executor's `Transport` to a server. Never blocks, and comes back by itself. No torch.

A thread of its own holds the connection. Whatever goes wrong becomes an error reply to what was asked, and is counted:

    no answer in time            the request ends; a later answer is still handed over
    no pong, reset, end          everything asked ends; connect anew with growing pauses, shake hands, warm up, go on
    a frame that is no answer    the same
    another policy than before   every request is refused until `accept_server_change`
"""

import asyncio
import contextlib
import logging
import random
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException

from cerebella.interfaces import PolicyMetadata, Reply, Request
from cerebella.serving.arrays import unpack
from cerebella.serving.errors import WireError
from cerebella.serving.exchange import headers_of, read_chunk, request_message
from cerebella.serving.handshake import Handshake, read_handshake
from cerebella.serving.outstanding import Counts, Outstanding
from cerebella.serving.readiness import is_warm
from cerebella.serving.warm_up import blank_observation
from cerebella.types import Observation

log = logging.getLogger(__name__)

_CLOSE_S = 0.5
_STEP_S = 5.0
"""For each step to a connection: opening it, the first frame and the first answer of a server that is warm; at most."""
_MAX_FRAME_BYTES = 64 << 20
_TOO_BIG = 1009
_JOIN_S = 5.0
_LOOK_S = 0.2
_WARMING = "the server is warming up"


class RemoteTransport:
    """Connects when made, and until `close`.

    Args:
        url: ws://host:port or wss://host:port. token: what the server asks for.
        tls: how to trust the server (wss); None uses the system's authorities.
        session: which robot, if a gateway carries several on one connection; sticky routing goes by it as well.
        timeout_s: for one answer. connect_timeout_s: for the first connection, as long as nobody is there.
        warm_up_timeout_s: for the first connection to a server that is there and still warms up.
        ping_interval_s, ping_timeout_s: the connection is made anew if the server does not answer a ping for so long.
        max_outstanding: requests on their way at once.
        first_pause_s, max_pause_s: before the first further attempt to connect, and at most; the pause doubles, and each
            is drawn between half and all of it, so that many robots do not come back in the same moment.

    Raises:
        ConnectionError: nobody answered within `connect_timeout_s`, the server was not warm within `warm_up_timeout_s`,
            or the token is refused.
        ValueError: not an address, or not a server of ours.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        *,
        session: str = "",
        timeout_s: float = 2.0,
        connect_timeout_s: float = 30.0,
        warm_up_timeout_s: float = 300.0,
        ping_interval_s: float = 0.5,
        ping_timeout_s: float = 2.0,
        max_outstanding: int = 4,
        first_pause_s: float = 0.1,
        max_pause_s: float = 5.0,
    ) -> None:
        self._url, self._token, self._tls, self._session = url, token, tls, session
        self._timeout_s, self._step_timeout_s = timeout_s, min(_STEP_S, connect_timeout_s / 2)
        self._ping_interval_s, self._ping_timeout_s = ping_interval_s, ping_timeout_s
        self._first_pause_s, self._max_pause_s = first_pause_s, max_pause_s
        self._outstanding = Outstanding(max_outstanding)
        self._accepted: Handshake | None = None
        self._offered: Handshake | None = None
        self._trouble = "connecting"
        self._is_up = False
        self._is_warming = False
        self._is_closed = False
        self._fatal: Exception | None = None
        self._first = threading.Event()
        self._seq = 0
        self._next: Request | None = None
        self._newest: Observation | None = None
        self._has_answered = False
        self._server_id: str | None = None
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._consent = asyncio.Event()
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="cerebella-remote", daemon=True)
        self._thread.start()
        waited_s = self._wait_for_first(connect_timeout_s, max(connect_timeout_s, warm_up_timeout_s))
        if self._accepted is None or self._fatal is not None or not self._is_up:
            self.close()
            raise self._fatal or ConnectionError(f"{url} was not ready within {waited_s:g} s: {self._trouble}")

    @property
    def metadata(self) -> PolicyMetadata:
        """Of the policy that was accepted: the first one, or the one of the last `accept_server_change`."""
        assert self._accepted is not None
        return self._accepted.metadata

    @property
    def counts(self) -> Counts:
        """What has happened so far."""
        return self._outstanding.counts

    @property
    def trouble(self) -> str:
        """Why requests end with an error now; empty while the server is connected and warm."""
        return "" if self._is_up else self._trouble

    def submit(self, request: Request) -> None:
        """See `Transport.submit`. Ends at once with an error reply while there is no connection."""
        if self._is_closed:
            raise RuntimeError(f"request {request.id} was submitted after close()")
        try:
            self._loop.call_soon_threadsafe(self._take, request.kept())
        except RuntimeError:  # the thread has ended, see `_run`
            self._outstanding.reply(Reply(request.id, error=f"no server: {self._trouble}"))

    def poll(self, tick: int) -> list[Reply]:
        """See `Transport.poll`; `tick` does not matter on the wall clock."""
        replies = self._outstanding.replies
        return [replies.popleft() for _ in range(len(replies))]

    def accept_server_change(self) -> None:
        """An operator agrees to another policy that the server came back with.

        Raises:
            ValueError: nothing is to be accepted, or the robot or the horizon is another one (build a new executor).
        """
        offered, accepted = self._offered, self._accepted
        if offered is None or accepted is None:
            raise ValueError(f"{self._url} has offered nothing new to accept")
        for name in ("embodiment", "horizon"):
            if getattr(offered.metadata, name) != getattr(accepted.metadata, name):
                raise ValueError(f"the server's {name} has changed: build a new executor for it")
        self._accepted = offered
        self._loop.call_soon_threadsafe(self._consent.set)

    def close(self) -> None:
        """See `Transport.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        with contextlib.suppress(RuntimeError):  # the thread has ended by itself
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(_JOIN_S)

    def _wait_for_first(self, connect_timeout_s: float, warm_up_timeout_s: float) -> float:
        """Until the first connection is up, or it has taken too long; the seconds that it may take."""
        started_s, limit_s = time.monotonic(), connect_timeout_s
        while not self._first.is_set() and (left_s := started_s + limit_s - time.monotonic()) > 0:
            self._first.wait(min(left_s, _LOOK_S))
            limit_s = warm_up_timeout_s if self._is_warming else connect_timeout_s
        return limit_s

    def _stop(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._main = self._loop.create_task(self._stay_connected())
            self._loop.run_until_complete(asyncio.gather(self._main, return_exceptions=True))
            if not self._main.cancelled() and (error := self._main.exception()) is not None:
                self._lose(RuntimeError(f"a fault of the transport itself: {error}"))
                log.error("the transport to %s has ended", self._url, exc_info=error)
        finally:
            self._first.set()
            self._loop.close()

    def _take(self, request: Request) -> None:
        """On the loop: the newest request is sent as soon as the last one is written."""
        self._newest = request.observation
        if not self._is_up:
            self._outstanding.reply(Reply(request.id, error=f"no server: {self._trouble}"))
            return
        if self._next is not None:
            self.counts.num_superseded += 1
            self._outstanding.reply(Reply(self._next.id, error="a newer request took its place before it was sent"))
        self._next = request
        self._wake.set()

    async def _stay_connected(self) -> None:
        pause_s = self._first_pause_s
        while True:
            self._has_answered = False
            try:
                async with connect(
                    self._url,
                    ssl=self._tls,
                    additional_headers=headers_of(self._token),
                    compression=None,
                    proxy=None,
                    max_size=_MAX_FRAME_BYTES,
                    max_queue=4,
                    open_timeout=self._step_timeout_s,
                    ping_interval=None,
                    close_timeout=_CLOSE_S,
                ) as connection:
                    await self._converse(connection)
            except (OSError, WebSocketException, WireError) as error:
                self._lose(error)
                if self._accepted is None and _is_hopeless(error):
                    kind = ValueError if isinstance(error, WireError | InvalidURI) else ConnectionError
                    self._fatal = kind(f"{self._url} cannot be used: {error}")
                    return
            if self._has_answered:
                pause_s = self._first_pause_s
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, self._max_pause_s)

    def _lose(self, error: Exception) -> None:
        """The connection has ended, or could not be made."""
        is_too_big = isinstance(error, ConnectionClosed) and error.sent is not None and error.sent.code == _TOO_BIG
        if isinstance(error, WireError) or is_too_big:
            self.counts.num_bad_frames += 1
        self._trouble = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if self._is_up:
            self._is_up = False
            self.counts.num_losses += 1
            log.warning("the connection to %s is lost: %s", self._url, self._trouble)
        self._outstanding.give_up_all(f"the connection is lost: {self._trouble}")
        if self._next is not None:
            self._outstanding.reply(Reply(self._next.id, error=f"the connection is lost: {self._trouble}"))
            self._next = None

    async def _converse(self, connection: ClientConnection) -> None:
        """One connection from its first frame until it is lost; then raises."""
        pinging = asyncio.create_task(self._ping(connection))
        tasks = {pinging}
        try:
            await self._greet(connection)
            await self._warm_up(connection)
            self._is_up = True
            self.counts.num_connections += 1
            self._first.set()
            tasks |= {asyncio.create_task(self._send(connection)), asyncio.create_task(self._receive(connection))}
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _greet(self, connection: ClientConnection) -> None:
        """Read the first frame; if it tells of another policy than the accepted one, wait for consent."""
        frame = await self._first_frame(connection)
        if isinstance(frame, str):
            raise WireError(f"the first frame is text: {frame[:200]}")
        handshake = read_handshake(unpack(frame))
        if self._accepted is None:
            self._accepted = handshake
        elif self._server_id != handshake.server_id:
            self.counts.num_restarts += 1
        self._server_id = handshake.server_id
        while changes := self._accepted.differences(handshake):
            self._consent.clear()
            self._offered = handshake
            self._trouble = f"refused, because the server came back with another policy: {'; '.join(changes)}"
            self.counts.num_refusals += 1
            log.error("%s %s. An operator has to accept it", self._url, self._trouble)
            waiting = {asyncio.create_task(self._consent.wait()), asyncio.create_task(connection.wait_closed())}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            if not self._consent.is_set():
                raise ConnectionError("the connection ended before an operator accepted the other policy")
        self._offered = None

    async def _first_frame(self, connection: ClientConnection) -> bytes | str:
        """A server that is warm sends it at once; one that warms up is waited for, as long as it answers pings."""
        self._trouble, self._is_warming = "no first frame yet", True
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._step_timeout_s):
                        return await connection.recv()
                if await asyncio.to_thread(is_warm, self._url, self._tls, self._step_timeout_s):
                    raise ConnectionError("the server is warm, but its first frame did not come")
                if self._trouble != _WARMING:
                    self._trouble = _WARMING
                    log.warning("%s is warming up: waiting for it", self._url)
        finally:
            self._is_warming = False

    async def _warm_up(self, connection: ClientConnection) -> None:
        """One question whose answer goes nowhere: the way is open, and the first real answer will not be a slow one."""
        self._trouble = "warming up"
        metadata = self.metadata
        observation = self._newest or blank_observation(metadata.embodiment)
        self._seq += 1
        nothing = np.zeros((0, metadata.embodiment.action_dim), dtype=np.float32)
        async with asyncio.timeout(self._step_timeout_s):
            await connection.send(request_message(self._seq, observation, nothing, session=self._session))
            while True:
                fields = _fields(await connection.recv())
                if fields.get("seq") == self._seq:
                    break
        if "error" in fields:
            raise ConnectionError(f"the warm-up was refused: {str(fields['error'])[:200]}")
        read_chunk(fields, metadata, observation.tick, 0)

    async def _send(self, connection: ClientConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            request, self._next = self._next, None
            if request is None:
                continue
            self._seq += 1
            message = request_message(
                self._seq,
                request.observation,
                request.action_prefix,
                session=self._session,
                promised_delay=request.promised_delay,
                guidance=request.guidance,
                deadline_s=request.deadline_s,
            )
            self._outstanding.add(self._seq, request)
            self._loop.call_later(self._timeout_s, self._expire, self._seq)
            await connection.send(message)

    def _expire(self, seq: int) -> None:
        if self._outstanding.is_open(seq):
            self.counts.num_timeouts += 1
            self._outstanding.give_up(seq, f"no answer within {self._timeout_s:g} s")

    async def _receive(self, connection: ClientConnection) -> None:
        while True:
            fields = _fields(await connection.recv())
            sent = self._outstanding.find(fields.get("seq"))
            if sent is None:
                continue
            if "error" in fields:
                self._outstanding.reply(Reply(sent.request_id, error=f"the server: {str(fields['error'])[:500]}"))
                continue
            try:
                chunk = read_chunk(fields, self.metadata, sent.tick, sent.prefix_length)
            except WireError as error:
                self._outstanding.reply(Reply(sent.request_id, error=f"a bad answer: {error}"))
                raise
            self._has_answered = True
            self._outstanding.reply(Reply(sent.request_id, chunk=chunk))

    async def _ping(self, connection: ClientConnection) -> None:
        """Find out about a server that is frozen or unreachable while TCP still believes in it."""
        while True:
            await asyncio.sleep(self._ping_interval_s)
            try:
                async with asyncio.timeout(self._ping_timeout_s):
                    await (await connection.ping())
            except TimeoutError:
                connection.transport.abort()
                raise ConnectionError(f"no pong within {self._ping_timeout_s:g} s") from None


def _fields(frame: bytes | str) -> Mapping[Any, Any]:
    """A server's answer.

    Raises:
        WireError: text (which is how openpi reports an error), or no map.
    """
    if isinstance(frame, str):
        raise WireError(f"the server reports: {' '.join(frame.split())[:300]}")
    fields = unpack(frame)
    if not isinstance(fields, Mapping):
        raise WireError("the answer is not a map")
    return fields


def _is_hopeless(error: Exception) -> bool:
    """Whether trying again cannot help: no such address, a refused token, another kind of server."""
    if isinstance(error, InvalidStatus):
        return error.response.status_code in (401, 403, 404)
    return isinstance(error, InvalidURI | WireError)
