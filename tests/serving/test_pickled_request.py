"""A pickle is a program. Each hostile one here is first shown to work on Python's own unpickler, where it can."""

import contextlib
import copyreg
import os
import pickle
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cerebella.serving.errors import WireError
from cerebella.serving.pickled_request import read_request

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)

GOLDEN = bytes.fromhex(  # {"task_id": "libero_all", "state": np.array([1.0, -2.0], "<f4"), "seed": 7}, protocol 5, NumPy 2
    "800595a8000000000000007d94288c077461736b5f6964948c0a6c696265726f5f616c6c948c057374617465948c136e756d70792e5f636f"
    "72652e6e756d65726963948c0b5f66726f6d627566666572949394289608000000000000000000803f000000c0948c056e756d7079948c05"
    "64747970659493948c02663494898887945294284b038c013c944e4e4e4affffffff4affffffff4b007494624b0285948c01439474945294"
    "8c0473656564944b07752e"
)


def request(**changes: Any) -> dict[str, Any]:
    picture = Image.fromarray(PIXELS)
    return {"task_id": "libero_all", "state": np.arange(32.0), "base": picture, "language": "Go.", "seed": 7} | changes


def test_golden_bytes() -> None:
    got = read_request(GOLDEN)
    assert {key: got[key] for key in ("task_id", "seed")} == {"task_id": "libero_all", "seed": 7}
    np.testing.assert_array_equal(np.asarray(got["state"]), np.array([1, -2], dtype=np.float32))


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize(
    "state",
    [
        np.linspace(-1, 1, 32),
        np.arange(64, dtype=np.float32)[::2],
        np.arange(32, dtype=">f4").reshape(1, 1, 32),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 3), dtype=np.int16),
        np.array([True, False]),
    ],
    ids=lambda state: f"{state.dtype.str}{list(state.shape)}",
)
def test_what_the_released_client_sends_is_read(protocol: int, state: np.ndarray) -> None:
    got = read_request(pickle.dumps(request(state=state), protocol=protocol))
    assert got.keys() == request().keys()
    assert isinstance(got["state"], np.ndarray)
    assert got["state"].dtype == state.dtype
    np.testing.assert_array_equal(got["state"], state)
    assert isinstance(got["base"], np.ndarray)
    np.testing.assert_array_equal(got["base"], PIXELS)
    assert (got["task_id"], got["language"], got["seed"]) == ("libero_all", "Go.", 7)


@pytest.mark.parametrize("protocol", [4, 5])
def test_values_that_occur_twice(protocol: int) -> None:
    picture, state = Image.fromarray(PIXELS), np.arange(3.0)
    sent = {"base": picture, "wrist_left": picture, "state": state, "again": state, "other": np.ones(2)}
    got = read_request(pickle.dumps(sent, protocol=protocol))
    for key in ("base", "wrist_left"):
        np.testing.assert_array_equal(np.asarray(got[key]), PIXELS)
    for key in ("state", "again", "other"):
        np.testing.assert_array_equal(np.asarray(got[key]), sent[key])


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_module_names_before_and_since_numpy_2(module: str) -> None:
    data = pickle.dumps({"state": np.arange(4.0)[::2]}, protocol=4).replace(
        text("numpy._core.multiarray"), text(f"{module}.multiarray")
    )
    np.testing.assert_array_equal(np.asarray(read_request(unframed(data))["state"]), [0.0, 2.0])


def test_plain_values() -> None:
    sent = {"none": None, "yes": True, "small": -3, "large": 2**80, "real": 1.5, "bytes": b"ab", "umlaut": "ä"}
    assert read_request(pickle.dumps(sent, protocol=5)) == sent


# Hostile pickles


class Call:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.how = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.how


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def unframed(data: bytes) -> bytes:
    """Without the FRAME instruction, whose length no longer fits."""
    return data[:2] + data[11:]


