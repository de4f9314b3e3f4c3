"""Wrong schemas: valid messages with one or two entries replaced, taken out, renamed or added, anywhere in them."""

import math
import random
from typing import Any

import msgpack

Path = tuple[Any, ...]


def spoiled(rng: random.Random, tree: Any) -> Any:
    """A copy of nested maps and lists with one to three changes."""
    copy = _copy(tree)
    for _ in range(rng.randint(1, 3)):
        paths = list(_paths(copy))
        if not paths:
            return odd_value(rng)
        *parents, key = rng.choice(paths)
        container = copy
        for parent in parents:
            container = container[parent]
        _change(rng, container, key)
    return copy


def packed(value: Any) -> bytes:
    """msgpack of anything, wrong types included."""
    data = msgpack.packb(value)
    assert data is not None
    return data


def odd_value(rng: random.Random, depth: int = 0) -> Any:
    """Anything that msgpack can carry, and that a message should not hold."""
    number = rng.randrange(16)
    simple: list[Any] = [
        None, True, -1, 2**63, -(2**63), math.nan, math.inf, 1e300, "", "x" * rng.randrange(3000), b"", rng.randbytes(40),
        msgpack.ExtType(rng.randrange(128), rng.randbytes(8)), rng.uniform(-9, 9),
    ]  # fmt: skip
    if number < len(simple) or depth > 40:
        return simple[number % len(simple)]
    if number == 14:
        return [odd_value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 2000 if not depth else 2)))]
    return {str(i): odd_value(rng, depth + 1 + rng.choice((0, 30))) for i in range(rng.randrange(4))}


def _change(rng: random.Random, container: Any, key: Any) -> None:
    kind = rng.randrange(5)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice(("x", 3, b"data", "__ndarray__", "__image__", b"__npgeneric__"))] = container.pop(key)
    elif kind == 2 and isinstance(container, dict):
        container[rng.choice(("seq", "session", "reset", "shape", "dtype", "stray"))] = odd_value(rng)
    elif kind == 3 and isinstance(container[key], bytes) and container[key]:
        container[key] = container[key][: rng.randrange(len(container[key]))]
    else:
        container[key] = rng.choice((odd_value(rng), rng.choice(("|O", "<c8", "<M8[s]", "|V4", "<f4", [2**40, 2**40]))))


def _paths(tree: Any, prefix: Path = ()) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*prefix, key)
        yield from _paths(value, (*prefix, key))


def _copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    return [_copy(value) for value in tree] if isinstance(tree, list | tuple) else tree
