"""Streams of different rates onto one timeline: at every tick, the measurement nearest in time (the paper's rule).

    ticks     |    |    |    |    |        one period each
    camera   *        *        *           0    0    1    2    2     nearest measurement
    joints  * * * * * * * * * * * * *      1    4    6    9   11

How old each measurement is at its tick, where a stream paused, and where one measurement serves several ticks is
reported, not hidden: what is recorded this way looks the same as good data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cerebella.types import BoolArray

TimeArray = NDArray[np.float64]
GAP_PERIODS = 2.0
"""A pause of more than so many of a stream's own periods (its median) is a gap."""


class Gap(NamedTuple):
    """A pause of a stream: nothing was measured between these two times, seconds."""

    start_s: float
    end_s: float


@dataclass(frozen=True, eq=False)
class StreamAlignment:
    """One stream on a timeline of T ticks.

    Args:
        index: int64[T], which measurement serves each tick.
        age_s: float64[T], tick minus measurement: above 0 it was made before the tick, below 0 after it.
        gaps: pauses of the stream that touch the timeline.
    """

    index: NDArray[np.int64]
    age_s: TimeArray
    gaps: tuple[Gap, ...]

    @property
    def num_repeated(self) -> int:
        """Ticks that show the measurement of the tick before."""
        return int(np.count_nonzero(np.diff(self.index) == 0))

    @property
    def largest_age_s(self) -> float:
        """The largest distance between a tick and its measurement, seconds."""
        return float(np.abs(self.age_s).max())

    def is_fresh(self, max_age_s: float) -> BoolArray:
        """bool[T]: the measurement is at most `max_age_s` away from its tick."""
        return np.abs(self.age_s) <= max_age_s


@dataclass(frozen=True, eq=False)
class Timeline:
    """Ticks that all streams cover: float64[T] seconds, one period apart, and each stream by name."""

    tick_s: TimeArray
    streams: Mapping[str, StreamAlignment]

    def is_fresh(self, max_age_s: float) -> BoolArray:
        """bool[T]: every stream has a measurement at most `max_age_s` away."""
        return np.logical_and.reduce([stream.is_fresh(max_age_s) for stream in self.streams.values()])


def nearest(measured_s: ArrayLike, wanted_s: ArrayLike, name: str = "stream") -> StreamAlignment:
    """The measurement nearest to each wanted time; of two equally near ones the earlier, which was known at the tick.

    Args:
        measured_s: times of the measurements, seconds, strictly rising, at least one. wanted_s: float64[T], any order.
        name: for messages.

    Raises:
        ValueError: no measurement, a time that is not finite, or times that do not rise.
    """
    measured = _times(measured_s, f"{name}: measured_s", must_rise=True)
    wanted = _times(wanted_s, f"{name}: wanted_s", must_rise=False)
    if not len(measured):
        raise ValueError(f"{name} holds no measurement")
    after = np.clip(np.searchsorted(measured, wanted), 1, max(1, len(measured) - 1))
    before = after - 1
    after = np.minimum(after, len(measured) - 1)
    index = np.where(wanted - measured[before] <= measured[after] - wanted, before, after).astype(np.int64)
    gaps = _gaps(measured)
    if len(wanted):
        first, last = float(wanted.min()), float(wanted.max())
        gaps = tuple(gap for gap in gaps if gap.end_s > first and gap.start_s < last)
    return StreamAlignment(index, wanted - measured[index], gaps)


def align(streams: Mapping[str, ArrayLike], rate_hz: float) -> Timeline:
    """All streams on one timeline, over the time that all of them cover.

    Args:
        streams: name -> times of its measurements, seconds of one clock, strictly rising.
        rate_hz: ticks per second. The first tick is the latest first measurement.

    Raises:
        ValueError: no stream, a rate not above 0, or streams that do not overlap; what `nearest` raises.
    """
    if not streams or not (np.isfinite(rate_hz) and rate_hz > 0):
        raise ValueError(f"align needs a stream and a rate above 0 Hz; got {len(streams)} streams and {rate_hz} Hz")
    times = {name: _times(values, f"{name}: measured_s", must_rise=True) for name, values in streams.items()}
    if empty := [name for name, values in times.items() if not len(values)]:
        raise ValueError(f"{empty[0]} holds no measurement")
    starts = {name: float(values[0]) for name, values in times.items()}
    ends = {name: float(values[-1]) for name, values in times.items()}
    start_s, end_s = max(starts.values()), min(ends.values())
    if start_s > end_s:
        late, early = max(starts, key=starts.__getitem__), min(ends, key=ends.__getitem__)
        raise ValueError(f"the streams do not overlap: {late} starts at {start_s} s, {early} ends at {end_s} s")
    num_ticks = int(np.floor((end_s - start_s) * rate_hz + 1e-6)) + 1
    tick_s = start_s + np.arange(num_ticks) / rate_hz
    return Timeline(tick_s, {name: nearest(values, tick_s, name) for name, values in times.items()})


def _gaps(measured: TimeArray) -> tuple[Gap, ...]:
    pauses = np.diff(measured)
    if not len(pauses):
        return ()
    places = np.flatnonzero(pauses > GAP_PERIODS * np.median(pauses))
    return tuple(Gap(float(measured[i]), float(measured[i + 1])) for i in places)


def _times(values: ArrayLike, name: str, must_rise: bool) -> TimeArray:
    times = np.asarray(values, dtype=np.float64)
    if times.ndim != 1 or not np.isfinite(times).all():
        raise ValueError(f"{name} must be finite seconds, one number each; got shape {list(times.shape)}")
    if must_rise and (places := np.flatnonzero(np.diff(times) <= 0)).size:
        i = int(places[0])
        raise ValueError(
            f"{name} must rise; measurement {i + 1} is at {times[i + 1]} s, the one before at {times[i]} s"
        )
    return times
