"""A latched emergency stop: anything may set it, only a named person clears it, and no restart forgets it.

The state is one file of JSON lines to which is only ever appended. The robot may move if, and only if, the last line is a
release that stands exactly where its writer saw the end of the file (`at`, bytes). Every other ending is a latch: a
latch line, a torn or damaged line, or a word that a shell script appended.

    {"event": "created", "at": 0, ...}
    {"event": "latch", "by": "watchdog", "reason": "no heartbeat for 0.12 s", ...}
    {"event": "reset", "at": 231, "by": "Mei", ...}

So a latch is a single append: no lock to wait for, safe in a signal handler and from any process, and a reset that began
before it cannot cover it, because that reset then stands in the wrong place. A look is one `fstat`: as long as size and
time of the last change are the same, so is the answer. The file belongs on a local disk: between two computers there is
no such thing as "seen at once".
"""

import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, get_args

Source = Literal["operator", "signal", "watchdog", "limit", "robot", "file", "remote"]
SOURCES: tuple[str, ...] = get_args(Source)
FILE_NAME = "emergency_stop.jsonl"
COOL_DOWN_S = 0.5
"""A key that bounces, or a cause that still holds (a watchdog looks several times in this span), latches again before
the reset is allowed; a person hardly notices the wait."""
REPEAT_S = 0.25
"""A source that keeps firing writes a line this often, not at every control tick."""
_TAIL_BYTES = 4096
_MAX_TEXT = 500


class EmergencyStopLatched(RuntimeError):
    """The robot must not move; the message says why, since when, and how to reset."""


class ResetRefused(RuntimeError):
    """The emergency stop stays latched; the message says why."""


@dataclass(frozen=True)
class StopRecord:
    """One line of the history.

    Args:
        event: `created` and `reset` release, `latch` latches; `unreadable` is a line of somebody else, or a damaged one,
            and latches, too.
        by: the source of a latch, the operator of a reset.
        reason: in words.
        monotonic_s: when, seconds since the machine started; None in an unreadable line.
        time: the same as time of day, for people.
        pid: the process that wrote it.
        at: of a release, the length of the file that it was decided on, bytes; -1 otherwise.
    """

    event: Literal["created", "latch", "reset", "unreadable"]
    by: str
    reason: str
    monotonic_s: float | None
    time: str
    pid: int
    at: int = -1


def default_folder(robot: str) -> Path:
    """Where the state of a robot is kept: `$XDG_STATE_HOME/cerebella/ROBOT`, by default below `~/.local/state`.

    Raises:
        ValueError: the name is no file name.
    """
    if not re.fullmatch(r"[\w][\w.-]*", robot):
        raise ValueError(f"a robot's name may hold letters, digits, '_', '-' and '.'; got {robot!r}")
    state_home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state_home) if state_home else Path.home() / ".local" / "state") / "cerebella" / robot


