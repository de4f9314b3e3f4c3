"""Are the pictures new? A dead camera driver repeats its last frame, and that looks like a healthy, quiet scene.

Per tick and view: is it there, is its stamp newer than the one before, is it young enough, does it fit to the state, and
(an option) has its content changed. A frame that fails is tolerated for a few ticks in a row (`stale`: run on with what
there is, ask no new inference with it), then it is a `fault`: the robot is blind and must come to rest.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cerebella.types import ImageArray, Observation

Kind = Literal["ok", "stale", "fault"]

MISSING = "missing view"
REGRESSED = "stamp went back"
REPEATED = "stamp repeated"
FUTURE = "stamp in the future"
SKEWED = "camera and state apart"
OLD = "too old"
FROZEN = "content frozen"
REASONS = (MISSING, REGRESSED, REPEATED, FUTURE, SKEWED, OLD, FROZEN)
"""In order of precedence, constant per kind of trouble; which view it was stands in `Verdict.view`."""

_FUTURE_TOLERANCE_S = 0.001
_NUM_HASHED_ROWS = 16


@dataclass(frozen=True)
class Verdict:
    """What to do with the pictures of one tick.

    Args:
        kind: `ok`; `stale`: do not ask with these pictures, run on; `fault`: come to rest.
        reason: empty or one of `REASONS`.
        view: the camera concerned; empty if ok.
        age_s: age of the oldest good picture that is held, now; infinite as long as a view has given none. Withhold
            requests by it.
        num_bad_ticks: how many ticks in a row were not ok.
    """

    kind: Kind
    reason: str
    view: str
    age_s: float
    num_bad_ticks: int


@dataclass
class _View:
    stamp_s: float = -math.inf
    good_stamp_s: float = -math.inf
    checksum: int = -1
    num_same: int = 0


class CameraCheck:
    """Checks every observation of one episode, in order. No clock, no thread; some microseconds per view.

    Frozen content: real sensors have noise, so that two frames are never equal bit for bit, however still the scene; a
    frame grabber that hangs repeats one under fresh stamps. Simulated cameras have no noise, and hardware that
    compresses a dark scene may lose it: leave `num_equal_frames` None there. Hashed are 16 rows of each picture.

    Args:
        views: what must be there.
        max_age_s: a picture older than this is too old.
        max_skew_s: largest distance between a picture and the state of the same observation.
        num_tolerated: so many bad ticks in a row are `stale`; the next one is a `fault`.
        exposures_s: gives view to the exposure of its newest picture (seconds of the same clock), where cameras are
            stamped one by one; a recording does not keep them.
        num_equal_frames: so many equal pictures in a row with fresh stamps are frozen (2 or more); None: not looked at.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        views: Sequence[str],
        max_age_s: float,
        max_skew_s: float,
        num_tolerated: int,
        num_equal_frames: int | None = None,
        exposures_s: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        if not max_age_s > 0 or not max_skew_s >= 0:
            raise ValueError(f"need max_age_s > 0 and max_skew_s >= 0; got {max_age_s} s and {max_skew_s} s")
        if num_tolerated < 0:
            raise ValueError(f"num_tolerated must be 0 or more ticks; got {num_tolerated}")
        if num_equal_frames is not None and num_equal_frames < 2:
            raise ValueError(f"num_equal_frames must be 2 or more, or None; got {num_equal_frames}")
        self._views = {view: _View() for view in views}
        self._max_age_s = max_age_s
        self._max_skew_s = max_skew_s
        self._num_tolerated = num_tolerated
        self._num_equal_frames = num_equal_frames
        self._exposures_s = exposures_s
        self._num_bad_ticks = 0

    def check(self, observation: Observation, now_s: float, exposure_s: Mapping[str, float] | None = None) -> Verdict:
        """Judge one observation.

        Args:
            observation: of the current tick.
            now_s: the clock that stamped it.
            exposure_s: view to the exposure of its picture, seconds of the same clock, where cameras are stamped one by
                one; a view that is not in it has the stamp of the observation.
        """
        if exposure_s is None and self._exposures_s is not None:
            exposure_s = self._exposures_s()
        reason, view = "", ""
        for name, memory in self._views.items():
            stamp_s = observation.timestamp_s if exposure_s is None else exposure_s.get(name, observation.timestamp_s)
            found = self._judge(memory, observation.images.get(name), stamp_s, observation.timestamp_s, now_s)
            if found and (not reason or REASONS.index(found) < REASONS.index(reason)):
                reason, view = found, name
        self._num_bad_ticks = self._num_bad_ticks + 1 if reason else 0
        age_s = max((now_s - memory.good_stamp_s for memory in self._views.values()), default=0.0)
        kind: Kind = "ok" if not reason else "stale" if self._num_bad_ticks <= self._num_tolerated else "fault"
        return Verdict(kind, reason, view, age_s, self._num_bad_ticks)

    def _judge(self, memory: _View, image: ImageArray | None, stamp_s: float, state_s: float, now_s: float) -> str:
        """The reason against this picture, or ""; remembers it."""
        if image is None:
            return MISSING
        last_s, memory.stamp_s = memory.stamp_s, max(memory.stamp_s, stamp_s)
        if stamp_s < last_s:
            return REGRESSED
        if stamp_s == last_s:
            return REPEATED
        is_frozen = self._is_frozen(memory, image)
        if stamp_s > now_s + _FUTURE_TOLERANCE_S:
            return FUTURE
        if abs(stamp_s - state_s) > self._max_skew_s:
            return SKEWED
        if now_s - stamp_s > self._max_age_s:
            return OLD
        if is_frozen:
            return FROZEN
        memory.good_stamp_s = stamp_s
        return ""

    def _is_frozen(self, memory: _View, image: ImageArray) -> bool:
        if self._num_equal_frames is None:
            return False
        step = max(1, len(image) // _NUM_HASHED_ROWS)
        checksum = zlib.crc32(image[::step].tobytes())
        memory.num_same = memory.num_same + 1 if checksum == memory.checksum else 1
        memory.checksum = checksum
        return memory.num_same >= self._num_equal_frames
