"""Nothing is lost between a record and its message, whatever its numbers are."""

from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cerebella.interfaces import Reply, Takeover
from cerebella.runtime.recording import encoding
from cerebella.runtime.recording.comparison import different_fields, same_bits
from cerebella.runtime.recording.messages import EVENT, OBSERVATION, REQUEST, SCHEMAS, TICK, pack, unpack
from cerebella.runtime.recording.pictures import Camera
from cerebella.runtime.trace import Event, Outcome, RequestRecord, State, TickRecord
from cerebella.types import Action, ActionChunk, FloatArray, Observation
from tests.runtime.recording.made import ZEROS, make_tick

BIG = 2**53
EXTREMES = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, -3.4028235e38, 0.1, 1 / 3, 16777217.0], dtype=np.float32
)

any_vector = arrays(np.float32, st.integers(1, 9), elements=st.floats(width=32))
finite_vector = arrays(
    np.float32, st.integers(1, 9), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)
finite_matrix = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 5)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
integer = st.integers(-BIG, BIG)
seconds = st.floats(allow_nan=False, allow_infinity=False)


@given(any_vector, any_vector, integer, integer, seconds, st.sampled_from(get_args(State)), st.booleans(), st.text())
def test_a_command_comes_back_bit_by_bit(
    values: FloatArray, raw: FloatArray, tick: int, row: int, now_s: float, state: State, flag: bool, prompt: str
) -> None:
    record = TickRecord(tick, state, values, raw, tick + 1, row, tick - 1, now_s, flag, row + 1, 0.25, prompt)
    assert different_fields(record, encoding.decode_tick(encoding.encode_tick(record))) == []


def test_extremes_of_float32_come_back_bit_by_bit() -> None:
    odd = np.array([np.nan, np.inf, -np.inf, *EXTREMES], dtype=np.float32)
    found = encoding.decode_tick(encoding.encode_tick(make_tick(0, values=EXTREMES, raw=odd)))
    assert found.values.tobytes() == EXTREMES.tobytes()
    assert found.raw.tobytes() == odd.tobytes()


@given(finite_matrix, integer, st.integers(0, 8), seconds.map(abs), st.text(), st.floats(0, 1, exclude_max=True))
def test_a_reply_comes_back_bit_by_bit(
    actions: FloatArray, tick: int, prefix: int, duration_s: float, policy_id: str, phase: float
) -> None:
    chunk = ActionChunk(actions, tick, tick - 1, min(prefix, len(actions) - 1), policy_id, duration_s)
    reply, found_tick, found_phase = encoding.decode_reply(encoding.encode_reply(Reply(7, chunk), tick, phase))
    assert (reply.request_id, reply.error, found_tick, found_phase) == (7, None, tick, phase)
    assert reply.chunk is not None
    assert different_fields(chunk, reply.chunk) == []


@given(st.text())
def test_a_failed_reply_keeps_its_words(error: str) -> None:
    reply, *_ = encoding.decode_reply(encoding.encode_reply(Reply(3, error=error), 5, 0.5))
    assert (reply.request_id, reply.chunk, reply.error) == (3, None, error)


@given(finite_matrix, st.integers(0, 9), st.sampled_from(get_args(Outcome)), st.floats(0, 100), st.text())
def test_a_request_comes_back_bit_by_bit(
    rows: FloatArray, num_rows: int, outcome: Outcome, consumed: float, reason: str
) -> None:
    record = RequestRecord(3, 4, 0.1, rows[:num_rows], 2, 9, 5, consumed, outcome, reason, 0.3, True, True)
    found = encoding.decode_request(encoding.encode_request(record), rows.shape[1])
    assert different_fields(record, found) == []
    assert found.action_prefix.shape == rows[:num_rows].shape


@given(finite_vector, st.integers(0, BIG), seconds, seconds, st.text())
def test_an_observation_comes_back_bit_by_bit(
    state: FloatArray, tick: int, timestamp_s: float, now_s: float, prompt: str
) -> None:
    taxels = (np.arange(99).reshape(11, 9) / 7).astype(np.float32)
    cameras = (Camera("base", 4, 6, 2**64 - 1, True), Camera("ego", 1, 1, 0, False))
    observation = Observation(state, prompt, tick, timestamp_s, tactile={"thumb": taxels})
    found, found_s, found_cameras = encoding.decode_observation(
        encoding.encode_observation(observation, now_s, cameras)
    )
    assert different_fields(observation, found, ["images", "tactile"]) == []
    assert same_bits(found.tactile["thumb"], taxels)
    assert (found_s, found_cameras) == (now_s, cameras)


def test_details_of_an_event_come_back() -> None:
    details = {"text": "grün", "flag": True, "number": 0.1, "count": 3}
    event = encoding.decode_event(encoding.encode_event(Event(-1, "task", details)))
    assert (event.tick, event.name, dict(event.details)) == (-1, "task", details)
    event = encoding.decode_event(encoding.encode_event(Event(0, "x", {"numpy": np.float32(0.5)})))  # pyright: ignore[reportArgumentType]
    assert event.details == {"numpy": 0.5}


@given(finite_vector, st.integers(0, 100), st.text())
def test_an_answer_of_a_filter_comes_back(values: FloatArray, remaining: int, reason: str) -> None:
    action = Action(values, 7)
    found = encoding.decode_filtered(encoding.encode_filtered(7, action))
    assert isinstance(found, Action)
    assert different_fields(found, action) == []
    claim = encoding.decode_filtered(encoding.encode_filtered(7, Takeover(action, remaining, reason)))
    assert isinstance(claim, Takeover)
    assert (claim.remaining_ticks, claim.reason) == (remaining, reason)


@pytest.mark.parametrize(
    ("record", "message"), [(TickRecord, TICK), (RequestRecord, REQUEST), (Event, EVENT), (Observation, OBSERVATION)]
)
def test_every_field_of_a_record_has_its_place(record: type, message: str) -> None:
    known = {line.split()[-1] for line in SCHEMAS[message]} | {"images"}
    assert {field.name for field in fields(record)} <= known


def test_a_foreign_message_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not a cerebella\.Tick"):
        encoding.decode_tick(b"\xff\xff\xff")
    with pytest.raises(ValueError, match="unknown state 'dance'; known: run"):
        encoding.decode_tick(pack(TICK, {"state": "dance"}))
    with pytest.raises(ValueError, match="a chunk of 3 numbers cannot have 2 rows"):
        encoding.decode_reply(pack("cerebella.Reply", {"horizon": 2, "actions": [1.0, 2.0, 3.0]}))
    with pytest.raises(ValueError, match="action_prefix must hold 2 x 4 numbers; got 3"):
        encoding.decode_request(
            pack(REQUEST, {"outcome": "used", "num_promised_rows": 2, "action_prefix": [0.0] * 3}), 4
        )
    with pytest.raises(ValueError, match="details of the event 'x' are not JSON"):
        encoding.decode_event(pack(EVENT, {"name": "x", "details": "{"}))


def test_absent_fields_are_zero_or_empty() -> None:
    assert list(unpack(TICK, b"").values) == []
    assert encoding.decode_tick(encoding.encode_tick(make_tick(0))).values.tobytes() == ZEROS.tobytes()
