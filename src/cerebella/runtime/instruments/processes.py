"""Programs under test as processes that are really killed and really stopped."""

import os
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

_NUM_KEPT_LINES = 200


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """`kill -STOP` while the block runs: the process is there, its sockets stay open, it does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class ServerProcess:
    """A program that says a line when it is ready, and can be started again on the same command.

    Args:
        argv: the command.
        ready: regular expression; the first line that it is found in (stdout or stderr) says that the program is ready.
            Its first group, if it has one, is the port.
    """

    def __init__(self, argv: Sequence[str], ready: str) -> None:
        self._argv = list(argv)
        self._ready = re.compile(ready)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._match: re.Match[str] | None = None
        self._is_decided = threading.Event()
        self._lines: deque[str] = deque(maxlen=_NUM_KEPT_LINES)

    @property
    def pid(self) -> int:
        """Of the process as it runs now."""
        return self._running().pid

    @property
    def port(self) -> int:
        """What the ready line said."""
        if self._match is None or not self._match.groups():
            raise RuntimeError(f"no port was found by {self._ready.pattern!r}")
        return int(self._match.group(1))

    @property
    def output(self) -> str:
        """The last lines that it has said."""
        return "".join(self._lines)

    def start(self, timeout_s: float = 60.0) -> None:
        """Start it and wait for the ready line.

        Raises:
            RuntimeError: it ended, or said nothing in time; with its last lines.
        """
        self._is_decided.clear()
        self._match = None
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if not self._is_decided.wait(timeout_s) or self._match is None:
            self.kill()
            raise RuntimeError(f"{self._argv} was not ready within {timeout_s:g} s; it said:\n{self.output}")

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone. Nothing happens if it is gone already."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Ask it to end (SIGTERM), wait, and return its exit code."""
        return self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """`kill -STOP`."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """`kill -CONT`."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        process.send_signal(number)
        exit_code = process.wait(60.0)
        if self._reader is not None:
            self._reader.join()
        if process.stdout is not None:
            process.stdout.close()
        return exit_code

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line)
            if self._match is None and (match := self._ready.search(line)):
                self._match = match
                self._is_decided.set()
        self._is_decided.set()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the process is not running: call start() first")
        return self._process
