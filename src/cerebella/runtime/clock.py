"""Time as a parameter: the same executor runs on the wall clock and, a thousand times faster, on a virtual one.

Ticks follow an absolute schedule: deadline k is `first + k * period`, never "now plus the remainder", so that errors do
not add up. After a stall the schedule skips to its next deadline; missed ones are counted and not made up for.
"""

import math
import time
from typing import Protocol

_SPIN_S = 0.001


class Clock(Protocol):
    """Monotonic seconds, and a way to wait for them."""

    def now_s(self) -> float:
        """Seconds since an arbitrary, fixed moment; never decreasing."""
        ...

    def sleep_until_s(self, deadline_s: float) -> None:
        """Return at `deadline_s`, or at once if it has passed."""
        ...


class WallClock:
    """The machine's monotonic clock: steps and slews of the time of day do not touch it."""

    def now_s(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()

    def sleep_until_s(self, deadline_s: float) -> None:
        """Sleep, and yield in a loop for the last millisecond, because a sleep may return that much too late."""
        while (remaining_s := deadline_s - self.now_s()) > 0:
            time.sleep(remaining_s - _SPIN_S if remaining_s > _SPIN_S else 0.0)


class VirtualClock:
    """A clock that jumps: waiting costs nothing, and only waiting (or `advance`) moves it."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        """Virtual seconds."""
        return self._now_s

    def sleep_until_s(self, deadline_s: float) -> None:
        """Jump to `deadline_s`; never backwards."""
        self._now_s = max(self._now_s, deadline_s)

    def advance(self, duration_s: float) -> None:
        """Let `duration_s` pass, as work or a stall would."""
        if duration_s < 0:
            raise ValueError(f"a clock does not run backwards: duration_s must be 0 or more; got {duration_s}")
        self._now_s += duration_s


class TickSchedule:
    """Deadlines of a control loop; the first is the moment of the first `wait`.

    Args:
        period_s: seconds between two ticks.
        clock: what tells the time.

    Attributes:
        num_overruns: how often the loop came back more than one period late.
        num_skipped: deadlines that were dropped by these overruns.
        max_lateness_s: the worst delay of a tick against its deadline, stalls included.
    """

    def __init__(self, period_s: float, clock: Clock) -> None:
        if not period_s > 0:
            raise ValueError(f"period_s must be above 0 s; got {period_s}")
        self.num_overruns = 0
        self.num_skipped = 0
        self.max_lateness_s = 0.0
        self._period_s = period_s
        self._clock = clock
        self._first_s: float | None = None
        self._index = 0

    def wait(self) -> float:
        """Sleep until the next deadline and return it, in seconds of the clock.

        A loop that is late by up to one period goes on at once. One that is later skips to the next deadline ahead, so
        a stall is never followed by a burst of commands.
        """
        now_s = self._clock.now_s()
        if self._first_s is None:
            self._first_s = now_s
            return now_s
        self._index += 1
        lateness_s = now_s - self._deadline_s(self._first_s)
        self.max_lateness_s = max(self.max_lateness_s, lateness_s)
        if lateness_s > self._period_s:
            num_skipped = math.ceil(lateness_s / self._period_s)
            self.num_overruns += 1
            self.num_skipped += num_skipped
            self._index += num_skipped
        deadline_s = self._deadline_s(self._first_s)
        self._clock.sleep_until_s(deadline_s)
        return deadline_s

    def _deadline_s(self, first_s: float) -> float:
        return first_s + self._index * self._period_s
