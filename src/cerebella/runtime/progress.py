"""How fast a plan is played: at its own speed while there is enough of it, slower when it is about to run out.

A plan that ends while the robot moves would leave it with a jump. So the progress along the rows is a number under limits
of its own (see `jerk_limit`): never backwards, never faster than one row per tick, and always able to stop at the last row.
The limits of the progress are such that a stop of the progress is a stop of the robot within half of its own limits.
"""

import math

from cerebella.embodiment import Embodiment
from cerebella.runtime import jerk_limit
from cerebella.runtime.interpolation import Path
from cerebella.runtime.jerk_limit import Limits

_SHARE = 0.5
"""Of the robot's acceleration and jerk limits; the rest is for the bends of the path itself."""

_LEAST_STEP = 1e-9

_LEAST_SPEED = 1e-9
"""Rows per tick; slower than this, a plan that is slowing down stands."""


class Progress:
    """Rows per control tick along one plan.

    Args:
        path: the rows; at the last one it has to have stopped.
        embodiment: the limits. rows_per_tick: full speed, policy_hz / control_hz.
    """

    def __init__(self, path: Path, embodiment: Embodiment, rows_per_tick: float) -> None:
        period_s = 1.0 / embodiment.control_hz
        steps = [max(float(step), _LEAST_STEP) for step in path.largest_steps]
        shares = [
            (action.max_acceleration * period_s**2 / step, action.max_jerk * period_s**3 / step)
            for action, step in zip(embodiment.actions, steps, strict=True)
            if action.kind != "gripper"
        ] or [(math.inf, math.inf)]
        self.full_speed = rows_per_tick
        self._limits = Limits(
            low=-math.inf,
            high=len(path) - 1.0,
            velocity=rows_per_tick,
            acceleration=min(1e12, _SHARE * min(a for a, _ in shares)),
            jerk=min(1e12, _SHARE * min(j for _, j in shares)),
        )
        self.speed = rows_per_tick
        self._acceleration = 0.0

    def continue_from(self, other: "Progress") -> None:
        """Take over how fast another plan was being played."""
        self.speed = min(other.speed, self.full_speed)

    def step(self, row: float) -> float:
        """Rows to go in this control tick, starting at `row`; 0 when stopped."""
        left = self._limits.high - row
        speed, chosen, _ = jerk_limit.follow(
            self._limits, self.speed, self._acceleration, left, before=0.0, drift=0.0, is_committed=False
        )
        return self._go_on(speed, chosen)

    def brake(self) -> float:
        """Rows to go in this control tick on the way to a stop; 0 when stopped."""
        return self._go_on(*jerk_limit.stop(self._limits, self.speed, self._acceleration))

    def _go_on(self, speed: float, acceleration: float) -> float:
        stands = speed < _LEAST_SPEED and acceleration <= 0.0
        self.speed, self._acceleration = (0.0, 0.0) if stands else (speed, acceleration)
        return self.speed
