"""From newtons on a taxel to the counts that an array delivers, with the faults that real arrays have.

One reading, in this order: the skin gives a share of every taxel's force to its neighbours (cross-talk); each taxel has a
gain; each finger has drifted by an offset; noise; 8 bits that saturate; taxels that are stuck say always the same.
Everything is vectorised: forces float[..., 5, 11, 9] meet a sensor whose fields have leading axes of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from cerebella.touch.grasp import NUM_COLUMNS, NUM_FINGERS, NUM_ROWS
from cerebella.touch.reading import CountArray
from cerebella.types import FloatArray

Range = tuple[float, float]

FULL_SCALE_N = 0.6
"""Force on one taxel at which a nominal sensor reads 255, newtons. With 3.6 N at the thumb and 1.4 to 1.9 N at the other
fingers, a pressed taxel carries 0.11 N (median) and no more than 0.52 N over all seen objects and default poses of the skin
world. So nothing saturates in the nominal hand, one count is 2 % of the median, and stiffer skin, stronger motors or a larger
gain do saturate."""
COUNTS_PER_NEWTON = 255 / FULL_SCALE_N
WORKS = -1
"""In `Sensor.stuck_at`: a taxel that works."""
_TAXELS = (NUM_FINGERS, NUM_ROWS, NUM_COLUMNS)
_IS_BORDER = np.ones((NUM_ROWS, NUM_COLUMNS), dtype=bool)
_IS_BORDER[1:-1, 1:-1] = False
_NUM_NEIGHBOURS = np.full((NUM_ROWS, NUM_COLUMNS), 4, dtype=np.float32)
_NUM_NEIGHBOURS[[0, -1], :] -= 1
_NUM_NEIGHBOURS[:, [0, -1]] -= 1


@dataclass(frozen=True, eq=False)
class Sensor:
    """Five arrays and how they err. Leading axes, if any, are one sensor each; they broadcast against those of the forces.

    Args:
        gain: float32[..., 5, 11, 9], 1 is nominal. The product of all causes: amplifier, skin, finger, taxel, border.
        cross_talk: float32[...], the share of its force that a taxel gives to each of its up to four neighbours, 0..0.2.
            The sum over an array stays.
        offset_n: float32[..., 5] newtons, added to every taxel of a finger: slow drift.
        noise_n: float32[...] newtons, standard deviation of every reading.
        stuck_at: int16[..., 5, 11, 9], what a broken taxel says always, 0..255; 0 is a dead one; `WORKS` (-1) is a whole one.

    Raises:
        ValueError: a wrong shape, a number out of range or not finite.
    """

    gain: FloatArray
    cross_talk: FloatArray
    offset_n: FloatArray
    noise_n: FloatArray
    stuck_at: NDArray[np.int16]

    def __post_init__(self) -> None:
        for name, shape in {"gain": _TAXELS, "offset_n": _TAXELS[:1], "stuck_at": _TAXELS}.items():
            found = np.shape(getattr(self, name))
            if found[len(found) - len(shape) :] != shape:
                raise ValueError(f"Sensor.{name} must have the shape [..., {str(list(shape))[1:]}; got {list(found)}")
        most = {"gain": (0, np.inf), "cross_talk": (0, 0.2), "noise_n": (0, np.inf), "stuck_at": (WORKS, 255)}
        for name in (field.name for field in fields(self)):
            values, (low, high) = getattr(self, name), most.get(name, (-np.inf, np.inf))
            if not (np.isfinite(values).all() and np.all(values >= low) and np.all(values <= high)):
                raise ValueError(f"Sensor.{name} must be finite and in {low:g}..{high:g}")

    def counts(self, forces: NDArray[np.floating], rng: np.random.Generator) -> CountArray:
        """What the arrays deliver: uint8[..., 5, 11, 9].

        Args:
            forces: float[..., 5, 11, 9] newtons. rng: of the noise; not touched where `noise_n` is 0.

        Raises:
            ValueError: a wrong shape.
        """
        if forces.shape[-3:] != _TAXELS:
            raise ValueError(f"forces (N) must have the shape [..., 5, 11, 9]; got {list(forces.shape)}")
        newtons = _spread(forces.astype(np.float32), self.cross_talk[..., None, None, None]) * self.gain
        newtons = newtons + self.offset_n[..., None, None]
        if self.noise_n.any():
            newtons = newtons + self.noise_n[..., None, None, None] * rng.standard_normal(newtons.shape, np.float32)
        newtons *= np.float32(COUNTS_PER_NEWTON)
        np.clip(np.rint(newtons, out=newtons), 0, 255, out=newtons)
        return np.where(self.stuck_at == WORKS, newtons, self.stuck_at).astype(np.uint8)

    def with_dead(self, is_dead: NDArray[np.bool_]) -> "Sensor":
        """The same sensor where the taxels of `is_dead` (bool[..., 5, 11, 9]) read 0."""
        return replace(self, stuck_at=np.where(is_dead, 0, self.stuck_at).astype(np.int16))


@dataclass(frozen=True)
class SensorRanges:
    """What random sensors are drawn from: (lowest, highest) of each number, uniform.

    Args:
        gain: one factor of all five arrays (stiffness of the skin, amplifier). finger_gain: one more per finger.
        taxel_gain: one more per taxel. border_gain: one factor of the 36 taxels at the border of every array.
        cross_talk: see `Sensor`. offset_n: newtons, per finger. noise_n: newtons.
        dead_share, stuck_share: the probability of a taxel to be dead, or stuck at a random count.

    Raises:
        ValueError: a range that is empty or leaves what is possible.
    """

    gain: Range = (1.0, 1.0)
    finger_gain: Range = (1.0, 1.0)
    taxel_gain: Range = (1.0, 1.0)
    border_gain: Range = (1.0, 1.0)
    cross_talk: Range = (0.0, 0.0)
    offset_n: Range = (0.0, 0.0)
    noise_n: Range = (0.0, 0.0)
    dead_share: Range = (0.0, 0.0)
    stuck_share: Range = (0.0, 0.0)

    def __post_init__(self) -> None:
        most = {"cross_talk": (0.0, 0.2), "offset_n": (-1.0, 1.0), "dead_share": (0.0, 0.5), "stuck_share": (0.0, 0.5)}
        for name in (field.name for field in fields(self)):
            (low, high), (lowest, highest) = getattr(self, name), most.get(name, (0.0, 100.0))
            if not lowest <= low <= high <= highest:
                raise ValueError(
                    f"SensorRanges.{name} must be (low, high) in {lowest:g}..{highest:g}; got {(low, high)}"
                )

    def draw(self, rng: np.random.Generator, num: int | None = None) -> Sensor:
        """One random sensor, or `num` of them along a leading axis."""
        lead = () if num is None else (num,)
        gain = _uniform(rng, self.taxel_gain, (*lead, *_TAXELS))
        gain *= (_uniform(rng, self.gain, (*lead, 1)) * _uniform(rng, self.finger_gain, (*lead, NUM_FINGERS)))[
            ..., None, None
        ]
        border = _uniform(rng, self.border_gain, lead)[..., None, None, None]
        gain *= np.where(_IS_BORDER, border, np.float32(1.0))
        return Sensor(
            gain=gain,
            cross_talk=_uniform(rng, self.cross_talk, lead),
            offset_n=_uniform(rng, self.offset_n, (*lead, NUM_FINGERS)),
            noise_n=_uniform(rng, self.noise_n, lead),
            stuck_at=self._draw_stuck(rng, lead),
        )

    def drifted(self, sensor: Sensor, rng: np.random.Generator) -> Sensor:
        """The same sensor at another time: new offsets, everything else as it was."""
        return replace(sensor, offset_n=_uniform(rng, self.offset_n, sensor.offset_n.shape))

    def _draw_stuck(self, rng: np.random.Generator, lead: tuple[int, ...]) -> NDArray[np.int16]:
        stuck_at = np.full((*lead, *_TAXELS), WORKS, dtype=np.int16)
        if self.dead_share[1] == 0 and self.stuck_share[1] == 0:
            return stuck_at
        dead = _uniform(rng, self.dead_share, lead)[..., None, None, None]
        stuck = _uniform(rng, self.stuck_share, lead)[..., None, None, None]
        chance = rng.random(stuck_at.shape, np.float32)
        is_stuck = chance < dead + stuck
        stuck_at[is_stuck] = rng.integers(0, 256, int(is_stuck.sum()), dtype=np.int16)
        stuck_at[chance < dead] = 0
        return stuck_at


SENSORS: Mapping[str, SensorRanges] = {
    "nominal": SensorRanges(),
    "trained": SensorRanges(
        gain=(0.75, 1.3),
        finger_gain=(0.85, 1.15),
        taxel_gain=(0.9, 1.1),
        border_gain=(0.6, 1.0),
        cross_talk=(0.0, 0.08),
        offset_n=(-0.004, 0.008),
        noise_n=(0.0, 0.006),
        dead_share=(0.0, 0.02),
        stuck_share=(0.0, 0.002),
    ),
    "wild": SensorRanges(
        gain=(0.6, 1.6),
        finger_gain=(0.75, 1.25),
        taxel_gain=(0.8, 1.2),
        border_gain=(0.5, 1.0),
        cross_talk=(0.02, 0.12),
        offset_n=(-0.006, 0.012),
        noise_n=(0.002, 0.01),
        dead_share=(0.0, 0.04),
        stuck_share=(0.0, 0.004),
    ),
}
"""`nominal`: exact but quantised. `trained`: what training sees. `wild`: the sensor of the other world, wider in everything."""


def sensor_ranges(name: str) -> SensorRanges:
    """The ranges called `name`.

    Raises:
        ValueError: there are none; lists the names.
    """
    if name not in SENSORS:
        raise ValueError(f"unknown sensor {name!r}; known: {', '.join(SENSORS)}")
    return SENSORS[name]


def nominal_sensor() -> Sensor:
    """One array as the data sheet has it: no fault, no noise."""
    return SensorRanges().draw(np.random.default_rng(0))


def to_newtons(counts: CountArray) -> FloatArray:
    """Newtons that a nominal sensor would have felt: float32[...]. A count of 255 means `FULL_SCALE_N` or more."""
    return counts.astype(np.float32) / np.float32(COUNTS_PER_NEWTON)


def _spread(newtons: FloatArray, share: FloatArray) -> FloatArray:
    """Every taxel gives `share` of its force to each neighbour. Only sums of products with numbers >= 0: monotone, exactly."""
    if not share.any():
        return newtons
    given = newtons * share
    kept: FloatArray = np.multiply(newtons, 1 - share * _NUM_NEIGHBOURS, dtype=np.float32)
    kept[..., 1:, :] += given[..., :-1, :]
    kept[..., :-1, :] += given[..., 1:, :]
    kept[..., :, 1:] += given[..., :, :-1]
    kept[..., :, :-1] += given[..., :, 1:]
    return kept


def _uniform(rng: np.random.Generator, limits: Range, shape: tuple[int, ...]) -> FloatArray:
    low, high = limits
    if low == high:
        return np.full(shape, low, dtype=np.float32)
    drawn = np.asarray(rng.random(shape, np.float32) * np.float32(high - low) + np.float32(low), dtype=np.float32)
    np.minimum(drawn, np.float32(high), out=drawn)
    return drawn
