"""Pickles that create a file when Python's own unpickler reads them: the canary of a campaign."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np


class _Call:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._how = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._how


def hostile_pickles(canary: Path) -> list[bytes]:
    """Every way we know to make an unpickler create the file `canary`, bare and inside what a request looks like."""
    program = f"open({str(canary)!r}, 'w').close()"
    command = f"touch {canary}"
    pickles: list[bytes] = []
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for call in (_Call(os.system, command), _Call(eval, program), _Call(exec, program)):
            request = {"task_id": "libero_all", "state": call, "language": "Go."}
            pickles += [pickle.dumps(value, protocol=protocol) for value in (call, request, [call], {"state": [call]})]
        pickles.append(pickle.dumps({"state": np.array([_Call(eval, program)], dtype=object)}, protocol=protocol))
    text = b"X" + len(command).to_bytes(4, "little") + command.encode()
    pickles += [
        b"cos\nsystem\n" + text + b"\x85R.",
        b"(" + text + b"ios\nsystem\n.",
        b"(cos\nsystem\n" + text + b"o.",
        b"\x80\x05\x8c\x09PIL.Image\x8c\x09os.system\x93" + text + b"\x85R.",
    ]
    return pickles


def are_live(pickles: list[bytes], canary: Path) -> bool:
    """The control: whether each of them creates the canary where it is unpickled carelessly. Leaves no canary behind."""
    for data in pickles:
        pickle.loads(data)
        if not canary.exists():
            return False
        canary.unlink()
    return True
