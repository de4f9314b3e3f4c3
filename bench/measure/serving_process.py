"""A server of the bench as a process: started, waited for, looked at from outside."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BENCH = Path(__file__).parents[1]
_START_S = 60.0
_STOP_S = 30.0


@dataclass(frozen=True)
class ServerProcess:
    """Where it listens, and its process id."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Websocket address."""
        return f"ws://127.0.0.1:{self.port}"

    def memory_mb(self) -> float:
        """Resident memory, 10^6 bytes."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_s(self) -> float:
        """CPU time of all its threads, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(kind: str, law: dict[str, Any] | None = None) -> Iterator[ServerProcess]:
    """A server that accepts connections; ends with the block. See `serving_servers` for the kinds.

    Raises:
        RuntimeError: it did not come up.
    """
    command = [sys.executable, "-m", "measure.serving_servers", kind, *([json.dumps(law)] if law else [])]
    paths = [str(_BENCH), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f"the server {kind} did not start: {line!r}")
        running = ServerProcess(int(line), process.pid)
        _wait_until_open(running.port)
        yield running
    finally:
        process.stdin.close()  # which tells it to end
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _wait_until_open(port: int) -> None:
    deadline_s = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"nothing listens on port {port} after {_START_S:g} s") from None
            time.sleep(0.02)
