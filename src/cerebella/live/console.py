"""What an operator sees: the question before anything moves, one line while it moves."""

import shutil
import sys
import time

from cerebella.live.config import RunConfig
from cerebella.live.orders import HELP, Keyboard
from cerebella.live.pace import Pace
from cerebella.runtime.executor import Executor

_TERMINAL_PERIOD_S = 0.1
_LOG_PERIOD_S = 5.0
_NUM_RECENT = 200


def confirm(config: RunConfig) -> None:
    """Wait for a person to say that the robot may move. A simulated environment may always.

    Raises:
        ValueError: nobody is there to ask. KeyboardInterrupt: the answer is no.
    """
    if config.is_confirmed or not config.is_robot:
        return
    if not sys.stdin.isatty():
        raise ValueError("there is no terminal to ask at whether the robot may move; say --yes if it may")
    print(f"\n{HELP}\nThe robot moves next. Is everybody out of its reach, and a hand at its power switch?")
    if input("Type yes to start: ").strip().lower() != "yes":
        raise KeyboardInterrupt


class StatusLine:
    """On a terminal one line that is written over; elsewhere a line every few seconds, on stderr."""

    def __init__(self, executor: Executor, pace: Pace, keyboard: Keyboard | None) -> None:
        self._executor, self._pace, self._keyboard = executor, pace, keyboard
        self._is_terminal = sys.stderr.isatty()
        self._period_s = _TERMINAL_PERIOD_S if self._is_terminal else _LOG_PERIOD_S
        self._next_s = 0.0

    def update(self) -> None:
        """Write it if its time has come."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._period_s
        typed = None if self._keyboard is None else self._keyboard.typed
        text = describe(self._executor, self._pace) if typed is None else f"task: {typed}_"
        if self._is_terminal:
            print(f"\r\x1b[2K{text[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr)

    def end(self) -> None:
        """Leave the line."""
        if self._is_terminal:
            print(file=sys.stderr)


def describe(executor: Executor, pace: Pace) -> str:
    """Tick, state, delay and its estimate, late replies, stops without an order, jitter."""
    record, counters = executor.trace[-1], executor.counters
    waited = next((r.num_ticks_waited for r in reversed(executor.requests) if r.num_ticks_waited >= 0), None)
    mode = executor.mode if executor.mode == executor.config.mode else f"{executor.mode} (degraded)"
    return (
        f"tick {record.tick:6d}  {record.state:5}  mode {mode}  delay {'-' if waited is None else waited} ticks  "
        f"late {counters.num_late}  stops {counters.num_stops}  rejected {counters.num_rejected}  "
        f"limited {counters.num_limited}  jitter p99 {1e3 * pace.jitter_s(0.99, _NUM_RECENT):.1f} ms"
    )
