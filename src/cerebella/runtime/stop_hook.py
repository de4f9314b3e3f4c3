"""How to stop a robot when the process that drove it is dead: descriptions that a watchdog can carry out by itself.

| hook          | for                                                | what it costs in an emergency               |
|---------------|----------------------------------------------------|---------------------------------------------|
| `StopMessage` | a controller that listens to a socket              | one message; the best choice where it exists |
| `StopCall`    | a driver's own stop function (SDK, serial bus, ROS)| one call; imported before, not when it counts|
| `StopCommand` | everything else: any program                       | starting a process, tens of milliseconds     |

They are data, not objects of the executor: nothing in them refers to memory, sockets or threads of the process that
dies. All of them may run more than once, so what they cause must be harmless when repeated.
"""

import importlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Protocol = Literal["tcp", "udp"]
_NUM_DATAGRAMS = 5
_DATAGRAM_SPACING_S = 0.005


@dataclass(frozen=True)
class StopMessage:
    """Send bytes to the robot. Over UDP five times, because a datagram may be lost.

    Args:
        host, port: where the robot listens.
        payload: what to send, as text (UTF-8).
        protocol: `tcp` or `udp`.
        answer: over TCP, text that the robot's answer must hold; empty asks for none. Without an answer nobody knows
            whether the robot has understood.
    """

    host: str
    port: int
    payload: str
    protocol: Protocol = "tcp"
    answer: str = ""

    def __post_init__(self) -> None:
        if self.protocol not in get_args(Protocol):
            raise ValueError(f"StopMessage.protocol must be tcp or udp; got {self.protocol!r}")
        if not 0 < self.port < 65536:
            raise ValueError(f"StopMessage.port must be in 1..65535; got {self.port}")
        if self.answer and self.protocol == "udp":
            raise ValueError("StopMessage.answer is for tcp; a datagram gets none")

    def prepare(self) -> None:
        """Find out now whether the host is known."""
        socket.getaddrinfo(self.host, self.port)

    def run(self, timeout_s: float) -> None:
        """Send it. OSError: it did not arrive. ValueError: the robot answered something else."""
        if self.protocol == "udp":
            self._send_datagrams()
            return
        with socket.create_connection((self.host, self.port), timeout_s) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(self.payload.encode())
            got = b""
            while self.answer.encode() not in got:
                piece = connection.recv(4096)
                got += piece
                if not piece or len(got) > 1 << 16:
                    raise ValueError(f"the robot answered {got[:200]!r} to the stop message, not {self.answer!r}")

    def _send_datagrams(self) -> None:
        family, kind, number, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, number) as sender:
            for index in range(_NUM_DATAGRAMS):
                if index:
                    time.sleep(_DATAGRAM_SPACING_S)
                sender.sendto(self.payload.encode(), address)


@dataclass(frozen=True)
class StopCommand:
    """Run a program; exit code 0 says that the robot was told."""

    argv: tuple[str, ...]

    def prepare(self) -> None:
        """Raise a ValueError now if there is no such program."""
        if not self.argv or shutil.which(self.argv[0]) is None:
            raise ValueError(f"StopCommand.argv must begin with a program that exists; got {list(self.argv)}")

    def run(self, timeout_s: float) -> None:
        """Run it and wait."""
        subprocess.run(self.argv, stdin=subprocess.DEVNULL, check=True, timeout=timeout_s)


@dataclass(frozen=True)
class StopCall:
    """Call an importable function, `package.module:function`, in the watchdog's process.

    Args:
        target: must bring its own connection to the robot; called with `arguments` by name.
        arguments: plain JSON values.
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self) -> None:
        """Import it now; raise a ValueError if it is not there."""
        self._function()
        json.dumps(dict(self.arguments))

    def run(self, timeout_s: float) -> None:
        """Call it. It must return by itself; the time-out cannot interrupt it."""
        self._function()(**self.arguments)

    def _function(self) -> Callable[..., object]:
        module_name, _, name = self.target.partition(":")
        try:
            function = getattr(importlib.import_module(module_name), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"StopCall.target {self.target!r} is not package.module:function: {error}") from error
        return function


StopHook = StopMessage | StopCommand | StopCall
_KINDS: dict[str, type[StopHook]] = {"message": StopMessage, "command": StopCommand, "call": StopCall}


def to_dict(hook: StopHook) -> dict[str, Any]:
    """Plain JSON types."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(hook, cls))
    return {"kind": kind} | asdict(hook)


def from_dict(fields: Mapping[str, Any]) -> StopHook:
    """What `to_dict` gave."""
    rest = {name: value for name, value in fields.items() if name != "kind"}
    if fields["kind"] == "command":
        return StopCommand(tuple(rest["argv"]))
    return _KINDS[fields["kind"]](**rest)
