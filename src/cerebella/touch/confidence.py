"""May a reading be trusted: is there contact, is the sensor whole, is it a grasp like those of the training?

Every check is a rule with a number that can be read, so that a refusal can say why. A taxel is loaded if it is
`LOADED_COUNTS` above the median of its finger, or above `MAX_DRIFT_COUNTS` if that is less: an array that has drifted a
little as a whole feels nothing. A finger is in contact with `MIN_LOADED` loaded taxels or more.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cerebella.touch.grasp import FINGERS, JOINTS, NUM_ROWS
from cerebella.touch.reading import MAX_COUNT, CountArray, Reading
from cerebella.types import BoolArray, FloatArray

Problem = Literal["", "dead finger", "saturated", "contact", "dead taxels", "stuck taxels", "distribution"]

LOADED_COUNTS = 16
MAX_DRIFT_COUNTS = 8
MIN_LOADED = 3
STUCK_COUNTS = 64
SAME_BEND_RAD = 0.2
"""Two fingers that stopped on the same object differ by less; one that missed it closes further."""
MAX_ROWS_OFF_LINE, EDGE_ROWS = 0.5, 3
"""Where three fingers feel a straight edge, its line fits within half a row; an outer finger must feel it if the line
crosses its array this many rows from the border."""
DISTANCE_LIMIT, MAX_DEAD_FINGERS = "distance_limit", "max_dead_fingers"
"""Keys of a predictor's `calibration`: the norm of an embedding that nearly no grasp of the training exceeds (required),
and with how many dead fingers it was trained (0 if missing)."""
_PROXIMAL = [JOINTS.index(f"{finger}_proximal") for finger in FINGERS]


@dataclass(frozen=True)
class ConfidenceLimits:
    """Where a reading is refused.

    Args:
        min_opposing: fingers in contact besides the thumb, which is always needed; 1 as in the training data.
        max_saturated_share: of the loaded taxels, at 255.
        max_dead_share: of the taxels between two loaded neighbours, at 0. What lies below is left to the network.
        max_stuck: taxels of the hand that say much where all around them say nothing.
        max_distance: norm of the embedding, as a multiple of the calibrated limit.

    Raises:
        ValueError: a number out of range.
    """

    min_opposing: int = 1
    max_saturated_share: float = 0.3
    max_dead_share: float = 0.15
    max_stuck: int = 8
    max_distance: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.min_opposing < len(FINGERS):
            raise ValueError(f"min_opposing must be in 1..{len(FINGERS) - 1} fingers; got {self.min_opposing}")
        for name in ("max_saturated_share", "max_dead_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in 0..1 (a share); got {getattr(self, name)}")
        if self.max_stuck < 0:
            raise ValueError(f"max_stuck must be 0 taxels or more; got {self.max_stuck}")
        if not self.max_distance > 0:
            raise ValueError(f"max_distance must be above 0; got {self.max_distance}")


@dataclass(frozen=True)
class Confidence:
    """What the checks found in one reading.

    Args:
        fingers: in contact. dead_fingers: feel nothing though they hold something.
        saturated_share, dead_share: see `ConfidenceLimits`. num_stuck: taxels.
        distance: norm of the embedding over the calibrated limit; 1 is the edge of the training. None if not computed,
            because something else was wrong already.
        problem: the first limit that does not hold; empty if all do.
        reason: the same in words with numbers.
    """

    fingers: tuple[str, ...]
    dead_fingers: tuple[str, ...]
    saturated_share: float
    dead_share: float
    num_stuck: int
    distance: float | None
    problem: Problem
    reason: str


def assess(reading: Reading, limits: ConfidenceLimits, num_masked: int = 0) -> Confidence:
    """The checks that need no network; `num_masked` dead fingers are no problem."""
    is_loaded = loaded(reading.counts)
    touches = is_loaded.sum(axis=(1, 2)) >= MIN_LOADED
    is_dead = _dead_fingers(is_loaded, touches, reading.counts, reading.joints)
    is_saturated = reading.counts == MAX_COUNT
    num_loaded = int((is_loaded | is_saturated).sum())
    saturated_share = int(is_saturated.sum()) / max(num_loaded, 1)
    num_between, num_holes = _holes(reading.counts, is_loaded)
    dead_share = num_holes / max(num_between, 1)
    num_stuck = _num_stuck(reading.counts, is_loaded)
    fingers, dead_fingers = _named(touches), _named(is_dead)
    counts = ", ".join(f"{finger} {n}" for finger, n in zip(FINGERS, is_loaded.sum(axis=(1, 2)), strict=True))
    num_opposing = int(touches[1:].sum())
    problem: Problem = ""
    reason = ""
    if len(dead_fingers) > num_masked:
        problem = "dead finger"
        reason = (
            f"{' and '.join(dead_fingers)} feels nothing while its neighbours hold the object (loaded taxels: {counts})"
        )
    elif saturated_share > limits.max_saturated_share:
        problem = "saturated"
        reason = (
            f"saturated: {saturated_share:.0%} of {num_loaded} loaded taxels say {MAX_COUNT}, "
            f"allowed are {limits.max_saturated_share:.0%}"
        )
    elif not touches[0] or num_opposing < limits.min_opposing:
        problem = "contact"
        reason = (
            f"contact is missing: {'the thumb' if touches[0] else 'no thumb'} and {num_opposing} fingers touch, needed are "
            f"the thumb and {limits.min_opposing} (loaded taxels: {counts}; a finger touches with {MIN_LOADED})"
        )
    elif num_stuck > limits.max_stuck:
        problem = "stuck taxels"
        reason = f"{num_stuck} taxels are stuck (loaded, with nothing around them), allowed are {limits.max_stuck}"
    elif dead_share > limits.max_dead_share:
        problem = "dead taxels"
        reason = (
            f"{num_holes} of {num_between} taxels between loaded neighbours are dead ({dead_share:.0%}), "
            f"allowed are {limits.max_dead_share:.0%}"
        )
    return Confidence(fingers, dead_fingers, saturated_share, dead_share, num_stuck, None, problem, reason)


def distance_of(embedding: FloatArray, calibration: Mapping[str, float]) -> float:
    """Norm of an embedding over its calibrated limit: 1 is the edge of the training. NaN where the embedding is.

    Raises:
        ValueError: the calibration lacks the limit, or it is not above 0.
    """
    limit = calibration.get(DISTANCE_LIMIT, math.nan)
    if not (math.isfinite(limit) and limit > 0):
        raise ValueError(
            f"the predictor's calibration needs {DISTANCE_LIMIT!r}, a number above 0, to know grasps that it was not "
            f"trained for; it has {dict(calibration)}"
        )
    return float(np.linalg.norm(np.asarray(embedding, dtype=np.float64))) / limit


def distance_problem(distance: float, limits: ConfidenceLimits) -> str:
    """Why a grasp this far from the training is refused; empty if it is not."""
    if distance <= limits.max_distance:  # false for NaN
        return ""
    return (
        f"outside the trained distribution: the embedding lies at {distance:.2f} of the calibrated limit, "
        f"allowed are {limits.max_distance:.2f}"
    )


def loaded(counts: CountArray) -> BoolArray:
    """bool[5, 11, 9]: taxels that carry something; see the module."""
    drift = np.minimum(np.median(counts, axis=(1, 2), keepdims=True), MAX_DRIFT_COUNTS)
    return counts >= drift + LOADED_COUNTS


def _dead_fingers(is_loaded: BoolArray, touches: BoolArray, counts: CountArray, joints: FloatArray) -> BoolArray:
    """bool[5]. Dead: feels nothing, though where its neighbours feel the object says that it should, and it is bent no
    further than they are, so that it has stopped on the object.

    An inner finger lies between two neighbours. An outer one continues the line of all three others, if they are on one
    line: it may as well feel the rim of a disk, or a slanted edge, beside its array. So some dead outer fingers pass; the
    embedding and the bounds of the wrist are what is left then. A thumb that feels nothing is missing contact.
    """
    is_dead = np.zeros(len(FINGERS), dtype=bool)
    if not touches[0]:
        return is_dead
    weights = np.where(is_loaded, counts, 0).sum(axis=2).astype(np.float64)
    middle_rows = weights @ np.arange(NUM_ROWS) / np.maximum(weights.sum(axis=1), 1.0)
    inner, outer = (2, 3), (1, 4)
    for i in (*inner, *outer):
        others = [i - 1, i + 1] if i in inner else [j for j in (*outer, *inner) if j != i]
        if is_loaded[i].any() or not touches[others].all():
            continue
        slope, offset = np.polyfit(others, middle_rows[others], 1)
        is_line = np.abs(offset + slope * np.asarray(others) - middle_rows[others]).max() <= MAX_ROWS_OFF_LINE
        is_inside = i in inner or EDGE_ROWS <= offset + slope * i <= NUM_ROWS - 1 - EDGE_ROWS
        bend = joints[_PROXIMAL[i]] - np.mean([joints[_PROXIMAL[j]] for j in others])
        is_dead[i] = is_line and is_inside and bend < SAME_BEND_RAD
    return is_dead


def _holes(counts: CountArray, is_loaded: BoolArray) -> tuple[int, int]:
    """(taxels between two loaded ones, left and right or above and below; how many of them say 0)."""
    is_between = np.zeros_like(is_loaded)
    is_between[:, 1:-1] |= is_loaded[:, :-2] & is_loaded[:, 2:]
    is_between[:, :, 1:-1] |= is_loaded[:, :, :-2] & is_loaded[:, :, 2:]
    return int(is_between.sum()), int((is_between & (counts == 0)).sum())


def _num_stuck(counts: CountArray, is_loaded: BoolArray) -> int:
    """Taxels that say `STUCK_COUNTS` or more while none of their up to eight neighbours is loaded."""
    padded = np.pad(is_loaded, ((0, 0), (1, 1), (1, 1)))
    rows, columns = counts.shape[1:]
    num_around = sum(
        (
            padded[:, i : i + rows, j : j + columns].astype(np.int64)
            for i in range(3)
            for j in range(3)
            if (i, j) != (1, 1)
        ),
        start=np.zeros(counts.shape, dtype=np.int64),
    )
    return int((is_loaded & (counts >= STUCK_COUNTS) & (num_around == 0)).sum())


def _named(mask: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(finger for finger, is_in in zip(FINGERS, mask, strict=True) if is_in)
