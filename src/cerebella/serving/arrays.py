"""Arrays and plain values as msgpack, in the layout of openpi, and back without trusting the sender.

An array is a map of four entries; a NumPy scalar is one of three (openpi, packages/openpi-client `msgpack_numpy.py`):

    {"__ndarray__": true, "data": raw bytes in C order, "dtype": "<f4", "shape": [h, w, 3]}
    {"__npgeneric__": true, "data": 1.5, "dtype": "<f4"}

openpi writes these keys as binary, vla-eval (`protocol/numpy_codec.py`) as text; both are read. vla-eval also packs pictures
as `__image__` maps, see `pictures`. Only bool, integer and float types of 1 to 8 bytes exist here: nothing that is read can
become an object, and nothing is executed.
"""

import math
import threading
from collections.abc import Sequence
from typing import Any, Literal

import msgpack
import numpy as np
from numpy.typing import NDArray

from cerebella.serving.errors import WireError
from cerebella.serving.pictures import decode_picture

Keys = Literal["binary", "text"]

MAX_DEPTH = 16
MAX_NUM_ITEMS = 65_536
"""Entries of all maps and lists of one message together."""
MAX_TEXT_BYTES = 1 << 20
_MAX_NUM_IN_ONE = 8192
_MAX_NDIM = 8

_DTYPES: dict[str, np.dtype[Any]] = {}
for _name in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
    _DTYPES[_name] = np.dtype(_name)
for _name in ("float16", "float32", "float64"):
    _DTYPES[_name] = np.dtype(_name)
for _dtype in list(_DTYPES.values()):
    for _order in "<>|=":
        _DTYPES[_order + _dtype.str[1:]] = np.dtype(_order + _dtype.str[1:])


def pack(value: Any, keys: Keys = "binary") -> bytes:
    """One message: maps, lists, tuples, text, bytes, numbers, None and arrays.

    Args:
        value: what to send.
        keys: of array maps; `binary` as openpi, `text` as vla-eval.

    Raises:
        ValueError: an array of another type than bool, integer or float (object, void, complex, text, time).
        TypeError: a value that msgpack does not know.
    """
    packed = (_packers.binary if keys == "binary" else _packers.text).pack(value)
    assert packed is not None
    return packed


def unpack(message: bytes | bytearray | memoryview) -> Any:
    """The value of one message; arrays are read-only views of a copy of the message's bytes.

    Raises:
        WireError: no msgpack, an extension type, something left over, too deep, too many entries, or a malformed array.
    """
    budget = _Budget()
    try:
        value = msgpack.unpackb(
            message,
            object_hook=budget.convert,
            list_hook=budget.count,
            ext_hook=_refuse_extension,
            strict_map_key=True,
            max_str_len=MAX_TEXT_BYTES,
            max_bin_len=len(message),
            max_array_len=_MAX_NUM_IN_ONE,
            max_map_len=_MAX_NUM_IN_ONE,
            max_ext_len=0,
        )
    except WireError:
        raise
    except (ValueError, msgpack.UnpackException, RecursionError) as error:  # what msgpack raises for malformed input
        raise WireError(f"not a msgpack message: {type(error).__name__}", "syntax") from error
    if _is_deeper_than(value, MAX_DEPTH):
        raise WireError(f"the message is nested more than {MAX_DEPTH} deep", "size")
    return value


def array_of(data: bytes | memoryview, dtype: object, shape: object) -> NDArray[Any]:
    """A read-only array over received bytes.

    Args:
        data: raw bytes in C order. dtype: `<f4`, `|u1`, `float32` and so on. shape: a list of sizes.

    Raises:
        WireError: another type than bool, integer or float, or bytes that do not fill the shape.
    """
    known = _DTYPES.get(dtype.decode("ascii", "replace") if isinstance(dtype, bytes) else str(dtype))
    if known is None:
        raise WireError(f"an array has the dtype {str(dtype)[:40]!r}; only bool, integers and floats are accepted")
    if not isinstance(shape, list | tuple) or len(shape) > _MAX_NDIM or not all(_is_size(size) for size in shape):
        raise WireError(f"an array's shape must be a list of up to {_MAX_NDIM} sizes")
    if not isinstance(data, bytes | memoryview) or len(data) != math.prod(shape) * known.itemsize:
        raise WireError(f"an array's data must be {math.prod(shape) * known.itemsize} bytes for its shape and dtype")
    array: NDArray[Any] = np.frombuffer(data, dtype=known).reshape(shape)
    return array


def check_numeric(array: NDArray[Any] | np.generic) -> None:
    """Raise a ValueError unless the type may travel."""
    if array.dtype.str not in _DTYPES:
        raise ValueError(f"an array of dtype {array.dtype} cannot be sent; only bool, integers and floats can")


class _Budget:
    """Counts entries while msgpack builds a value, and turns array maps into arrays."""

    def __init__(self) -> None:
        self._num_left = MAX_NUM_ITEMS

    def count(self, items: list[Any]) -> list[Any]:
        self._spend(len(items))
        return items

    def convert(self, fields: dict[Any, Any]) -> Any:
        self._spend(len(fields) + 1)
        if len(fields) > 8:
            return fields
        for array_key, scalar_key, data, dtype, shape in (
            (b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"),
            ("__ndarray__", "__npgeneric__", "data", "dtype", "shape"),
        ):
            if array_key in fields:
                return array_of(fields.get(data, b""), fields.get(dtype), fields.get(shape))
            if scalar_key in fields:
                return _scalar_of(fields.get(data), fields.get(dtype))
        return decode_picture(fields) if "__image__" in fields or b"__image__" in fields else fields

    def _spend(self, number: int) -> None:
        self._num_left -= number
        if self._num_left < 0:
            raise WireError(f"the message has more than {MAX_NUM_ITEMS} entries", "size")


def _scalar_of(data: object, dtype: object) -> np.generic:
    known = _DTYPES.get(dtype.decode("ascii", "replace") if isinstance(dtype, bytes) else str(dtype))
    if known is None or not isinstance(data, bool | int | float):
        raise WireError("a NumPy scalar must be a number or a bool with its dtype")
    try:
        with np.errstate(all="ignore"):
            return known.type(data)
    except (OverflowError, ValueError) as error:
        raise WireError(f"{data!r} does not fit into {known}") from error


def _encode_binary(value: object) -> dict[bytes, Any]:
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": _bytes_of(value),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic):
        check_numeric(value)
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _encode_text(value: object) -> Any:
    if isinstance(value, np.ndarray):
        return {
            "__ndarray__": True,
            "data": _bytes_of(value),
            "dtype": value.dtype.str,
            "shape": value.shape,
        }
    if isinstance(value, np.generic):
        check_numeric(value)
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _bytes_of(array: NDArray[Any]) -> bytes | memoryview:
    """The array's bytes in C order, without a copy where they lie so already."""
    check_numeric(array)
    if not array.size:
        return b""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _is_size(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 31


def _refuse_extension(code: int, data: bytes) -> Any:
    raise WireError(f"msgpack extension type {code} is not accepted", "syntax")


def _is_deeper_than(value: Any, depth: int) -> bool:
    level: Sequence[Any] = [value]
    for _ in range(depth):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return True


def _children(item: Any) -> Sequence[Any]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else ()


class _Packers(threading.local):
    """One pair per thread, kept because a new one allocates a megabyte."""

    def __init__(self) -> None:
        self.binary = msgpack.Packer(default=_encode_binary)
        self.text = msgpack.Packer(default=_encode_text)


_packers = _Packers()
