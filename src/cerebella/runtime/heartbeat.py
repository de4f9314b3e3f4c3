"""Two processes tell each other that they are alive: two time stamps in shared memory.

A beat is one 8-byte store, a look one 8-byte load. The stamps are CLOCK_MONOTONIC, which all processes of a machine share
and which no step of the time of day touches. The memory belongs to no disk, so that writing it never waits for one.
"""

import mmap
import os
import sys
import tempfile
import time
from typing import Literal, Self

Side = Literal["executor", "watchdog"]
_SLOTS: dict[Side, int] = {"executor": 0, "watchdog": 1}
_NUM_BYTES = 8 * len(_SLOTS)


class Heartbeat:
    """The shared stamps, through an inherited file descriptor (`Heartbeat(fd)`); `create` makes the first one."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, _NUM_BYTES)
        self._stamps_ns = memoryview(self._memory).cast("q")

    @classmethod
    def create(cls) -> Self:
        """New memory in which nobody has beaten yet."""
        if sys.platform == "linux":
            fd = os.memfd_create("cerebella-heartbeat")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, _NUM_BYTES)
        return cls(fd)

    def beat(self, side: Side) -> None:
        """Say "I am alive"."""
        self._stamps_ns[_SLOTS[side]] = time.monotonic_ns()

    def stamp_ns(self, side: Side) -> int:
        """When this side beat last, monotonic nanoseconds; 0 before the first beat."""
        return self._stamps_ns[_SLOTS[side]]

    def age_s(self, side: Side) -> float:
        """Seconds since this side's last beat; since the machine's start before the first one."""
        stamp_ns = self.stamp_ns(side)  # before the clock is read: an age is never negative
        return (time.monotonic_ns() - stamp_ns) / 1e9

    def close(self) -> None:
        """Give the memory back. May be called twice."""
        if self.fd >= 0:
            self._stamps_ns.release()
            self._memory.close()
            os.close(self.fd)
            self.fd = -1
