"""Nouns of the runtime to messages and back, without losing a bit of any number.

Everything here is pure. What comes back is checked by the nouns themselves, so a damaged or foreign message ends in a
`ValueError`; the reader adds the name of the file.
"""

import json
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from cerebella.interfaces import Reply, Takeover
from cerebella.runtime.recording.messages import EVENT, FILTERED, OBSERVATION, REPLY, REQUEST, TICK, pack, unpack
from cerebella.runtime.recording.pictures import Camera
from cerebella.runtime.trace import Event, Outcome, RequestRecord, State, TickRecord
from cerebella.types import Action, ActionChunk, FloatArray, Observation

_TAXELS = (11, 9)


def encode_observation(observation: Observation, now_s: float, cameras: tuple[Camera, ...]) -> bytes:
    """All but the pictures, of which only `cameras` says what there was."""
    return pack(
        OBSERVATION,
        {
            "tick": int(observation.tick),
            "timestamp_s": observation.timestamp_s,
            "now_s": now_s,
            "prompt": observation.prompt,
            "state": observation.state.tolist(),
            "cameras": [camera.to_fields() for camera in cameras],
            "tactile": [{"finger": f, "values": taxels.ravel().tolist()} for f, taxels in observation.tactile.items()],
        },
    )


def decode_observation(data: bytes) -> tuple[Observation, float, tuple[Camera, ...]]:
    """The observation without pictures, `now_s`, and its cameras."""
    fields = unpack(OBSERVATION, data)
    observation = Observation(
        state=_vector(fields.state),
        prompt=fields.prompt,
        tick=fields.tick,
        timestamp_s=fields.timestamp_s,
        tactile={t.finger: _matrix(f"tactile of {t.finger!r}", t.values, *_TAXELS) for t in fields.tactile},
    )
    return observation, fields.now_s, tuple(Camera.from_fields(camera) for camera in fields.cameras)


def encode_reply(reply: Reply, tick: int, phase: float) -> bytes:
    """A reply, and when the executor took it."""
    fields: dict[str, Any] = {"tick": int(tick), "phase": phase, "request_id": int(reply.request_id)}
    if reply.chunk is None:
        return pack(REPLY, {**fields, "is_error": True, "error": reply.error})
    chunk = reply.chunk
    return pack(
        REPLY,
        {
            **fields,
            "horizon": chunk.horizon,
            "actions": chunk.actions.ravel().tolist(),
            "start_tick": int(chunk.start_tick),
            "observation_tick": int(chunk.observation_tick),
            "prefix_length": int(chunk.prefix_length),
            "policy_id": chunk.policy_id,
            "duration_s": float(chunk.duration_s),
        },
    )