def touch(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


def stack_global(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    **{
        f"os.system, protocol {protocol}": lambda path, protocol=protocol: pickle.dumps(
            Call(os.system, f"touch {path}"), protocol=protocol
        )
        for protocol in range(6)
    },
    "eval in a request": lambda path: pickle.dumps(request(state=Call(eval, touch(path))), protocol=5),
    "exec as a key": lambda path: pickle.dumps({Call(exec, touch(path)): 1}, protocol=5),
    "a chain of calls": lambda path: pickle.dumps(
        Call(eval, Call(str.join, "", [touch(path)])), protocol=5
    ),
    "getattr": lambda path: pickle.dumps(Call(getattr, Call(__import__, "os"), "x", Call(eval, touch(path))), 5),
    "an object array": lambda path: pickle.dumps({"state": np.array([Call(eval, touch(path))], dtype=object)}, 5),
    "an object array, protocol 4": lambda path: pickle.dumps(
        {"state": np.array([Call(eval, touch(path))], dtype=object)}, 4
    ),
    "a dotted name in an allowed module": lambda path: (
        b"\x80\x05" + stack_global("PIL.Image", "os.system") + text(f"touch {path}") + b"\x85R."
    ),
    "GLOBAL": lambda path: b"cos\nsystem\n" + text(f"touch {path}") + b"\x85R.",
    "INST": lambda path: b"(" + text(f"touch {path}") + b"ios\nsystem\n.",
    "OBJ": lambda path: b"(cos\nsystem\n" + text(f"touch {path}") + b"o.",
    "EXT1": lambda path: b"\x82\xf1" + text(f"touch {path}") + b"\x85R.",
    "EXT4": lambda path: b"\x84\xf1\x00\x00\x00" + text(f"touch {path}") + b"\x85R.",
    "a codec inside": lambda path: (
        b"\x80\x05" + stack_global("builtins", "eval")
        + stack_global("_codecs", "decode") + text(touch(path)) + text("unicode_escape") + b"\x86R\x85R."
    ),
    "BUILD through an attribute": lambda path: (
        # an instance of ours whose __setstate__ becomes eval
        b"\x80\x05" + stack_global("types", "SimpleNamespace") + b")R}" + text("__setstate__")
        + stack_global("builtins", "eval") + b"sb" + text(touch(path)) + b"b."
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_executed(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    data = HOSTILE[name](canary)
    if name.startswith("EXT"):
        copyreg.add_extension("os", "system", 0xF1)
    try:
        with contextlib.suppress(TypeError, AttributeError):  # raised after it has run, see the next line
            pickle.loads(data)
        assert canary.exists(), "the control: on Python's unpickler this pickle is harmful"
        canary.unlink()
        with pytest.raises(WireError):
            read_request(data)
    finally:
        if name.startswith("EXT"):
            copyreg.remove_extension("os", "system", 0xF1)
    assert not canary.exists()


def test_a_refused_name_is_not_even_imported() -> None:
    sys.modules.pop("this", None)
    for data in (b"\x80\x05" + stack_global("this", "s") + b".", b"cthis\ns\n."):
        with pytest.raises(WireError):
            read_request(data)
    assert "this" not in sys.modules


IMAGE = stack_global("PIL.Image", "Image")
DTYPE = stack_global("numpy", "dtype")
F4 = DTYPE + text("f4") + b"\x89\x88\x87R"
NEW_ARRAY = (
    stack_global("numpy._core.multiarray", "_reconstruct") + stack_global("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
)

MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "no STOP": b"\x80\x05}",
    "not a map": b"\x80\x05].",
    "bytes after the end": b"\x80\x05}..",
    "an old protocol": pickle.dumps({"a": 1}, protocol=2),
    "nothing on the stack": b"\x80\x05.",
    "TUPLE without a mark": b"\x80\x05t.",
    "an item taken across a mark": b"\x80\x05}(\x85.",
    "a key without a value": b"\x80\x05}(" + text("a") + b"u.",
    "a key that is no text": b"\x80\x05}K\x01K\x01s.",
    "SETITEM on a list": b"\x80\x05]" + text("a") + b"K\x01s.",
    "APPEND on a map": b"\x80\x05}K\x01a.",
    "memo that was never set": b"\x80\x05h\x07.",
    "memo with a huge index": b"\x80\x05}r\xff\xff\xff\x7f.",
    "a list that contains itself": b"\x80\x05]\x94h\x00a.",
    "a map that contains itself": b"\x80\x05}\x94" + text("a") + b"h\x00s.",
    "doubling tuples": b"\x80\x05" + text("ha") + b"\x85" + b"\x94h\x00\x86" * 40 + b".",
    "a huge integer": b"\x80\x05\x8b\xff\xff\xff\x7f.",
    "more bytes than there are": b"\x80\x05\x8e" + struct.pack("<Q", 2**62) + b".",
    "a bytearray larger than memory": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "persistent id": b"Pcanary\n.",
    "binary persistent id": b"\x80\x05K\x01Q.",
    "out-of-band buffer": b"\x80\x05\x97.",
    "read-only buffer": b"\x80\x05\x97\x98.",
    "NEWOBJ_EX": b"\x80\x05" + IMAGE + b")}\x92.",
    "NEWOBJ of a dtype": b"\x80\x05" + DTYPE + text("f4") + b"\x85\x81.",
    "a call of a picture": b"\x80\x05" + IMAGE + b")R.",
    "a name as a value": b"\x80\x05}" + text("a") + IMAGE + b"s.",
    "a new picture without content": b"\x80\x05}" + text("a") + IMAGE + b")\x81s.",
    "a new array without content": b"\x80\x05}" + text("a") + NEW_ARRAY + b"s.",
    "BUILD on a name": b"\x80\x05" + IMAGE + b"}b.",
    "BUILD that sets attributes of a picture": b"\x80\x05" + IMAGE + b")\x81N}" + text("_im") + b"K\x01s\x86b.",
    "BUILD that sets attributes of a dtype": b"\x80\x05" + F4 + b"}" + text("type") + b"K\x01sb.",
    "BUILD on a map": b"\x80\x05}}" + text("x") + b"K\x01sb.",
    "an object dtype": b"\x80\x05" + DTYPE + text("O8") + b"\x89\x88\x87R.",
    "a structured dtype": b"\x80\x05" + DTYPE + text("f4,f4") + b"\x89\x88\x87R.",
    "a subclass instead of ndarray": (
        b"\x80\x05" + stack_global("numpy._core.multiarray", "_reconstruct")
        + stack_global("numpy", "recarray") + b"K\x00\x85C\x01b\x87R."
    ),
    "an array of too many bytes": b"\x80\x05}" + text("a") + NEW_ARRAY + b"(K\x01K\x02\x85" + F4 + b"\x89C\x09" + b"\0" * 9 + b"tbs.",
    "an array with a negative size": b"\x80\x05}" + text("a") + NEW_ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + F4 + b"\x89C\x00tbs.",
    "a numpy scalar": pickle.dumps({"seed": np.float64(1)}, protocol=5),
    "a nested map": pickle.dumps({"a": {"b": 1}}, protocol=5),
    "a list": pickle.dumps({"a": [1, 2]}, protocol=5),
    "a set": pickle.dumps({"a": {1}}, protocol=5),
    "a grey picture": pickle.dumps({"base": Image.fromarray(PIXELS[:, :, 0])}, protocol=5),
    "a picture with a palette": pickle.dumps({"base": Image.fromarray(PIXELS).convert("P")}, protocol=5),
    "text that is no UTF-8": b"\x80\x05}\x8c\x03\xff\xfe\xfdK\x01s.",
    "too many instructions": b"\x80\x05}" + b"\x94" * 10_000 + b".",
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_refused(name: str) -> None:
    with pytest.raises(WireError, match="pickled request"):
        read_request(MALFORMED[name])


def test_a_picture_of_another_size_than_its_bytes() -> None:
    data = unframed(pickle.dumps({"base": Image.fromarray(PIXELS)}, protocol=5)).replace(
        b"K\x03K\x02\x86", b"K\x04K\x02\x86"
    )
    with pytest.raises(WireError, match=r"4 x 2 px"):
        read_request(data)


def test_a_torch_tensor_is_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(WireError, match=r"torch\._utils"):
        read_request(pickle.dumps({"state": torch.zeros(32)}, protocol=5))


def test_cut_off_at_every_byte() -> None:
    data = pickle.dumps(request(), protocol=5)
    for length in range(len(data)):
        with pytest.raises(WireError):
            read_request(data[:length])


def test_flipped_bytes_end_in_a_request_or_a_refusal() -> None:
    rng = random.Random(5)
    valid = pickle.dumps(request(), protocol=5)
    num_read = 0
    for _ in range(3000):
        data = bytearray(valid)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read_request(data)
            num_read += 1
        except WireError:
            pass
    assert 0 < num_read < 3000
