"""One request and its answer in the native dialect, as a client writes and reads them."""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.serving.arrays import pack
from cerebella.serving.errors import WireError
from cerebella.types import ActionChunk, FloatArray, Observation


def request_message(
    seq: int,
    observation: Observation,
    action_prefix: FloatArray,
    *,
    session: str = "",
    promised_delay: int | None = None,
    guidance: Guidance | None = None,
    deadline_s: float = math.inf,
) -> bytes:
    """One binary frame; see `openpi` for the keys."""
    fields: dict[str, Any] = {
        "seq": seq,
        "images": dict(observation.images),
        "state": observation.state,
        "prompt": observation.prompt,
        "tick": int(observation.tick),
        "timestamp_s": float(observation.timestamp_s),
    }
    if session:
        fields["session"] = session
    if observation.tactile:
        fields["tactile"] = dict(observation.tactile)
    if guidance is not None:
        fields["guidance"] = {
            "plan": guidance.plan,
            "num_frozen": guidance.num_frozen,
            "execute_horizon": guidance.execute_horizon,
            "use_jacobian": guidance.use_jacobian,
        }
        if guidance.num_candidates:  # a server from before this key refuses what it does not know
            fields["guidance"]["num_candidates"] = guidance.num_candidates
    elif len(action_prefix):
        fields["prefix_actions"] = action_prefix
    fields["crc32"] = checksum(observation.state, action_prefix if guidance is None else guidance.plan)
    if promised_delay is not None:
        fields["promised_delay"] = promised_delay
    if math.isfinite(deadline_s):
        fields["deadline_ms"] = max(0.0, deadline_s * 1e3)
    return pack(fields)


def read_chunk(fields: Mapping[Any, Any], metadata: PolicyMetadata, tick: int, prefix_length: int) -> ActionChunk:
    """The chunk in an answer, checked against what was asked.

    Args:
        fields: decoded answer. metadata: of the policy that was asked.
        tick: of the observation. prefix_length: rows of the prefix that was sent.

    Raises:
        WireError: a wrong shape, a number that is not finite, another tick, prefix or policy than asked.
    """
    actions = fields.get("actions")
    shape = [metadata.horizon, metadata.embodiment.action_dim]
    if not isinstance(actions, np.ndarray) or actions.dtype.kind != "f" or list(actions.shape) != shape:
        got = f"{actions.dtype}{list(actions.shape)}" if isinstance(actions, np.ndarray) else type(actions).__name__
        raise WireError(f"the answer's actions must be float32{shape}; got {got}")
    for name, wanted in (("tick", tick), ("prefix_length", prefix_length), ("policy_id", metadata.policy_id)):
        if name in fields and fields[name] != wanted:
            raise WireError(f"the answer has {name} {str(fields[name])[:40]!r}; asked was {wanted!r}")
    if "crc32" in fields and fields["crc32"] != checksum(actions):
        raise WireError("the answer's actions do not have the checksum that they were sent with")
    timing = fields.get("policy_timing")
    infer_ms = timing.get("infer_ms", 0.0) if isinstance(timing, Mapping) else 0.0
    if not isinstance(infer_ms, int | float):
        raise WireError("the answer's policy_timing.infer_ms must be a number")
    try:
        return ActionChunk(
            actions=actions.astype(np.float32, copy=False),
            start_tick=tick,
            observation_tick=tick,
            prefix_length=prefix_length,
            policy_id=metadata.policy_id,
            duration_s=infer_ms / 1e3,
        )
    except ValueError as error:
        raise WireError(str(error)) from error


def checksum(*arrays: np.ndarray) -> int:
    """CRC-32 of numbers that move a robot, one array behind the other, as float32 in C order.

    TCP's own checksum misses some damage, and a proxy may do some after it was checked.
    """
    value = 0
    for array in arrays:
        value = zlib.crc32(array.astype("<f4").tobytes(), value)
    return value


def headers_of(token: str | None) -> dict[str, str]:
    """What a client sends along with its websocket handshake."""
    return {} if token is None else {"Authorization": f"Api-Key {token}"}