def decode_reply(data: bytes) -> tuple[Reply, int, float]:
    """The reply, the tick and the phase in which it was taken."""
    fields = unpack(REPLY, data)
    if fields.is_error:
        return Reply(fields.request_id, error=fields.error), fields.tick, fields.phase
    if fields.horizon < 1 or len(fields.actions) % fields.horizon:
        raise ValueError(f"a chunk of {len(fields.actions)} numbers cannot have {fields.horizon} rows")
    chunk = ActionChunk(
        actions=_matrix("actions", fields.actions, fields.horizon, len(fields.actions) // fields.horizon),
        start_tick=fields.start_tick,
        observation_tick=fields.observation_tick,
        prefix_length=fields.prefix_length,
        policy_id=fields.policy_id,
        duration_s=fields.duration_s,
    )
    return Reply(fields.request_id, chunk=chunk), fields.tick, fields.phase


def encode_tick(record: TickRecord) -> bytes:
    """One command."""
    return pack(
        TICK,
        {
            "tick": int(record.tick),
            "control_tick": int(record.control_tick),
            "phase": float(record.phase),
            "state": record.state,
            "values": record.values.tolist(),
            "raw": record.raw.tolist(),
            "chunk_id": int(record.chunk_id),
            "row": int(record.row),
            "observation_tick": int(record.observation_tick),
            "is_promised": bool(record.is_promised),
            "sent_s": float(record.sent_s),
            "prompt": record.prompt,
        },
    )


def decode_tick(data: bytes) -> TickRecord:
    """One command."""
    fields = unpack(TICK, data)
    state: State = _known("state", fields.state, get_args(State))
    return TickRecord(
        tick=fields.tick,
        state=state,
        values=_vector(fields.values),
        raw=_vector(fields.raw),
        chunk_id=fields.chunk_id,
        row=fields.row,
        observation_tick=fields.observation_tick,
        sent_s=fields.sent_s,
        is_promised=fields.is_promised,
        control_tick=fields.control_tick,
        phase=fields.phase,
        prompt=fields.prompt,
    )


def encode_request(record: RequestRecord) -> bytes:
    """One request as it stands."""
    return pack(
        REQUEST,
        {
            "id": int(record.id),
            "observation_tick": int(record.observation_tick),
            "submitted_s": float(record.submitted_s),
            "num_promised_rows": len(record.action_prefix),
            "action_prefix": record.action_prefix.ravel().tolist(),
            "promised_delay": int(record.promised_delay),
            "arrival_tick": int(record.arrival_tick),
            "num_ticks_waited": int(record.num_ticks_waited),
            "consumed": float(record.consumed),
            "outcome": record.outcome,
            "reason": record.reason,
            "duration_s": float(record.duration_s),
            "is_bridged": bool(record.is_bridged),
            "is_broken": bool(record.is_broken),
            "is_guided": bool(record.is_guided),
        },
    )


def decode_request(data: bytes, action_dim: int) -> RequestRecord:
    """One request; `action_dim` is the width of a prefix without rows."""
    fields = unpack(REQUEST, data)
    outcome: Outcome = _known("outcome", fields.outcome, get_args(Outcome))
    return RequestRecord(
        id=fields.id,
        observation_tick=fields.observation_tick,
        submitted_s=fields.submitted_s,
        action_prefix=_matrix("action_prefix", fields.action_prefix, fields.num_promised_rows, action_dim),
        promised_delay=fields.promised_delay,
        arrival_tick=fields.arrival_tick,
        num_ticks_waited=fields.num_ticks_waited,
        consumed=int(fields.consumed) if fields.consumed.is_integer() else fields.consumed,
        outcome=outcome,
        reason=fields.reason,
        duration_s=fields.duration_s,
        is_bridged=fields.is_bridged,
        is_broken=fields.is_broken,
        is_guided=fields.is_guided,
    )


def encode_event(event: Event) -> bytes:
    """An event; what JSON cannot hold in its details is an error, NumPy numbers and arrays become lists of numbers."""
    details = json.dumps(dict(event.details), default=_plain)
    return pack(EVENT, {"tick": int(event.tick), "name": event.name, "details": details})


def decode_event(data: bytes) -> Event:
    """An event."""
    fields = unpack(EVENT, data)
    try:
        details = json.loads(fields.details or "{}")
    except ValueError as error:
        raise ValueError(f"the details of the event {fields.name!r} are not JSON: {error}") from error
    if not isinstance(details, Mapping):
        raise ValueError(f"the details of the event {fields.name!r} must be an object; got {fields.details!r}")
    return Event(fields.tick, fields.name, details)


def encode_filtered(tick: int, answer: Action | Takeover) -> bytes:
    """What an `ActionFilter` answered at a tick."""
    action = answer.action if isinstance(answer, Takeover) else answer
    fields: dict[str, Any] = {"tick": int(tick), "values": action.values.tolist()}
    if isinstance(answer, Takeover):
        fields |= {"is_takeover": True, "remaining_ticks": int(answer.remaining_ticks), "reason": answer.reason}
    return pack(FILTERED, fields)


def decode_filtered(data: bytes) -> Action | Takeover:
    """What an `ActionFilter` answered."""
    fields = unpack(FILTERED, data)
    action = Action(_vector(fields.values), fields.tick)
    return Takeover(action, fields.remaining_ticks, fields.reason) if fields.is_takeover else action


def _vector(values: Any) -> FloatArray:
    return np.asarray(values, dtype=np.float32)


def _matrix(name: str, values: Any, num_rows: int, width: int) -> FloatArray:
    if num_rows < 0 or len(values) != num_rows * width:
        raise ValueError(f"{name} must hold {num_rows} x {width} numbers; got {len(values)}")
    return _vector(values).reshape(num_rows, width)


def _known(name: str, value: str, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}; known: {', '.join(known)}")
    return value


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"details of an event must be plain JSON values; got a {type(value).__name__}")
