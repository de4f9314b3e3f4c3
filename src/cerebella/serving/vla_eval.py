"""The model-server protocol of the vla-evaluation-harness, version 1.

From its sources (allenai/vla-evaluation-harness 0.8.0: `src/vla_eval/{protocol,connection.py,model_servers/serve.py}`):
websocket frames, each a msgpack map {`type`, `payload`, `seq`, `timestamp`}, arrays with text keys, pictures as PNG maps.

    client                                       server
    hello {harness_version, protocol_version} -> hello {..., observation_params, action_spec, observation_spec}
    episode_start {task, mode}                -> nothing; the running chunk is forgotten, ticks start at 0
    observation {images, states, task_description} -> action {actions}, with the same seq
    episode_end {metrics, ...}                -> nothing
                                                 error {error}: the connection stays open

A benchmark takes one action per observation, so rows of a chunk are handed out one by one; after `execute_horizon` rows the
policy is asked again. In mode `live` the simulator does not wait: each observation is one tick, is answered at once with
the running chunk's row for that tick, and the next inference runs meanwhile, from the newest observation, with the rows
that will be used until it ends as its action prefix.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from cerebella.serving.arrays import pack, unpack
from cerebella.serving.dialect import Dialect, Peer
from cerebella.serving.errors import PeerGone, RequestFailed, WireError
from cerebella.serving.query import Query
from cerebella.serving.service import Service
from cerebella.serving.vla_eval_specs import CAMERAS, action_spec, observation_params, observation_spec, query_of
from cerebella.types import ActionChunk, FloatArray

PROTOCOL_VERSION = 1
HARNESS_VERSION = "0.8.0"
"""Of the harness that this follows; it is announced as the server's, because clients log it."""
MODES = ("sync", "live")
MAX_UNDER_WAY = 8
"""Requests of one connection; a client that sends more without reading answers is read no further."""
log = logging.getLogger(__name__)


class VlaEvalDialect(Dialect):
    """One session per connection.

    Args:
        execute_horizon: rows of a chunk that are used before the policy is asked again; None for all of them.
        cameras: camera name of the benchmark to view; None for `CAMERAS`. Cameras that nobody needs are ignored.
        sends_chunks: answer with `actions` of shape [execute_horizon, action_dim], for benchmarks that take chunks
            (mode `sync` only).
    """

    name = "vla_eval"
    pings = False  # as in the harness's own server: a simulator that loads a scene answers none for minutes

    def __init__(
        self,
        execute_horizon: int | None = None,
        cameras: Mapping[str, str] | None = None,
        sends_chunks: bool = False,
    ) -> None:
        if execute_horizon is not None and execute_horizon < 1:
            raise ValueError(f"execute_horizon must be 1 or more rows; got {execute_horizon}")
        self.execute_horizon = execute_horizon
        self.cameras = cameras
        self.sends_chunks = sends_chunks

    async def serve(self, peer: Peer, service: Service) -> None:
        """Talk to one harness until it leaves."""
        await _Conversation(self, peer, service).run()

    def hello(self, service: Service) -> dict[str, Any]:
        """What the server says about itself and its policy."""
        embodiment = service.metadata.embodiment
        return {
            "harness_version": HARNESS_VERSION,
            "protocol_version": PROTOCOL_VERSION,
            "model_server": service.metadata.policy_id,
            "capabilities": {},
            "observation_params": observation_params(embodiment),
            "action_spec": action_spec(embodiment),
            "observation_spec": observation_spec(embodiment, self.cameras or {}),
        }


