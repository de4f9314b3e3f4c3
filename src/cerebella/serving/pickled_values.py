"""The five names that a pickled request may hold, and what they build: an array, its type, a picture. See `pickled_request`.

Nothing here is a class or function of NumPy or Pillow under its pickled name; values are made from checked bytes.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_IMAGE_SIDE_PX = 4096

_GLOBALS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("PIL.Image", "Image"): "image",
}
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]")


@dataclass(frozen=True)
class Name:
    """One of the five names; it can be called in the ways that `_Machine` knows, and in no other."""

    name: str


@dataclass
class Built:
    """A dtype, an array or a picture; `value` is None until a BUILD instruction completes it."""

    kind: str
    value: Any = None


def known_name(module: object, attribute: object) -> Name:
    """One of the five names; a ValueError names another one."""
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise ValueError("a name must be text")
    known = _GLOBALS.get((module, attribute))
    if known is None:
        raise ValueError(f"the name {module[:60]}.{attribute[:60]} is not one that a request needs")
    return Name(known)


def call(instruction: str, called: object, arguments: object) -> Built:
    """What one of the five names would build from its arguments."""
    match instruction, called, arguments:
        case "NEWOBJ", Name("image"), ():
            return Built("image")
        case "REDUCE", Name("reconstruct"), (Name("ndarray"), (0,), b"b"):
            return Built("array")
        case "REDUCE", Name("dtype"), (str(code), False, True) if _DTYPE.fullmatch(code):
            return Built("dtype", np.dtype(code))
        case "REDUCE", Name("frombuffer"), (
            bytes() | bytearray() as data,
            Built("dtype", dtype),
            shape,
            "C" | "F" as order,
        ):
            return Built("array", _array(data, dtype, shape, order))
    raise ValueError("a call that builds neither an array nor a picture")


def complete(built: Built, state: object) -> None:
    """Give a new object its content, once."""
    match built, state:
        case Built("dtype", np.dtype() as dtype), (3, "<" | ">" | "|" as byte_order, None, None, None, -1, -1, 0):
            built.value = dtype.newbyteorder(byte_order)
        case Built("array", None), (1, shape, Built("dtype", dtype), bool(is_fortran), bytes(data)):
            built.value = _array(data, dtype, shape, "F" if is_fortran else "C")
        case Built("image", None), [dict(), "RGB", (int(width), int(height)), None, bytes(data)]:
            sides = (width, height)
            if not all(1 <= side <= MAX_IMAGE_SIDE_PX for side in sides) or len(data) != 3 * width * height:
                raise ValueError(
                    f"a picture of {width} x {height} px with {len(data)} bytes; each side must be "
                    f"1..{MAX_IMAGE_SIDE_PX} px, with 3 bytes per pixel"
                )
            built.value = np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)
        case _:
            raise ValueError(f"this is no content of a new {built.kind} (pictures must be RGB)")


def _array(data: bytes | bytearray, dtype: Any, shape: object, order: Any) -> NDArray[Any]:
    """An array over `data`, which must be exactly what type and shape say."""
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**32 for n in shape):
        raise ValueError("the shape of an array must be up to 8 sizes, each 0 or more")
    num_bytes = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
    if num_bytes != len(data):
        raise ValueError(f"{dtype.str}{list(shape)} takes {num_bytes} bytes; got {len(data)}")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order=order)
