"""What an operator may order, from a keyboard or by a signal, and the thread that listens to the keys.

space  pause, and go on      e  emergency stop      t TEXT Enter  another task      q  controlled stop, and end
"""

import os
import queue
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal

HELP = "space: pause or go on   t TEXT Enter: another task   q: stop and end   e: EMERGENCY STOP"
_ESCAPE, _BACKSPACES, _LINE_ENDS = "\x1b", "\x7f\b", "\r\n"
_LOOK_S = 0.1


@dataclass(frozen=True)
class Order:
    """`pause` (or go on), `quit`, `emergency stop`, or `task` with its text."""

    kind: Literal["pause", "quit", "emergency stop", "task"]
    text: str = ""


class Keys:
    """Characters to orders. Escape leaves the text of a task.

    Attributes:
        typed: the text of a task so far; None while none is typed.
    """

    def __init__(self) -> None:
        self.typed: str | None = None

    def press(self, character: str) -> Order | None:
        """One character; the order that it completes."""
        if self.typed is None:
            if character == "t":
                self.typed = ""
            kinds: dict[str, Order] = {" ": Order("pause"), "e": Order("emergency stop"), "q": Order("quit")}
            return kinds.get(character)
        text = self.typed
        if character in _LINE_ENDS or character == _ESCAPE:
            self.typed = None
            return Order("task", text.strip()) if character != _ESCAPE and text.strip() else None
        self.typed = text[:-1] if character in _BACKSPACES else text + character
        return None


class Keyboard:
    """Reads a terminal key by key, in a thread of its own.

    Args:
        fd: the terminal. take: called with each order, in that thread.
    """

    def __init__(self, fd: int, take: Callable[[Order], None]) -> None:
        self._fd = fd
        self._take = take
        self._keys = Keys()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._read, name="cerebella-keys", daemon=True)
        self._before = termios.tcgetattr(fd)

    @property
    def typed(self) -> str | None:
        """The text of a task so far; None while none is typed."""
        return self._keys.typed

    def __enter__(self) -> "Keyboard":
        tty.setcbreak(self._fd)  # Ctrl-C stays a signal
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed.set()
        self._thread.join()
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _read(self) -> None:
        while not self._is_closed.is_set():
            if not select.select([self._fd], [], [], _LOOK_S)[0]:
                continue
            if not (pressed := os.read(self._fd, 64)):
                return  # the terminal is gone; signals still come
            for character in pressed.decode(errors="ignore"):
                if (order := self._keys.press(character)) is not None:
                    self._take(order)


class Orders:
    """Orders on their way to the control thread. An emergency stop does not wait for it: it is latched at once.

    Args:
        latch: latches the emergency stop; called from any thread, and from a signal handler.
    """

    def __init__(self, latch: Callable[[str], None]) -> None:
        self._latch = latch
        self._waiting: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._num_signals = 0

    def give(self, order: Order) -> None:
        """From any thread."""
        if order.kind == "emergency stop":
            self._latch("the operator pressed e")
        self._waiting.put(order)

    def take(self) -> list[Order]:
        """Those that have come; from the control thread."""
        orders: list[Order] = []
        while not self._waiting.empty():
            orders.append(self._waiting.get())
        return orders

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first SIGINT or SIGTERM is a controlled stop, the second an emergency stop."""
        self._num_signals += 1
        name = signal.Signals(number).name
        if self._num_signals == 1:
            self._waiting.put(Order("quit", name))
        else:
            self._latch(f"a second {name}")


@contextmanager
def taking_signals(orders: Orders) -> Iterator[None]:
    """SIGINT and SIGTERM are orders while the block runs; in the main thread only, elsewhere nothing changes."""
    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    before = {number: signal.signal(number, orders.on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def taking_keys(orders: Orders) -> Iterator[Keyboard | None]:
    """Keys are orders while the block runs, if there is a terminal to press them in."""
    if sys.stdin is not None and sys.stdin.isatty():
        with Keyboard(sys.stdin.fileno(), orders.give) as keyboard:
            yield keyboard
    else:
        yield None
