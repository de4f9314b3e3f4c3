"""Reads the pickle that the released Xiaomi-Robotics-0 client sends, without Python's unpickler.

A pickle is a program: it names functions and calls them. This is an interpreter of the small part of that language that
a request is written in. It knows five names, and none of them is ever looked up: what they would build (an array, its
type, a picture) is built here, from checked bytes. Every other name and every other instruction is refused before its
argument is read, so there is nothing to call, nothing to import, and no attribute to set.

The five names, at protocols 4 and 5 (the client writes the highest it knows): `numpy.ndarray`, `numpy.dtype`, NumPy's
`_frombuffer` and `_reconstruct` under their module names before and since NumPy 2, and `PIL.Image.Image`.
"""

import io
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cerebella.serving.errors import WireError
from cerebella.serving.pickled_values import Built, call, complete, known_name

RequestValue = str | int | float | bool | bytes | None | NDArray[Any]
"""What a key of a request may hold; a picture is a uint8[h, w, 3] array."""

MAX_NUM_INSTRUCTIONS = 2_000
"""A request of the released clients takes about 120."""

_LITERALS = {"SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_LITERALS |= {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OTHERS = {"PROTO", "FRAME", "STOP", "MARK", "TUPLE", "APPEND", "APPENDS", "SETITEM", "SETITEMS"}
_OTHERS |= {"MEMOIZE", "BINGET", "LONG_BINGET", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD"}
_INSTRUCTIONS = {
    opcode.code.encode("latin-1"): opcode
    for opcode in pickletools.opcodes
    if opcode.name in _LITERALS | _CONSTANTS.keys() | _TUPLES.keys() | _OTHERS
}


def read_request(data: bytes | bytearray | memoryview) -> dict[str, RequestValue]:
    """The map in a pickled request.

    Args:
        data: one whole pickle; the caller bounds its length.

    Raises:
        WireError: it is truncated, names or does anything that a request does not need, or is no map from text to
            text, numbers, bytes, arrays (bool, integer, float) and RGB pictures.
    """
    try:
        request = _Machine().run(io.BytesIO(data))
        if not isinstance(request, dict):
            raise ValueError(f"a request must be a map; got a {type(request).__name__}")
        return {key: _finished(key, value) for key, value in request.items()}
    except ValueError as error:
        raise WireError(f"pickled request: {error}", "syntax") from error


def _finished(key: str, value: object) -> RequestValue:
    """A value of the request, after the last instruction."""
    if isinstance(value, Built) and isinstance(value.value, np.ndarray):
        return value.value
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair, which a pickle may carry, raises a ValueError
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"{key!r} holds a {type(value).__name__}; a request is flat")


class _Machine:
    """The stack machine of the pickle language, without what could name or call anything else."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: list[Any] = []

    def run(self, stream: io.BytesIO) -> object:
        """The object on the stack at STOP."""
        for _ in range(MAX_NUM_INSTRUCTIONS):
            code = stream.read(1)
            opcode = _INSTRUCTIONS.get(code)
            if opcode is None:
                raise ValueError(f"the instruction {code!r} is not one that a request needs")
            argument = opcode.arg.reader(stream) if opcode.arg is not None else None
            if opcode.name == "STOP":
                if stream.read(1):
                    raise ValueError("bytes follow its end")
                return self._pop()
            self._step(opcode.name, argument)
        raise ValueError(f"more than {MAX_NUM_INSTRUCTIONS} instructions")

    def _step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            self._stack.append(tuple(self._pop_several(_TUPLES[name])))
        elif name == "PROTO" and argument not in (4, 5):
            raise ValueError(f"protocol {argument}; known: 4, 5")
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name == "TUPLE":
            self._stack.append(tuple(self._pop_to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = self._items(name)
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            self._set_items(self._items(name))
        elif name == "MEMOIZE":
            self._memo.append(self._top(object))
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._remembered(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = self._pop(), self._pop()
            self._stack.append(known_name(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, called = self._pop(), self._pop()
            self._stack.append(call(name, called, arguments))
        elif name == "BUILD":
            state = self._pop()
            complete(self._top(Built), state)

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("an instruction finds nothing on the stack")
        return self._stack.pop()

    def _pop_several(self, number: int) -> list[Any]:
        return [self._pop() for _ in range(number)][::-1]

    def _top(self, kind: type) -> Any:
        value = self._pop()
        if not isinstance(value, kind):
            raise ValueError(f"a {kind.__name__} was expected; got a {type(value).__name__}")
        self._stack.append(value)
        return value

    def _pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise ValueError("an instruction finds no mark on the stack")
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _items(self, name: str) -> list[Any]:
        """The operands of an instruction for one item, or (the plural) for all down to the mark."""
        if name.endswith("S"):
            return self._pop_to_mark()
        return self._pop_several(2 if name == "SETITEM" else 1)

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        if len(items) % 2 or not all(isinstance(key, str) for key in items[::2]):
            raise ValueError("the keys of a map must be text, each with one value")
        target.update(zip(items[::2], items[1::2], strict=True))

    def _remembered(self, index: int) -> Any:
        """A value used before. Containers are not: so nothing contains itself, or grows by being repeated."""
        if index >= len(self._memo) or isinstance(self._memo[index], dict | list | tuple):
            raise ValueError(f"nothing that may be used again has the number {index}")
        return self._memo[index]
