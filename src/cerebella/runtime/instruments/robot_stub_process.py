"""The robot stub as a process with a socket: `python -m cerebella.runtime.instruments.robot_stub_process FILE`.

FILE is an `embodiment.json`. It listens on a free loopback port, over TCP for lines of JSON (any number of connections,
one answer per line) and over UDP on the same number for the datagram `stop`, and prints `listening on PORT`.

| line                                         | answer                                                            |
|----------------------------------------------|-------------------------------------------------------------------|
| `{"do": "observe"}`                          | `tick`, `timestamp_s`, `state`                                    |
| `{"do": "apply", "tick": n, "values": [..]}` | `outcome`                                                         |
| `{"do": "stop"}`                             | `stopped_s`                                                       |
| `{"do": "status"}`                           | `is_stopped`, `stopped_s` (CLOCK_MONOTONIC, or null), `num_commands` |
| `{"do": "records"}`                          | `records`                                                         |
| `{"do": "reset", "seed": n}`                 | nothing                                                           |
| `{"do": "block", "value": true}`, `{"do": "drop", "value": n}`, `{"do": "jump", "value": [..]}` | nothing        |

Every answer has `ok`; a wrong line has `ok: false` and `error`. It knows nothing of who speaks: a watchdog stops it on a
connection of its own.
"""

import json
import socket
import socketserver
import sys
import threading
from typing import Any

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Status
from cerebella.runtime.clock import WallClock
from cerebella.runtime.instruments.processes import ServerProcess
from cerebella.runtime.instruments.robot_stub import CommandRecord, RobotStub
from cerebella.runtime.stop_hook import StopMessage
from cerebella.types import Action, Observation

HOST = "127.0.0.1"
STOP_LINE = '{"do": "stop"}\n'


class RemoteRobotStub:
    """The same robot from the other side of the socket: an `Environment`, and what a test wants to know.

    Without pictures: only the state travels.
    """

    def __init__(self, embodiment: Embodiment, port: int, prompt: str = "move") -> None:
        self.embodiment = embodiment
        self.port = port
        self._prompt = prompt
        self._socket = socket.create_connection((HOST, port), 30.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def reset(self, seed: int) -> None:
        """Release it, at tick 0."""
        self.ask("reset", seed=seed)

    def observe(self) -> Observation:
        """What is measured now."""
        answer = self.ask("observe")
        state = np.asarray(answer["state"], dtype=np.float32)
        return Observation(state, self._prompt, answer["tick"], answer["timestamp_s"])

    def apply(self, action: Action) -> None:
        """Send a command. ValueError: the robot did not understand it."""
        self.ask("apply", tick=action.tick, values=action.values.tolist())

    def status(self) -> Status:
        """Done as soon as it was stopped."""
        is_stopped = bool(self.ask("status")["is_stopped"])
        return Status(is_stopped, False, "stopped" if is_stopped else "")

    def stopped_s(self) -> float | None:
        """When it was told to stop, CLOCK_MONOTONIC; None if it was not."""
        return self.ask("status")["stopped_s"]

    def records(self) -> list[CommandRecord]:
        """Every command since the reset."""
        rows = self.ask("records")["records"]
        return [CommandRecord(**row | {"values": np.asarray(row["values"], dtype=np.float32)}) for row in rows]

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """One line, one answer. ValueError: the robot did not understand it."""
        self._socket.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")
        line = self._file.readline()
        if not line:
            raise ConnectionError("the robot stub has closed the connection")
        answer = json.loads(line)
        if not answer["ok"]:
            raise ValueError(answer["error"])
        return answer

    def close(self) -> None:
        """End the connection; the robot stays as it is."""
        self._file.close()
        self._socket.close()


def robot_process(embodiment_file: str) -> ServerProcess:
    """The stub as a process, not yet started; its `port` is known afterwards."""
    return ServerProcess([sys.executable, "-m", __name__, embodiment_file], r"listening on (\d+)")


def stop_message(port: int) -> StopMessage:
    """What stops the stub, acknowledged."""
    return StopMessage(HOST, port, STOP_LINE, answer='"ok": true')


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, robot: RobotStub) -> None:
        super().__init__((HOST, 0), _Connection)
        self.robot = robot
        self.lock = threading.Lock()

    def answer(self, line: bytes) -> dict[str, Any]:
        """Carry out one line."""
        try:
            message = json.loads(line)
            with self.lock:
                return {"ok": True} | _carry_out(self.robot, message)
        except (ValueError, KeyError, TypeError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle(self) -> None:
        """One answer per line."""
        try:
            for line in self.rfile:
                self.wfile.write(json.dumps(self.server.answer(line)).encode() + b"\n")
        except ConnectionError:  # whoever spoke was killed
            return


def _carry_out(robot: RobotStub, message: dict[str, Any]) -> dict[str, Any]:
    match message["do"]:
        case "observe":
            seen = robot.observe()
            return {"tick": seen.tick, "timestamp_s": seen.timestamp_s, "state": seen.state.tolist()}
        case "apply":
            robot.apply(Action(np.asarray(message["values"], dtype=np.float32), message["tick"]))
            return {"outcome": robot.records[-1].outcome}
        case "stop":
            robot.stop()
            return {"stopped_s": robot.stopped_s}
        case "status":
            stopped_s = robot.stopped_s if robot.is_stopped else None
            return {"is_stopped": robot.is_stopped, "stopped_s": stopped_s, "num_commands": len(robot.records)}
        case "records":
            return {"records": [_fields(record) for record in robot.records]}
        case "reset":
            robot.reset(message["seed"])
        case "block":
            robot.block(message["value"])
        case "drop":
            robot.drop(message["value"])
        case "jump":
            robot.jump(np.asarray(message["value"], dtype=np.float32))
        case unknown:
            raise ValueError(f"unknown line {unknown!r}")
    return {}


def _fields(record: CommandRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in CommandRecord.__dataclass_fields__} | {
        "values": record.values.tolist()
    }


def _listen_for_stop(server: _Server, receiver: socket.socket) -> None:
    while True:
        if receiver.recv(64).strip() == b"stop":
            with server.lock:
                server.robot.stop()


def main() -> None:
    """Serve until killed."""
    robot = RobotStub(Embodiment.load(sys.argv[1]), WallClock())
    server = _Server(robot)
    port = server.server_address[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((HOST, port))
        threading.Thread(target=_listen_for_stop, args=(server, receiver), daemon=True).start()
        print(f"listening on {port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
