"""One reading of a closed hand: the counts of all taxels and the joints. What the network sees of a grasp, and no more."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cerebella.touch.grasp import FINGERS, JOINTS, NUM_COLUMNS, NUM_FINGERS, NUM_JOINTS, NUM_ROWS
from cerebella.types import FloatArray, Observation

CountArray = NDArray[np.uint8]
MAX_COUNT = 255
COUNTS_SHAPE = (NUM_FINGERS, NUM_ROWS, NUM_COLUMNS)


@dataclass(frozen=True, eq=False)
class Reading:
    """What was measured of one grasp.

    Args:
        counts: uint8[5, 11, 9], 0..255 per taxel, fingers in the order of `FINGERS`; 255 is saturated.
        joints: float32[11] radians, in the order of `JOINTS`.

    Raises:
        ValueError: a wrong shape or type, or a joint that is not finite or beyond half a turn.
    """

    counts: CountArray
    joints: FloatArray

    def __post_init__(self) -> None:
        _check_array("Reading.counts (0..255)", self.counts, np.uint8, COUNTS_SHAPE)
        _check_array("Reading.joints (rad)", self.joints, np.float32, (NUM_JOINTS,))
        for name, value in zip(JOINTS, self.joints, strict=True):
            if not abs(value) <= math.pi:  # NaN as well
                raise ValueError(f"Reading.joints: {name} must be finite and within -pi..pi rad; got {value}")

    @property
    def finger_counts(self) -> NDArray[np.int64]:
        """int64[5]: the sum over the taxels of every finger."""
        return self.counts.sum(axis=(1, 2), dtype=np.int64)


def missing_fingers(observation: Observation) -> tuple[str, ...]:
    """Fingers whose taxels an observation lacks."""
    return tuple(finger for finger in FINGERS if finger not in observation.tactile)


def observed_forces(observation: Observation) -> FloatArray:
    """float32[5, 11, 9] newtons: the taxels of an observation, in the order of `FINGERS`.

    Raises:
        ValueError: a finger is missing; `types.Observation` has checked shapes and numbers.
    """
    if missing := missing_fingers(observation):
        raise ValueError(
            f"Observation.tactile needs the fingers {', '.join(FINGERS)}; missing: {', '.join(missing)} "
            f"(it has {', '.join(observation.tactile) or 'none'})"
        )
    return np.stack([observation.tactile[finger] for finger in FINGERS])


def observed_reading(
    observation: Observation, joints: FloatArray, to_counts: Callable[[FloatArray], CountArray]
) -> Reading:
    """The reading in an observation, whose taxels are in newtons.

    Args:
        observation: with all five fingers.
        joints: float32[11] radians, from the observation's state (see `effector`).
        to_counts: float32[5, 11, 9] newtons to uint8 counts, with the gain of the nominal sensor.

    Raises:
        ValueError: a finger is missing, or a wrong shape.
    """
    return Reading(to_counts(observed_forces(observation)), joints)


def _check_array(name: str, array: NDArray[np.generic], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    is_array = isinstance(array, np.ndarray)
    if not is_array or array.dtype != dtype or array.shape != shape:
        got = f"{array.dtype}{list(array.shape)}" if is_array else f"a {type(array).__name__}"
        raise ValueError(f"{name} must be {np.dtype(dtype).name}{list(shape)}; got {got}")
