"""One number under limits of velocity, acceleration and jerk, in discrete time: pure functions on floats.

Everything is counted per control tick: with p the commands, v = p - p_before, a = v - v_before, j = a - a_before, so that
a limit of x unit/s^n is x * period^n here. The limits hold for these differences exactly, which is what a robot sees.

The heart is `change(m)`: whoever holds the acceleration m and lets go of it as fast as the jerk limit J allows still
changes its velocity by

    change(m) = m + (m - J) + (m - 2J) + ...          (terms above zero)

`acceleration_for` inverts it: the acceleration from which letting go ends exactly at a wanted change of velocity. From
there follow both the largest acceleration that does not overshoot the velocity limit, and the stop: brake with
`acceleration_for(|v|)`, one tick after the other, and velocity and acceleration reach zero together.
"""

import math
from dataclasses import dataclass

import numpy as np

MAX_STOP_TICKS = 100_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one number: range, and largest differences per control tick (see the module)."""

    low: float
    high: float
    velocity: float
    acceleration: float
    jerk: float


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


def bounds(limits: Limits, velocity: float, acceleration: float) -> tuple[float, float]:
    """The accelerations that may come next so that neither acceleration nor velocity ever leaves its limit. Per tick."""
    low = max(
        acceleration - limits.jerk, -limits.acceleration, -acceleration_for(limits.velocity + velocity, limits.jerk)
    )
    high = min(
        acceleration + limits.jerk, limits.acceleration, acceleration_for(limits.velocity - velocity, limits.jerk)
    )
    if low > high:  # above a velocity limit that was just lowered: brake as hard as the jerk limit allows
        return (high, high) if velocity < 0 else (low, low)
    return low, high


def stop(limits: Limits, velocity: float, acceleration: float) -> tuple[float, float]:
    """The next (velocity, acceleration) on the way to rest. Rest is (0, 0). Per tick."""
    wanted = -math.copysign(acceleration_for(abs(velocity), limits.jerk), velocity)
    low = max(acceleration - limits.jerk, -limits.acceleration)
    high = min(acceleration + limits.jerk, limits.acceleration)
    chosen = min(max(wanted, low), high)
    following = velocity + chosen
    return (0.0 if abs(following) <= 1e-12 * limits.velocity else following), chosen


def stops_within(limits: Limits, position: float, velocity: float, acceleration: float) -> bool:
    """Whether a stop that begins now stays inside the range. First by an upper bound, then step by step."""
    if position > limits.high or position < limits.low:
        return False
    up = _reach(limits, velocity, acceleration)
    down = _reach(limits, -velocity, -acceleration)
    if position + up <= limits.high and position - down >= limits.low:
        return True
    for _ in range(MAX_STOP_TICKS):
        if velocity == 0.0 and acceleration == 0.0:
            return True
        velocity, acceleration = stop(limits, velocity, acceleration)
        position += velocity
        if position > limits.high or position < limits.low:
            return False
    return False


def approach(limits: Limits, distance: float) -> float:
    """The largest speed towards something `distance` (0 or more) away from which a stop still ends there. Per tick.

    In continuous time: a stop from speed u with triangular acceleration takes u sqrt(u / J), and one that holds the full
    acceleration A for a while u (u / A + A / J) / 2.
    """
    accel, jerk = limits.acceleration, limits.jerk
    if distance <= accel * accel / jerk * (accel / jerk):
        speed = math.cbrt(distance) ** 2 * math.cbrt(jerk)
    else:
        half = accel * accel / (2.0 * jerk)
        speed = -half + math.sqrt(half * half + 2.0 * accel * distance)
    return min(speed, distance)


def follow(
    limits: Limits,
    velocity: float,
    acceleration: float,
    gap: float,
    drift: float,
    is_committed: bool,
) -> tuple[float, float, bool]:
    """The next (velocity, acceleration) towards a moving reference, and whether it lands on the reference. Per tick.

    Args:
        limits: range not regarded here.
        velocity, acceleration: now.
        gap: how far the reference of the next tick is from the position now.
        drift: how much the reference will move in the tick after that.
        is_committed: land on the reference if one tick can do it, also if staying on it in the next one cannot.
    """
    low, high = bounds(limits, velocity, acceleration)
    wanted = gap - velocity
    slack = 1e-9 * limits.velocity
    if low - slack <= wanted <= high + slack:
        next_wanted = drift - gap
        stays = abs(next_wanted) <= limits.acceleration + slack and abs(next_wanted - wanted) <= limits.jerk + slack
        if is_committed or stays:
            return gap, wanted, True
    behind = gap - drift
    jerk = _catch(limits.jerk, behind, velocity - drift, acceleration)
    if jerk is not None and low <= acceleration + jerk <= high:
        return velocity + acceleration + jerk, acceleration + jerk, False
    aim = drift + math.copysign(approach(limits, abs(behind)), behind)
    aim = min(max(aim, -limits.velocity), limits.velocity)
    missing = aim - velocity
    chosen = math.copysign(acceleration_for(abs(missing), limits.jerk), missing)
    chosen = min(max(chosen, low), high)
    return velocity + chosen, chosen, False


def _reach(limits: Limits, velocity: float, acceleration: float) -> float:
    """At least as far as a stop goes in the positive direction. Per tick; see `approach` for the two terms."""
    rise = max(acceleration, 0.0)
    num_rising = math.ceil(rise / limits.jerk)
    fastest = max(velocity + rise * num_rising, 0.0)
    return fastest * (num_rising + 3.0 + fastest / limits.acceleration + limits.acceleration / limits.jerk)


def _catch_gains(num_ticks: int) -> tuple[tuple[float, float, float], ...]:
    """Jerks of the next ticks per unit of (gap, relative velocity, acceleration) that end on a steady reference.

    The smallest in the sense of squares: j = -pinv(C) F x with x' = A x + b j, F = A^n, C = [A^(n-1) b, ..., b].
    """
    a = np.array([[1.0, -1.0, -1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    b = np.array([-1.0, 1.0, 1.0])
    columns = [np.linalg.matrix_power(a, num_ticks - 1 - i) @ b for i in range(num_ticks)]
    gains = -np.linalg.pinv(np.stack(columns, axis=1)) @ np.linalg.matrix_power(a, num_ticks)
    return tuple((float(e), float(u), float(c)) for e, u, c in gains)


_GAINS = tuple(_catch_gains(num_ticks) for num_ticks in range(3, 9))


def _catch(limit: float, gap: float, relative_velocity: float, acceleration: float) -> float | None:
    """The first jerk of the shortest sequence of 3 to 8 within the limit that ends on the reference and stays; or None.

    The last stretch of an approach: without it the command would circle around the reference by a few jerks.
    """
    if abs(gap) > 40.0 * limit or abs(relative_velocity) > 20.0 * limit:
        return None
    for gains in _GAINS:
        jerks = [e * gap + u * relative_velocity + c * acceleration for e, u, c in gains]
        if max(jerks) <= limit and min(jerks) >= -limit:
            return jerks[0]
    return None
