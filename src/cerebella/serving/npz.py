"""NPZ archives from and to the wire, without NumPy's readers.

`numpy.load` allocates what a header promises and evaluates the header as a Python literal. Here the header has one exact
form (the one that every NumPy writes), nothing is allocated beyond the bytes that came, and a compressed archive may not
grow beyond the cap.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cerebella.serving.errors import WireError

MAX_NUM_ARRAYS = 64
_HEADER = re.compile(
    rb"\{'descr': '([<>|][biufU]\d{1,7})', 'fortran_order': (False|True), "
    rb"'shape': \(((?:\d{1,12}(?:, \d{1,12})*,?)?)\), ?\} *\n"
)
_MAGIC = b"\x93NUMPY"


def pack_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An uncompressed archive with these arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_npz(data: bytes | bytearray | memoryview, max_num_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of an archive, read-only.

    Args:
        data: the whole archive.
        max_num_bytes: cap on the sum of the unpacked arrays.

    Raises:
        WireError: no archive, damaged, too large, or an array of another kind than bool, integer, float and text.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MAX_NUM_ARRAYS:
                raise WireError(f"an NPZ archive of {len(members)} arrays; at most {MAX_NUM_ARRAYS}", "size")
            left = max_num_bytes
            for member in members:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise WireError(
                        f"an NPZ archive with compression {member.compress_type}; known: 0 and 8 (deflate)", "syntax"
                    )
                with archive.open(member) as file:
                    content = file.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise WireError(f"an NPZ archive that unpacks to more than {max_num_bytes} bytes", "size")
                arrays[member.filename.removesuffix(".npy")] = _unpack_npy(member.filename, content)
    except WireError:
        raise
    except (
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        struct.error,
        KeyError,
    ) as error:
        # What zipfile raises for damaged, encrypted (RuntimeError) and exotic (NotImplementedError) archives.
        raise WireError(f"not a readable NPZ archive: {error}", "syntax") from error
    return arrays


def _unpack_npy(name: str, content: bytes) -> NDArray[Any]:
    """One array in NPY format 1.0 or 2.0."""
    width = {b"\x01\x00": 2, b"\x02\x00": 4}.get(content[6:8])
    if not content.startswith(_MAGIC) or width is None:
        raise ValueError(f"{name!r} is not an NPY array (format 1.0 or 2.0)")
    start = 8 + width
    end = start + int.from_bytes(content[8:start], "little")
    header = _HEADER.fullmatch(content, start, end)
    if header is None:
        raise ValueError(
            f"{name!r}: not the header of an array of bools, integers, floats or text: {content[start:end][:80]!r}"
        )
    descr, is_fortran, sizes = header.groups()
    try:
        dtype = np.dtype(descr.decode("ascii"))
    except TypeError as error:
        raise ValueError(f"{name!r}: {error}") from error
    shape = tuple(int(size) for size in sizes.decode("ascii").replace(",", " ").split())
    num_bytes = math.prod(shape) * dtype.itemsize
    if len(shape) > 8 or num_bytes != len(content) - end:
        raise ValueError(
            f"{name!r}: {dtype.str}{list(shape)} takes {num_bytes} bytes (8 axes at most); got {len(content) - end}"
        )
    order = "F" if is_fortran == b"True" else "C"
    return np.frombuffer(content, dtype=dtype, offset=end, count=math.prod(shape)).reshape(shape, order=order)
