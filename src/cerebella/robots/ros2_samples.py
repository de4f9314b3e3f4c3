"""The newest sample of every joint and camera of a ROS 2 robot, filled by callbacks, read by the control thread."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cerebella.robots.ros2_config import Stamp
from cerebella.robots.ros2_messages import stamp_s
from cerebella.types import ImageArray


@dataclass(frozen=True)
class Sample:
    """A value and when it was measured, monotonic seconds."""

    value: Any
    exposure_s: float


class NewestSamples:
    """Keeps one sample per name. A message that is older than the one that is kept, or broken, is dropped and counted.

    The publisher's clock never reaches the control loop. When a message arrives, its age on the ROS clock (now minus its
    stamp, both the same clock) is subtracted from the monotonic clock: the offset between the two is measured anew with
    each message, so a step of the wall clock shifts nothing.

    Args:
        names: what must be there before a snapshot is complete.
        ros_now_s: the ROS clock. clock_s: the monotonic clock of the control loop.

    Attributes:
        dropped: messages per reason: `old`, `broken`.
        num_future_stamps: messages stamped later than they arrived (clocks that differ); taken as measured on arrival.
        last_error: why the last broken message was dropped.
    """

    def __init__(self, names: Iterable[str], ros_now_s: Callable[[], float], clock_s: Callable[[], float]) -> None:
        self._names = frozenset(names)
        self._ros_now_s = ros_now_s
        self._clock_s = clock_s
        self._samples: dict[str, Sample] = {}
        self._lock = threading.Lock()
        self.is_complete = threading.Event()
        self.dropped: Counter[str] = Counter()
        self.num_future_stamps = 0
        self.last_error = ""

    def add(self, message: Any, stamp: Stamp, delay_s: float, read: Callable[[Any], dict[str, Any]]) -> None:
        """A message has arrived. Called from the thread that spins the node; never raises.

        Args:
            delay_s: from the measurement to the stamp. read: the message's values by name; a ValueError drops it.
        """
        arrival_s = self._clock_s()
        age_s = self._ros_now_s() - stamp_s(message) if stamp == "header" else 0.0
        try:
            values = read(message)
        except ValueError as error:
            with self._lock:
                self.dropped["broken"] += 1
                self.last_error = str(error)
            return
        with self._lock:
            self.num_future_stamps += age_s < 0.0
            sample_s = arrival_s - max(0.0, age_s) - delay_s
            for name, value in values.items():
                if name not in self._names:
                    continue
                if name in self._samples and self._samples[name].exposure_s >= sample_s:
                    self.dropped["old"] += 1
                    continue
                self._samples[name] = Sample(value, sample_s)
            if self._names <= self._samples.keys():
                self.is_complete.set()

    def snapshot(self) -> dict[str, Sample]:
        """The newest sample of every name that has one."""
        with self._lock:
            return dict(self._samples)

    def missing(self) -> list[str]:
        """Names without a sample."""
        with self._lock:
            return sorted(self._names - self._samples.keys())


def as_picture(name: str, decode: Callable[[Any], ImageArray]) -> Callable[[Any], dict[str, Any]]:
    """A reader for `NewestSamples.add` that gives one picture the name `name`."""
    return lambda message: {name: decode(message)}