class EmergencyStop:
    """The emergency stop of one robot. Any number of processes may hold one on the same folder.

    A folder without a file is a new robot: it starts released. Whoever deletes the file takes the latch with it, so
    processes that have it open count as latched from then on.

    Args:
        folder: the robot's state folder; made if it does not exist.
        cool_down_s: a reset is refused so long after the newest latch; 0.5 s or more.

    Raises:
        ValueError: the cool-down is too short. OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path | str, cool_down_s: float = COOL_DOWN_S) -> None:
        if not cool_down_s >= 2 * REPEAT_S:
            raise ValueError(f"cool_down_s must be {2 * REPEAT_S:g} s or more; got {cool_down_s}")
        self.path = Path(folder) / FILE_NAME
        self._cool_down_s = cool_down_s
        self._has_failed = False
        self._seen: tuple[int, int, bool] = (-1, -1, False)
        self._last_own: tuple[str, str, float] = ("", "", -REPEAT_S)
        _create(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)

    @property
    def is_latched(self) -> bool:
        """Whether the robot must stand still. One system call, a few microseconds; never raises."""
        if self._has_failed:
            return True
        try:
            status = os.fstat(self._fd)
            size, modified_ns, is_released = self._seen
            if (status.st_size, status.st_mtime_ns) != (size, modified_ns):
                is_released = _is_release(*self._last_line(status.st_size))
                self._seen = (status.st_size, status.st_mtime_ns, is_released)
        except OSError:  # what cannot be read counts as latched
            return True
        return status.st_nlink == 0 or not is_released

    def check(self) -> None:
        """Raise `EmergencyStopLatched` if it is latched."""
        if self.is_latched:
            causes = [f"{record.by}: {record.reason} ({record.time})" for record in self.causes()]
            raise EmergencyStopLatched(
                f"the emergency stop is latched by {'; '.join(causes) or 'a state file that was removed'}. "
                f"When it is safe: cerebella estop reset --state {self.path.parent} --operator NAME"
            )

    def latch(self, source: Source, reason: str) -> None:
        """Latch; on the disk when this returns. May be repeated, and called from signal handlers and threads.

        Raises:
            ValueError: unknown source. OSError: it could not be written; this process stays latched all the same.
        """
        if source not in SOURCES:
            raise ValueError(f"unknown source {source!r}; known sources: {', '.join(SOURCES)}")
        now_s = time.monotonic()
        last_source, last_reason, last_s = self._last_own
        if (source, reason) == (last_source, last_reason) and now_s - last_s < REPEAT_S and self.is_latched:
            return  # a line younger than the cool-down is there, so no reset can be under way
        self._has_failed = True
        self._append(_line("latch", source, reason, now_s))
        self._has_failed = False
        self._last_own = (source, reason, now_s)

    def reset(self, operator: str, note: str = "") -> None:
        """Release, in the name of a person who has looked at the robot. Nothing happens if it is not latched.

        Raises:
            ValueError: no name.
            ResetRefused: the cool-down since the newest latch is not over, or it was latched again meanwhile.
        """
        if not operator.strip():
            raise ValueError("a reset needs the name of the operator who has looked at the robot; got none")
        if not self.is_latched:
            return
        status = os.fstat(self._fd)
        if status.st_nlink == 0:
            raise ResetRefused(f"{self.path} was removed while this process had it open; start the process anew")
        text, offset = self._last_line(status.st_size)
        last = _parse(text)
        if last.monotonic_s is None:
            if not text.endswith(b"\n"):
                os.write(self._fd, b"\n")
            self.latch("file", last.reason)
            raise ResetRefused(
                f"latched by a line that is none of ours: {last.reason!r}; its cool-down of {self._cool_down_s:g} s "
                "begins now"
            )
        age_s = time.monotonic() - last.monotonic_s
        if 0.0 <= age_s < self._cool_down_s and not _is_release(text, offset):
            raise ResetRefused(
                f"latched {age_s:.2f} s ago by {last.by}: {last.reason}; "
                f"a reset is possible {self._cool_down_s:g} s after the newest latch"
            )
        self._append(_line("reset", operator.strip(), note, time.monotonic(), at=status.st_size))
        self._has_failed = False
        if self.is_latched:
            raise ResetRefused("it was latched again during the reset; look at the robot, then try again")

    def history(self) -> list[StopRecord]:
        """Every line, oldest first."""
        return [_parse(line) for line in self._lines()]

    def causes(self) -> list[StopRecord]:
        """What has latched it since the last release, oldest first; empty if it is released."""
        causes: list[StopRecord] = []
        offset = 0
        for line in self._lines():
            causes = [] if _is_release(line, offset) else [*causes, _parse(line)]
            offset += len(line)
        return causes

    def close(self) -> None:
        """Let go of the file; counts as latched from then on. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, line: bytes) -> None:
        num_written = os.write(self._fd, line)
        os.fsync(self._fd)
        if num_written < len(line):
            raise OSError(f"{self.path}: only {num_written} of {len(line)} bytes were written; is the disk full?")

    def _lines(self) -> list[bytes]:
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            return file.readlines()

    def _last_line(self, size: int) -> tuple[bytes, int]:
        """The last line with its line end, and the offset of its first byte."""
        start = max(0, size - _TAIL_BYTES)
        tail = os.pread(self._fd, size - start, start)
        begin = tail.rfind(b"\n", 0, max(0, len(tail) - 1)) + 1
        return tail[begin:], start + begin


@contextmanager
def latch_on_signal(emergency_stop: EmergencyStop, number: signal.Signals = signal.SIGUSR1) -> Iterator[None]:
    """Latch whenever the process gets this signal, while the block runs. Main thread only."""

    def latch(_number: int, _frame: object) -> None:
        emergency_stop.latch("signal", number.name)

    before = signal.signal(number, latch)
    try:
        yield
    finally:
        signal.signal(number, before)


def _create(path: Path) -> None:
    """Make the state file, as a whole, unless it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        os.write(handle, _line("created", "", "", time.monotonic(), at=0))
        os.fsync(handle)
        os.fchmod(handle, 0o644)
        os.link(beside, path)  # unlike a rename, this never replaces what another process has just made
    except FileExistsError:
        return
    finally:
        os.close(handle)
        os.unlink(beside)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _line(event: str, by: str, reason: str, now_s: float, at: int = -1) -> bytes:
    fields: dict[str, Any] = {"event": event, "by": by[:_MAX_TEXT], "reason": reason[:_MAX_TEXT], "monotonic_s": now_s}
    fields |= {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "pid": os.getpid()}
    return json.dumps(fields | ({"at": at} if at >= 0 else {})).encode() + b"\n"


def _parse(line: bytes) -> StopRecord:
    """What a line says; `unreadable` unless it is one of ours as a whole."""
    try:
        record = StopRecord(**json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, TypeError, RecursionError):  # no JSON, other fields, brackets without end
        record = None
    if record is None or not isinstance(record.monotonic_s, float):
        text = line.decode(errors="replace").strip()[:_MAX_TEXT]
        return StopRecord("unreadable", "file", text or "an empty line", None, "time unknown", -1)
    return record


def _is_release(line: bytes, offset: int) -> bool:
    record = _parse(line)
    return record.event in ("created", "reset") and record.at == offset