class _Conversation:
    """One connection: its episode, its running chunk, its requests under way. Lives on the event loop."""

    def __init__(self, dialect: VlaEvalDialect, peer: Peer, service: Service) -> None:
        self._dialect = dialect
        self._peer = peer
        self._service = service
        self._session = f"{peer.id}/0"
        self._cameras = CAMERAS if dialect.cameras is None else dialect.cameras
        self._execute_horizon = min(dialect.execute_horizon or 2**31, service.metadata.horizon)
        self._under_way: set[asyncio.Task[None]] = set()
        self._start_episode(is_live=False)

    async def run(self) -> None:
        """Read until the peer is gone; then drop what is under way, or finish it if the server is draining."""
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    while True:
                        await self._read(tasks)
                except PeerGone as gone:
                    end = gone
                    if not gone.is_draining:
                        self._drop_requests()
            raise end
        finally:
            self._service.forget(self._session)

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        raw = await self._peer.receive()
        seq = 0
        try:
            kind, payload, seq = await self._service.offload(_message_of, raw)
            match kind:
                case "hello":
                    if (version := payload.get("protocol_version")) != PROTOCOL_VERSION:
                        raise WireError(
                            f"protocol version {str(version)[:20]!r}; this server speaks {PROTOCOL_VERSION}"
                        )
                    await self._send("hello", self._dialect.hello(self._service), seq)
                case "episode_start" | "episode_end":
                    mode = payload.get("mode", "sync")
                    if mode not in MODES:
                        raise WireError(f"mode {str(mode)[:20]!r}; known: {', '.join(MODES)}")
                    if mode == "live" and self._dialect.sends_chunks:
                        raise WireError("this server sends whole chunks; mode live needs single actions")
                    self._start_episode(is_live=mode == "live")
                case "observation":
                    await self._observe(payload, seq, tasks)
                case "error":
                    log.warning("%s reports: %.300r", self._peer.id, payload.get("error"))
                case _:
                    raise WireError(f"a client does not send messages of the type {kind[:20]!r}")
        except WireError as error:
            self._service.reject(self._dialect.name, error.reason)
            await self._send("error", {"error": str(error)}, seq)

    def _start_episode(self, is_live: bool) -> None:
        self._drop_requests()
        self._service.forget(self._session)
        self._is_live = is_live
        self._num_observed = 0
        self._newest_seq = 0
        self._delay = 0
        self._chunk: ActionChunk | None = None

    def _drop_requests(self) -> None:
        for task in self._under_way:
            task.cancel()

    async def _observe(self, payload: Mapping[str, Any], seq: int, tasks: asyncio.TaskGroup) -> None:
        """One tick of the episode."""
        tick = self._num_observed
        query = query_of(payload, self._service.metadata, self._cameras, tick)
        self._num_observed, self._newest_seq = tick + 1, seq
        actions = self._row(tick)
        if actions is not None:
            await self._send("action", {"actions": actions}, seq)
        if self._needs_inference(tick, has_row=actions is not None):
            while len(self._under_way) >= MAX_UNDER_WAY:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            task = tasks.create_task(self._infer(query, seq))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def _row(self, tick: int) -> FloatArray | None:
        """The running chunk's action for a tick, if it has one that may be used."""
        num_usable = self._service.metadata.horizon if self._is_live else self._execute_horizon
        if self._chunk is None or self._dialect.sends_chunks or tick - self._chunk.start_tick >= num_usable:
            return None
        return self._chunk.actions[tick - self._chunk.start_tick]

    def _needs_inference(self, tick: int, has_row: bool) -> bool:
        if not self._is_live or self._chunk is None:
            return not has_row and not (self._is_live and self._under_way)
        return not self._under_way and tick + self._delay >= self._chunk.start_tick + self._execute_horizon

    def _prefix(self, tick: int) -> FloatArray:
        """The rows that will be used while an inference from this tick runs; none in mode `sync`."""
        if self._chunk is None or not self._is_live:
            return self._service.empty_prefix()
        first = tick - self._chunk.start_tick
        length = min(self._delay, self._service.metadata.max_trained_prefix, self._service.metadata.horizon - 1)
        return self._chunk.actions[first : first + length]

    async def _infer(self, query: Query, seq: int) -> None:
        """Ask the policy; its chunk becomes the running one, and answers an observation that still waits."""
        with contextlib.suppress(PeerGone):  # the reading side ends the conversation
            try:
                query = replace(query, action_prefix=self._prefix(query.observation.tick))
                chunk = (await self._service.infer(self._session, query, self._dialect.name)).chunk
            except RequestFailed as error:
                return await self._send("error", {"error": str(error)}, seq)
            newest_tick = self._num_observed - 1
            is_waiting = self._row(newest_tick) is None
            self._chunk, self._delay = chunk, newest_tick - query.observation.tick
            if self._dialect.sends_chunks:
                await self._send("action", {"actions": chunk.actions[: self._execute_horizon]}, seq)
            elif not self._is_live:
                await self._send("action", {"actions": chunk.actions[0]}, seq)
            elif is_waiting and (actions := self._row(newest_tick)) is not None:
                await self._send("action", {"actions": actions}, self._newest_seq)

    async def _send(self, kind: str, payload: Mapping[str, Any], seq: int) -> None:
        message = {"type": kind, "payload": payload, "seq": seq, "timestamp": time.time()}
        await self._peer.send(pack(message, keys="text"))


def _message_of(raw: bytes | str) -> tuple[str, dict[str, Any], int]:
    """Type, payload and sequence number of a frame.

    Raises:
        WireError: no msgpack map with the four fields of the protocol.
    """
    if isinstance(raw, str):
        raise WireError("frames are binary; got text", "syntax")
    message = unpack(raw)
    fields = ("type", "payload", "seq", "timestamp")
    if not isinstance(message, dict) or any(field not in message for field in fields):
        raise WireError(f"a frame must be a map with the fields {', '.join(fields)}")
    kind, payload, seq = message["type"], message["payload"], message["seq"]
    if not isinstance(kind, str) or not isinstance(payload, dict) or not isinstance(seq, int | np.integer):
        raise WireError("a frame's type must be text, its payload a map, its seq an integer")
    return kind, payload, int(seq)
