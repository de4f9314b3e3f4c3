"""The socket of Xiaomi-Robotics-1, with observations instead of tokens.

From the released code (XiaomiRobotics/Xiaomi-Robotics-1: `deploy/{client,server}.py`, `xr1/mibot/server/runtime/
{client,server}.py`): TCP, each message behind its length in 4 bytes (big-endian), at most 128 MiB; a message is an NPZ
archive that is read without pickle; a request may hold `action` (float32[1, 30, 60], of which the first `prefix_length`
rows are the action prefix and the rest is 0) and `prefix_length`; the answer holds `actions` (benchmark server) or `action`
(robot server). There, a request carries tokens and patches, because its client owns the processor.

Ours: this server owns the processor, so a request carries what was seen. The form of it is our own:

    state          numbers[state_dim], raw units, in the embodiment's order
    prompt         text, the instruction as a person would say it
    image/<view>   uint8[h, w, 3] per view of the policy (`image/base`, `image/left_wrist`, ...)
    task_id        text, optional: the robot type; refused if the policy is of another one
    tick           integer, optional: control step of the observation; without it, requests are counted
    action         numbers[p.., action_dim] or [1, p.., action_dim], optional: absolute actions, raw units
    prefix_length  integer, with `action`: how many of its rows are the prefix
    seed           accepted and not used: the policy derives its noise from the observation

The answer holds `actions` and `action`, the same float32[1, H, action_dim], so that either released client finds its key.
A request that is refused is answered with `error` (text), and the connection goes on.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cerebella.interfaces import PolicyMetadata
from cerebella.serving.dialect import Dialect, Peer
from cerebella.serving.errors import RequestFailed, WireError
from cerebella.serving.npz import pack_npz, unpack_npz
from cerebella.serving.observations import read_query
from cerebella.serving.query import Query
from cerebella.serving.service import Service

MAX_NUM_BYTES = 128 * 1024 * 1024
"""Of a message, and of what it unpacks to (the released servers' cap)."""
IMAGE_PREFIX = "image/"
KEYS = ("state", "prompt", "task_id", "tick", "action", "prefix_length", "seed")


class XiaomiNpzDialect(Dialect):
    """Observation archives in, action archives out; one session per connection."""

    name = "xiaomi_npz"
    framing = "length_prefix"

    async def serve(self, peer: Peer, service: Service) -> None:
        """Answer one request after the other."""
        session = f"{peer.id}/0"
        num_requests = 0
        try:
            while True:
                message = await peer.receive()
                await peer.send(pack_npz(await self._answer(session, message, num_requests, service)))
                num_requests += 1
        finally:
            service.forget(session)

    async def _answer(
        self, session: str, message: bytes | str, num_requests: int, service: Service
    ) -> dict[str, NDArray[Any]]:
        try:
            if isinstance(message, str):
                raise WireError("a message must be an NPZ archive; got text", "syntax")
            arrays = await service.offload(unpack_npz, message, MAX_NUM_BYTES)
            query = query_of(arrays, service.metadata, num_requests)
            chunk = (await service.infer(session, query, self.name)).chunk
        except WireError as error:
            service.reject(self.name, error.reason)
            return {"error": np.array(str(error))}
        except RequestFailed as error:
            return {"error": np.array(str(error))}
        return {"actions": chunk.actions[None], "action": chunk.actions[None]}


def query_of(arrays: Mapping[str, NDArray[Any]], metadata: PolicyMetadata, num_requests: int) -> Query:
    """The question in an archive; the tick is `num_requests` where it names none.

    Raises:
        WireError: a key is missing, unknown, or holds something else than the module's text says.
    """
    if "input_ids" in arrays:
        raise WireError("this server tokenises by itself: send `prompt`, `state` and `image/<view>` instead of tokens")
    unknown = [key for key in arrays if key not in KEYS and not key.startswith(IMAGE_PREFIX)]
    if unknown:
        raise WireError(f"unknown key {unknown[0][:60]!r}; known: {', '.join(KEYS)}, {IMAGE_PREFIX}<view>")
    robot = metadata.embodiment.name
    if "task_id" in arrays and (asked := _text("task_id", arrays)) != robot:
        raise WireError(f"this policy is of the robot type {robot!r}; got {asked[:60]!r}")
    fields: dict[str, Any] = {
        "state": _present("state", arrays).reshape(-1),
        "prompt": _text("prompt", arrays),
        "tick": _number("tick", arrays) if "tick" in arrays else num_requests,
        "images": {key.removeprefix(IMAGE_PREFIX): arrays[key] for key in arrays if key.startswith(IMAGE_PREFIX)},
    }
    if "action" in arrays or "prefix_length" in arrays:
        action = _present("action", arrays)
        fields["prefix_actions"] = action[0] if action.ndim == 3 and len(action) == 1 else action
        fields["prefix_length"] = _number("prefix_length", arrays)
    return read_query(fields, metadata, time.monotonic())


def _present(key: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    if key not in arrays:
        raise WireError(f"a request needs {key!r}; got {', '.join(name[:40] for name in arrays) or 'nothing'}")
    return arrays[key]


def _text(key: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    value = _present(key, arrays)
    if value.dtype.kind != "U" or value.size != 1:
        raise WireError(f"{key} must be one text; got {value.dtype}{list(value.shape)}")
    try:
        text = str(value.reshape(()).item())
        text.encode()
    except ValueError as error:  # a number that is no character, or half of one
        raise WireError(f"{key} is not text", "syntax") from error
    return text


def _number(key: str, arrays: Mapping[str, NDArray[Any]]) -> np.generic:
    value = _present(key, arrays)
    if value.size != 1:
        raise WireError(f"{key} must be one number; got {value.dtype}{list(value.shape)}")
    return value.reshape(-1)[0]
