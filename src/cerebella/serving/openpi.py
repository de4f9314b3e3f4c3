"""The native dialect: openpi's websocket protocol with optional keys that its own clients ignore.

openpi (`serving/websocket_policy_server.py`, `packages/openpi-client`): the server speaks first and sends a map of metadata;
then each binary frame is one observation, answered by one map with `actions`; an error is a text frame, then close 1011.

A client that sends `seq` (an integer, counted up) speaks our extension: it may send the next observation before the last
answer, a newer one of the same `session` ends an older one that has not been started, each answer carries the `seq` of its
request, and an error is a map {"error", "reason", "seq"} after which the connection goes on.

An answer without `seq` leaves out `state`: openpi's ActionChunkBroker takes a row of every array that it gets.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from cerebella.serving.arrays import pack, unpack
from cerebella.serving.dialect import Dialect, Peer
from cerebella.serving.errors import PeerGone, RequestFailed, WireError
from cerebella.serving.exchange import checksum
from cerebella.serving.handshake import describe
from cerebella.serving.observations import OBSERVATION_KEYS, REQUEST_KEYS, check_keys, integer, read_query
from cerebella.serving.query import Answer, Query
from cerebella.serving.scheduler import Result
from cerebella.serving.service import Service, answer_of

OWN_KEYS = ("seq", "session", "reset", "crc32")
"""`seq`: see above. `session`: which robot, if several share a connection. `reset`: true ends what waits of the session. `crc32`: of
state and prefix (or guidance plan), see `exchange.checksum`; an answer with `seq` has one of its actions."""
KNOWN_KEYS = (*OBSERVATION_KEYS, *REQUEST_KEYS, *OWN_KEYS)

MAX_OPEN = 8
"""Requests of one connection that are not answered yet; then it is not read any further."""
MAX_SESSION_CHARACTERS = 128
_INTERNAL_ERROR = 1011


class OpenpiDialect(Dialect):
    """openpi over a websocket.

    Args:
        free_metadata: further entries of the first frame, as openpi's servers have them; ours win.
        max_message_bytes: told to the client; the server holds it.
    """

    name = "openpi"

    def __init__(self, free_metadata: Mapping[str, Any] | None = None, max_message_bytes: int = 64 << 20) -> None:
        self._free_metadata = dict(free_metadata or {})
        self._max_message_bytes = max_message_bytes

    async def serve(self, peer: Peer, service: Service) -> None:
        """See `Dialect.serve`."""
        await peer.send(pack(self.first_frame(service)))
        await _Conversation(peer, service).run()

    def first_frame(self, service: Service) -> dict[str, Any]:
        """What the server says about itself."""
        return {
            **self._free_metadata,
            **describe(service.metadata, service.server_id),
            "keys": list(KNOWN_KEYS),
            "errors_with_seq": "map",
            "errors_without_seq": "text, then close 1011",
            "limits": {
                "max_message_bytes": self._max_message_bytes,
                "max_prefix": service.metadata.horizon - 1,
                "max_open_requests": MAX_OPEN,
            },
        }


class _Conversation:
    """One connection."""

    def __init__(self, peer: Peer, service: Service) -> None:
        self._peer = peer
        self._service = service
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_OPEN - 1)  # taken after a request has begun
        self._last_total_s: float | None = None

    async def run(self) -> None:
        """Until the peer leaves. What is being worked on when the server drains is still answered."""
        try:
            while await self._accept(await self._peer.receive()):
                pass
        except PeerGone as gone:
            if gone.is_draining and self._tasks:
                await asyncio.wait(self._tasks)
            raise
        finally:
            for task in self._tasks:
                task.cancel()

    async def _accept(self, message: bytes | str) -> bool:
        """Answer, or begin to; false if the connection has been ended."""
        received_s = time.monotonic()
        seq: int | None = None
        try:
            fields = _fields(message)
            if "seq" in fields:
                seq = integer(fields, "seq", 0)
            session = self._session(fields)
            if fields.get("reset") is True:
                self._service.forget(session)
                if not fields.keys() - set(OWN_KEYS):
                    await self._peer.send(pack({"reset": True} if seq is None else {"reset": True, "seq": seq}))
                    return True
            check_keys(fields, KNOWN_KEYS)
            query = read_query(fields, self._service.metadata, received_s)
            if "crc32" in fields and fields["crc32"] != _checksum(query):
                raise WireError("state and prefix do not have the checksum that they were sent with")
        except WireError as error:
            self._service.reject(OpenpiDialect.name, error.reason)
            return await self._fail(seq, str(error), error.reason)
        future = self._service.submit(session, query, OpenpiDialect.name)  # now, so that a reset finds it
        if seq is None:
            return await self._answer(query, future, None, received_s)
        task = asyncio.create_task(self._answer_later(query, future, seq, received_s))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._settle(task, future))
        await self._slots.acquire()
        return True

    def _settle(self, task: asyncio.Task[None], future: asyncio.Future[Result]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        future.cancel()  # if the task was, perhaps before it began

    async def _answer_later(self, query: Query, future: asyncio.Future[Result], seq: int, received_s: float) -> None:
        with contextlib.suppress(PeerGone):  # `receive` finds out as well, and ends the conversation
            await self._answer(query, future, seq, received_s)

    async def _answer(self, query: Query, future: asyncio.Future[Result], seq: int | None, received_s: float) -> bool:
        try:
            answer = answer_of(await future)
        except RequestFailed as failure:
            return await self._fail(seq, str(failure), failure.outcome)
        await self._peer.send(pack(self._map_of(query, answer, seq)))
        self._last_total_s = time.monotonic() - received_s
        return True

    async def _fail(self, seq: int | None, text: str, reason: str) -> bool:
        if seq is not None:
            await self._peer.send(pack({"error": text, "reason": reason, "seq": seq}))
            return True
        await self._peer.send(text)
        await self._peer.close(_INTERNAL_ERROR, "the error is in the previous frame")
        return False

    def _map_of(self, query: Query, answer: Answer, seq: int | None) -> dict[str, Any]:
        timing = {"infer_ms": answer.infer_s * 1e3, "queue_ms": answer.queue_s * 1e3}
        if self._last_total_s is not None:
            timing["prev_total_ms"] = self._last_total_s * 1e3
        fields: dict[str, Any] = {
            "actions": answer.chunk.actions,
            "policy_timing": {"infer_ms": answer.chunk.duration_s * 1e3},
            "server_timing": timing,
            "tick": int(query.observation.tick),
            "prefix_length": answer.chunk.prefix_length,
            "policy_id": answer.chunk.policy_id,
            "batch_size": answer.batch_size,
        }
        if seq is not None:
            fields |= {"seq": seq, "state": query.observation.state, "crc32": checksum(answer.chunk.actions)}
        return fields

    def _session(self, fields: Mapping[Any, Any]) -> str:
        name = fields.get("session", "")
        if not isinstance(name, str) or len(name) > MAX_SESSION_CHARACTERS:
            raise WireError(f"session must be text of at most {MAX_SESSION_CHARACTERS} characters")
        return f"{self._peer.id}/{name}"


def _checksum(query: Query) -> int:
    return checksum(query.observation.state, query.action_prefix if query.guidance is None else query.guidance.plan)


def _fields(message: bytes | str) -> Mapping[Any, Any]:
    if isinstance(message, str):
        raise WireError("a message must be a binary frame", "syntax")
    fields = unpack(message)
    if not isinstance(fields, Mapping):
        raise WireError("a message must be a map")
    return fields
