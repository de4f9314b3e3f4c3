"""Arrays as msgpack: the exact bytes, round trips, and everything that must be refused."""

import struct
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cerebella.serving.arrays import MAX_DEPTH, array_of, pack, unpack
from cerebella.serving.errors import WireError

NUMBERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "<f2", "<f4", ">f4", "<f8")
arrays = st.sampled_from(NUMBERS).flatmap(
    lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, min_side=0))
)
plain = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
names = st.text().filter(lambda name: not name.startswith("__"))  # two of these mean arrays and pictures
values = st.recursive(
    plain | arrays, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    return type(left) is type(right) and left == right


def test_the_bytes_of_an_array_are_those_of_openpi() -> None:
    array = np.array([[1.0, -2.0]], dtype=np.float32)
    raw = struct.pack("<2f", 1.0, -2.0)
    golden = b"\x81\xa1a\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x08" + raw
    golden += b"\xc4\x05dtype\xa3<f4\xc4\x05shape\x92\x01\x02"
    assert pack({"a": array}) == golden


def test_the_bytes_of_an_array_with_text_keys_are_those_of_vla_eval() -> None:
    golden = b"\x84\xab__ndarray__\xc3\xa4data\xc4\x02\x01\x02\xa5dtype\xa3|u1\xa5shape\x91\x02"
    assert pack(np.array([1, 2], dtype=np.uint8), keys="text") == golden


def test_the_bytes_of_a_scalar_are_those_of_openpi() -> None:
    golden = b"\x83\xc4\x0d__npgeneric__\xc3\xc4\x04data\x07\xc4\x05dtype\xa3<i4"
    assert pack(np.int32(7)) == golden
    assert pack(np.int32(7), keys="text") == b"\x07"


@settings(max_examples=300, deadline=None)
@given(values, st.sampled_from(["binary", "text"]))
def test_what_is_packed_comes_back(value: Any, keys: Any) -> None:
    assert same(unpack(pack(value, keys)), value)


@given(st.sampled_from(["float32", "int64", "bool", "uint8"]), st.integers(0, 1))
def test_scalars_come_back_with_their_type(name: str, number: int) -> None:
    scalar = np.dtype(name).type(number)
    back = unpack(pack(scalar))
    assert back == scalar
    assert back.dtype == scalar.dtype


def test_arrays_that_do_not_lie_in_c_order_are_sent_in_it() -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    for view in (array.T, array[:, ::2], np.asfortranarray(array)):
        assert same(unpack(pack(view)), np.ascontiguousarray(view))


def test_decoded_arrays_are_read_only() -> None:
    array = unpack(pack(np.zeros(3, dtype=np.float32)))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1.0


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.array([1j]),
        np.zeros(1, dtype=[("a", "f4")]),
        np.array(["text"]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.complex64(1j),
    ],
)
def test_other_types_are_not_sent(array: Any) -> None:
    for keys in ("binary", "text"):
        with pytest.raises(ValueError, match="cannot be sent"):
            pack(array, keys)
    assert pack({"the packer": "goes on"}) == msgpack.packb({"the packer": "goes on"})


@pytest.mark.parametrize(
    "dtype", ["|O", "|O8", "<c8", "|V4", "<U4", "<M8[s]", "f4,f4", "(2,)<f4", "<f16", "", None, 4, b"|O"]
)
def test_other_types_are_not_read(dtype: Any) -> None:
    for keys in ((b"__ndarray__", b"data", b"dtype", b"shape"), ("__ndarray__", "data", "dtype", "shape")):
        message = msgpack.packb(dict(zip(keys, (True, bytes(8), dtype, [1]), strict=True)))
        assert message is not None
        with pytest.raises(WireError, match="dtype"):
            unpack(message)


@pytest.mark.parametrize("shape", [None, 3, "3", [-1], [1.0], [True], [3], [1 << 40, 0], [0, 1 << 40], [1] * 9, [[2]]])
def test_shapes_that_do_not_fit_are_refused(shape: Any) -> None:
    with pytest.raises(WireError):
        array_of(bytes(8), "<f4", shape)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "syntax"),
        (b"\xc1", "syntax"),  # never used by msgpack
        (pack({"a": 1}) + b"\x00", "syntax"),  # something left over
        (pack({"a": np.zeros(9)})[:-3], "syntax"),  # cut short
        (b"\x81\x01\x02", "syntax"),  # a key that is a number
        (b"\xa2\xff\xfe", "syntax"),  # text that is no UTF-8
        (b"\xdd\xff\xff\xff\xff", "syntax"),  # a list that claims four billion entries
        (b"\xc6\xff\xff\xff\xff", "syntax"),  # bytes that claim four gigabytes
        (msgpack.packb(msgpack.ExtType(5, b"x")), "syntax"),
        (msgpack.packb(msgpack.Timestamp(1, 2)), "syntax"),
        (b"\x91" * 900 + b"\x00", "size"),
        (b"\x91" * 5000 + b"\x00", "syntax"),
        (b"\x91" * (MAX_DEPTH + 1) + b"\x00", "size"),
        (b"\xdc\x1f\xff" + (b"\xdc\x00\x20" + bytes(32)) * 8191, "size"),  # many small lists
        (b"\xdc\x1f\xff" + b"\x80" * 8191, None),
        (b"\xdd\x00\x01\x00\x01" + bytes(65537), "syntax"),
        (b"\xde\xff\xff", "syntax"),
        (b"\x82\xae__npgeneric__\xc3\xa4data\xcd\x01\x2c", "syntax"),
        (msgpack.packb({"__npgeneric__": True, "data": 300, "dtype": "|u1"}), "schema"),
        (msgpack.packb({"__npgeneric__": True, "data": "x", "dtype": "<f4"}), "schema"),
        (msgpack.packb({"__npgeneric__": True, "data": 1, "dtype": "|O"}), "schema"),
        (msgpack.packb({b"__ndarray__": True}), "schema"),
    ],
)
def test_malformed_messages_are_refused_with_a_reason(message: bytes, reason: str | None) -> None:
    if reason is None:
        unpack(message)
        return
    with pytest.raises(WireError) as refused:
        unpack(message)
    assert refused.value.reason == reason
    assert len(str(refused.value)) < 200


def refusal(message: bytes | bytearray) -> str | None:
    """Why a message is refused; None if it can be read. Any other exception is a fault."""
    try:
        unpack(message)
    except WireError as refused:
        return refused.reason
    return None


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(message: bytes) -> None:
    assert refusal(message) in (None, "syntax", "schema", "size")


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_message_is_read_or_refused(where: int, what: int) -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    message = bytearray(pack({"state": np.zeros(4, dtype=np.float32), "prompt": "go", "images": {"base": picture}}))
    message[where % len(message)] = what
    assert refusal(message) in (None, "syntax", "schema", "size")
