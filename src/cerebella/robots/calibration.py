"""How long a sensor is behind another: from a recording of one motion that both see.

Move the arm back and forth by hand or with slow, irregular commands, record what each sensor says about the motion (a joint,
the brightness of a spot, the row of a marker, the mean optical flow), and compare when it says it. Only the shape counts:
signals may have any unit, scale, sign and offset.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MIN_OVERLAP = 0.5
_WEAK = 0.5
_RIVAL = 0.98


@dataclass(frozen=True)
class SensorDelay:
    """What a comparison gave.

    Args:
        delay_s: how much later the sensor's stamps are than the reference's for one and the same motion.
        correlation: of the two signals at that delay, 0..1 (the sign of the signals does not count).
    """

    delay_s: float
    correlation: float


def mean_motion(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A signal from pictures: mean absolute change of brightness from frame to frame, float64[num_frames - 1].

    Args:
        frames: uint8[num_frames, h, w, 3]. Compare it with the speed of a joint, not with its position.
    """
    if frames.ndim != 4 or len(frames) < 2:
        raise ValueError(f"frames must be uint8[2 or more, h, w, 3]; got {list(frames.shape)}")
    grey = frames.astype(np.float64).mean(axis=3)
    return np.abs(np.diff(grey, axis=0)).mean(axis=(1, 2))


def estimate_delay(
    reference_s: NDArray[np.float64],
    reference: NDArray[np.float64],
    sensor_s: NDArray[np.float64],
    sensor: NDArray[np.float64],
    max_delay_s: float = 0.5,
    step_s: float = 0.001,
) -> SensorDelay:
    """The delay d that makes `sensor(t + d)` look most like `reference(t)`: the peak of |normalised cross-correlation|.

    Both are interpolated linearly to steps of `step_s`; the peak is refined by a parabola through its neighbours.

    Args:
        reference_s, sensor_s: stamps, seconds of one clock, strictly increasing, float64[n] and float64[m].
        reference, sensor: the signals, float64[n] and float64[m].
        max_delay_s: search in -max_delay_s..max_delay_s.

    Raises:
        ValueError: wrong shapes, a signal that does not move, recordings that overlap too little, no clear peak, or a
            peak at the end of the search.
    """
    for name, stamps_s, signal in (("reference", reference_s, reference), ("sensor", sensor_s, sensor)):
        _check_signal(name, stamps_s, signal)
    if not 0 < step_s < max_delay_s:
        raise ValueError(f"need 0 < step_s < max_delay_s; got {step_s} s and {max_delay_s} s")
    start_s = max(reference_s[0], sensor_s[0] + max_delay_s)
    end_s = min(reference_s[-1], sensor_s[-1] - max_delay_s)
    if end_s - start_s < max(_MIN_OVERLAP * (reference_s[-1] - reference_s[0]), 4 * max_delay_s):
        raise ValueError(
            f"the recordings overlap for {max(0.0, end_s - start_s):.2f} s beside the search of {max_delay_s:g} s on "
            f"either side; record at least {8 * max_delay_s:g} s of one motion with both"
        )
    grid_s = np.arange(start_s, end_s, step_s)
    wanted = _normalised(np.interp(grid_s, reference_s, reference))
    num_steps = round(max_delay_s / step_s)
    delays_s = step_s * np.arange(-num_steps, num_steps + 1)
    similar = np.asarray([abs(wanted @ _normalised(np.interp(grid_s + d, sensor_s, sensor))) for d in delays_s])
    best = int(similar.argmax())
    if similar[best] < _WEAK:
        raise ValueError(
            f"the two signals do not show one motion: their correlation is {similar[best]:.2f} at best; it should be "
            f"above {_WEAK}"
        )
    if best in (0, len(delays_s) - 1):
        raise ValueError(f"the best delay lies at the end of the search ({delays_s[best]:+.3f} s); raise max_delay_s")
    if (rival := _rival(similar, best)) is not None:
        raise ValueError(
            f"a delay of {delays_s[best]:+.3f} s and one of {delays_s[rival]:+.3f} s fit equally well: the motion is "
            "periodic. Record an irregular one"
        )
    return SensorDelay(float(delays_s[best] + step_s * _vertex(similar[best - 1 : best + 2])), float(similar[best]))


def _check_signal(name: str, stamps_s: NDArray[np.float64], signal: NDArray[np.float64]) -> None:
    if stamps_s.ndim != 1 or stamps_s.shape != signal.shape or len(signal) < 3:
        raise ValueError(
            f"{name} must be two vectors of one length, 3 or more; got {list(stamps_s.shape)} stamps and "
            f"{list(signal.shape)} values"
        )
    if not (np.isfinite(stamps_s).all() and np.isfinite(signal).all()):
        raise ValueError(f"{name} must be finite")
    if (np.diff(stamps_s) <= 0).any():
        raise ValueError(f"the stamps of the {name} must increase strictly")
    if np.ptp(signal) == 0:
        raise ValueError(f"the {name} does not move: all its values are {signal[0]:g}")


def _normalised(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = signal - signal.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0 else centred


def _rival(similar: NDArray[np.float64], best: int) -> int | None:
    """Another local maximum that is about as high."""
    inner = similar[1:-1]
    peaks = 1 + np.flatnonzero((inner >= similar[:-2]) & (inner > similar[2:]) & (inner > _RIVAL * similar[best]))
    others = [int(peak) for peak in peaks if peak != best]
    return others[0] if others else None


def _vertex(values: NDArray[np.float64]) -> float:
    """Where the parabola through three equidistant values has its maximum, in steps from the middle one."""
    left, middle, right = (float(value) for value in values)
    curvature = left - 2 * middle + right
    return 0.5 * (left - right) / curvature if curvature < 0 else 0.0
