import io
import random
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from cerebella.serving.errors import WireError
from cerebella.serving.npz import pack_npz, unpack_npz

LIMIT = 10_000_000

ARRAYS: dict[str, np.ndarray] = {
    "a": np.arange(6.0).reshape(2, 3),
    "text": np.array("grüß"),
    "image/base": np.arange(36, dtype=np.uint8).reshape(3, 4, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    "scalar": np.array(3),
    "none": np.zeros((0, 7), dtype=np.float32),
    "vector": np.array([1, 2]),
    "yes": np.array(True),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(save: Any) -> None:
    buffer = io.BytesIO()
    save(buffer, **ARRAYS)
    check(unpack_npz(buffer.getvalue(), LIMIT))


def test_what_we_write_numpy_reads_without_pickle() -> None:
    with np.load(io.BytesIO(pack_npz(ARRAYS)), allow_pickle=False) as archive:
        check(dict(archive))


def check(got: dict[str, np.ndarray]) -> None:
    assert got.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(got[name], array)


def archive_of(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def header(descr: str, shape: str, order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


MALFORMED: dict[str, bytes] = {
    "an object array": npy(header("'|O'", "(1,)"), b"cos\nsystem\n"),
    "a structured array": npy(header("[('a', '<f4')]", "(1,)"), bytes(4)),
    "complex numbers": npy(header("'<c8'", "(1,)"), bytes(8)),
    "times": npy(header("'<M8[s]'", "(1,)"), bytes(8)),
    "bytes": npy(header("'|S4'", "(1,)"), bytes(4)),
    "a float of three bytes": npy(header("'<f3'", "(1,)"), bytes(3)),
    "text of enormous width": npy(header("'<U9999999'", "(1,)"), b""),
    "a program as a header": npy("__import__('os').system('true')"),
    "a negative size": npy(header("'<f4'", "(-1,)"), bytes(4)),
    "an array larger than memory": npy(header("'<f8'", "(999999999999, 999999999)"), bytes(8)),
    "too many axes": npy(header("'<f4'", "(1, 1, 1, 1, 1, 1, 1, 1, 1)"), bytes(4)),
    "too few bytes": npy(header("'<f4'", "(2,)"), bytes(4)),
    "too many bytes": npy(header("'<f4'", "(2,)"), bytes(12)),
    "another version": npy(header("'<f4'", "(1,)"), bytes(4), version=b"\x03\x00"),
    "a pickle": b"\x80\x05cos\nsystem\n.",
    "nothing": b"",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_arrays_are_refused(name: str) -> None:
    with pytest.raises(WireError, match="NPZ archive"):
        unpack_npz(archive_of(("a.npy", MALFORMED[name])), LIMIT)


def test_what_is_no_archive_is_refused() -> None:
    for data in (b"", b"PK", b"x" * 100, pack_npz(ARRAYS)[:-1], pack_npz(ARRAYS)[1:]):
        with pytest.raises(WireError, match="NPZ archive"):
            unpack_npz(data, LIMIT)


def test_an_archive_that_grows_when_it_is_unpacked() -> None:
    content = npy(header("'|u1'", f"({LIMIT},)"), bytes(LIMIT))
    bomb = archive_of(("a.npy", content), compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < LIMIT / 100
    with pytest.raises(WireError, match="unpacks to more than 10000000 bytes") as caught:
        unpack_npz(bomb, LIMIT)
    assert caught.value.reason == "size"


def test_too_many_arrays_and_other_compressions() -> None:
    small = npy(header("'|u1'", "()"), b"x")
    with pytest.raises(WireError, match="100 arrays"):
        unpack_npz(archive_of(*((f"{i}.npy", small) for i in range(100))), LIMIT)
    with pytest.raises(WireError, match="compression 12"):
        unpack_npz(archive_of(("a.npy", small), compression=zipfile.ZIP_BZIP2), LIMIT)


def test_flipped_bytes_end_in_arrays_or_a_refusal() -> None:
    rng = random.Random(5)
    valid = pack_npz(ARRAYS)
    num_read = 0
    for _ in range(3000):
        data = bytearray(valid)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            unpack_npz(data, LIMIT)
            num_read += 1
        except WireError:
            pass
    assert 0 < num_read < 3000
