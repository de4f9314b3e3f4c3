"""One number under limits of velocity, acceleration and jerk, in discrete time: pure functions on floats.

Everything is counted per control tick: with p the commands, v = p - p_before, a = v - v_before, j = a - a_before, so that
a limit of x unit/s^n is x * period^n here. The limits hold for these differences exactly, which is what a robot sees.

The heart is `change(m)`: whoever holds the acceleration m and lets go of it as fast as the jerk limit J allows still
changes its velocity by

    change(m) = m + (m - J) + (m - 2J) + ...          (terms above zero)

`acceleration_for` inverts it: the acceleration from which letting go ends exactly at a wanted change of velocity. From
there follow the largest acceleration that does not overshoot the velocity limit, and the stop: brake with
`acceleration_for(|v|)`, one tick after the other, and velocity and acceleration reach zero together. `stop_distance` is the
sum over such a stop in closed form, and `follow` inverts that: as fast as the limits allow towards a moving reference, but
never so fast that a stop relative to it would end beyond it.
"""

import math
from dataclasses import dataclass, field

MAX_SEARCH = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one number: range, and largest differences per control tick (see the module).

    Attributes:
        slack: what counts as rounding when a difference is compared with its limit.
        near: how exactly a stop has to end where it should; the last tick lands exactly.
    """

    low: float
    high: float
    velocity: float
    acceleration: float
    jerk: float
    slack: float = field(init=False)
    near: float = field(init=False)

    def __post_init__(self) -> None:
        rounding = max(math.ulp(end) for end in (self.low, self.high, 0.0) if math.isfinite(end))
        least = min(self.velocity, self.acceleration, self.jerk)
        object.__setattr__(self, "slack", 1e-9 * least + 8.0 * rounding)
        object.__setattr__(self, "near", 1e-6 * least + 32.0 * rounding)


def change(acceleration: float, jerk: float) -> float:
    """Velocity still gained while an acceleration (0 or more) is let go of, its own tick included. Per tick."""
    num_more = math.floor(acceleration / jerk)
    return (num_more + 1) * acceleration - 0.5 * num_more * (num_more + 1) * jerk


def acceleration_for(velocity: float, jerk: float) -> float:
    """The acceleration m (0 or more) with `change(m) == velocity`, velocity 0 or more. Per tick."""
    if velocity <= jerk:  # a single tick is enough
        return max(velocity, 0.0)
    num_more = math.floor((math.sqrt(1.0 + 8.0 * velocity / jerk) - 1.0) / 2.0)
    return (velocity + 0.5 * num_more * (num_more + 1) * jerk) / (num_more + 1)


def _signed_acceleration_for(velocity: float, jerk: float) -> float:
    return acceleration_for(velocity, jerk) if velocity >= 0.0 else -acceleration_for(-velocity, jerk)


def bounds(limits: Limits, velocity: float, acceleration: float) -> tuple[float, float]:
    """The accelerations that may come next so that neither acceleration nor velocity ever leaves its limit. Per tick.

    Beyond a velocity limit that was just lowered, those that lead back.
    """
    least = max(acceleration - limits.jerk, -limits.acceleration)
    most = min(acceleration + limits.jerk, limits.acceleration)
    low = -_signed_acceleration_for(limits.velocity + velocity, limits.jerk)
    high = _signed_acceleration_for(limits.velocity - velocity, limits.jerk)
    return min(max(low, least), most), min(max(high, least), most)


def stop(limits: Limits, velocity: float, acceleration: float) -> tuple[float, float]:
    """The next (velocity, acceleration) on the way to rest. Rest is (0, 0). Per tick."""
    wanted = -_signed_acceleration_for(velocity, limits.jerk)
    low = max(acceleration - limits.jerk, -limits.acceleration)
    high = min(acceleration + limits.jerk, limits.acceleration)
    chosen = min(max(wanted, low), high)
    return velocity + chosen, chosen


def stop_distance(limits: Limits, velocity: float, acceleration: float) -> tuple[float, float]:
    """How far a stop that begins now goes: (where it turns round, where it ends), from here. Per tick.

    It turns round, if at all, where the acceleration is so much against the velocity that letting go of it takes longer.
    """
    jerk, most = limits.jerk, limits.acceleration
    wanted = -math.copysign(min(acceleration_for(abs(velocity), jerk), most), velocity)
    sign = 1.0 if acceleration > wanted else -1.0  # mirrored so that the acceleration has to come down
    v, a = sign * velocity, sign * acceleration
    turn = end = 0.0
    if a - jerk > sign * wanted:  # n ticks at full jerk, a - J, a - 2J, ..., until the braking fits the velocity
        if v < 0.0:
            rise = a - 0.5 * jerk
            n = math.ceil(-2.0 * v / (rise + math.sqrt(max(rise * rise + 2.0 * jerk * v, 0.0)))) - 1
            turn = _at_full_jerk(v, a, jerk, n)[0]
        n = max(math.floor((a + math.sqrt(max(0.5 * a * (a - jerk) + jerk * v, 0.0))) / jerk) - 1, 1)
        for _ in range(3):  # the root is that of a parabola, `change` has corners: off by one at most
            braking = (n + 1) * jerk - a
            if braking >= 0.0 and _at_full_jerk(v, a, jerk, n)[1] <= change(braking, jerk):
                break
            n += 1
        n = min(n, math.ceil((a + most) / jerk) - 1)
        end, v = _at_full_jerk(v, a, jerk, n)
    speed, held = abs(v), change(most, jerk)
    way = 0.0
    if speed > held:  # n ticks at full acceleration
        n = math.ceil((speed - held) / most)
        way = n * (speed - 0.5 * (n + 1) * most)
        speed -= n * most
    last = acceleration_for(speed, jerk)  # let go of it: last, last - J, ...
    n = math.floor(last / jerk)
    way += 0.5 * n * (n + 1) * (last - (2 * n + 1) * jerk / 3.0)
    return sign * turn, sign * (end + math.copysign(way, v))


def stops_within(limits: Limits, position: float, velocity: float, acceleration: float) -> bool:
    """Whether a stop that begins now stays inside the range, up to rounding. First by a bound that is cheap."""
    rise = abs(acceleration)
    num_ticks = math.ceil(rise / limits.jerk)  # until an acceleration that goes on is let go of
    fastest = abs(velocity) + rise * num_ticks
    reach = fastest * (num_ticks + 3.0 + fastest / limits.acceleration + limits.acceleration / limits.jerk)
    if limits.low <= position - reach and position + reach <= limits.high:
        return True
    turn, end = stop_distance(limits, velocity, acceleration)
    lowest, highest = position + min(turn, end, 0.0), position + max(turn, end, 0.0)
    return limits.low - limits.slack <= lowest and highest <= limits.high + limits.slack


def follow(
    limits: Limits,
    velocity: float,
    acceleration: float,
    gap: float,
    before: float,
    drift: float,
    is_committed: bool,
) -> tuple[float, float, bool]:
    """The next (velocity, acceleration) towards a moving reference, and whether it lands on the reference. Per tick.

    Args:
        limits: range not regarded here.
        velocity, acceleration: now.
        gap: how far the reference of the next tick is from the position now.
        before, drift: how much the reference moves by itself in the next tick, and in the one after that.
        is_committed: land on the reference if one tick can do it, also if staying on it cannot.
    """
    low, high = bounds(limits, velocity, acceleration)
    wanted, next_wanted = gap - velocity, drift - gap
    slack = limits.slack
    if low - slack <= wanted <= high + slack and (
        is_committed
        or (
            abs(next_wanted) <= limits.acceleration + slack
            and abs(next_wanted - wanted) <= limits.jerk + slack
            and abs(gap - before) <= limits.jerk + slack
        )
    ):
        return gap, wanted, True
    steady = min(max(drift, -limits.velocity), limits.velocity)
    chosen = _approach(limits, low, high, velocity, acceleration, gap, steady)
    return velocity + chosen, chosen, False


def _approach(
    limits: Limits, low: float, high: float, velocity: float, acceleration: float, gap: float, drift: float
) -> float:
    """The acceleration from low..high after which a stop relative to the reference ends on it, or as near as can be."""

    def left(chosen: float) -> float:
        """What is left of the gap after that stop; falls with `chosen`."""
        return gap - velocity - chosen - stop_distance(limits, velocity + chosen - drift, chosen)[1]

    left_high = left(high)
    if left_high >= 0.0:
        return high
    left_low = left(low)
    if left_low <= limits.near:
        return low
    _, chosen = stop(limits, velocity - drift, acceleration)  # right in the middle of such a stop
    last = 0.0
    for _ in range(MAX_SEARCH):  # false position; an end that stays for the second time counts half (Illinois)
        if not low < chosen < high:
            chosen = 0.5 * (low + high)
        value = left(chosen)
        if abs(value) <= limits.near:
            return chosen
        if value > 0.0:
            low, left_low = chosen, value
            left_high *= 0.5 if last > 0.0 else 1.0
        else:
            high, left_high = chosen, value
            left_low *= 0.5 if last < 0.0 else 1.0
        last = value
        chosen = low + (high - low) * left_low / (left_low - left_high)
    return low


def _at_full_jerk(velocity: float, acceleration: float, jerk: float, num_ticks: int) -> tuple[float, float]:
    """Way and velocity after so many ticks whose accelerations fall by the jerk, from the next one on."""
    n = num_ticks
    return (
        n * velocity + n * (n + 1) * (0.5 * acceleration - (n + 2) * jerk / 6.0),
        velocity + n * (acceleration - 0.5 * (n + 1) * jerk),
    )
