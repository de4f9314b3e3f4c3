"""A robot of every kind of number: a pose, joints, a velocity, a gripper; with limits of the test's choice."""

from collections.abc import Callable

import numpy as np

from cerebella.embodiment import ActionDimension, Dimension, Embodiment, Kind, Pose
from cerebella.runtime import turns
from cerebella.runtime.jerk_limit import Limits
from cerebella.runtime.motion import MotionLimiter
from cerebella.types import FloatArray

ORDINARY = 2.0, 15.0, 300.0
"""The largest velocity, acceleration and jerk."""

Choose = Callable[[Kind], tuple[float, float, float, float, float]]
NAMES: tuple[tuple[str, Kind], ...] = (
    ("x", "position"),
    ("y", "position"),
    ("z", "position"),
    ("rx", "rotation"),
    ("ry", "rotation"),
    ("rz", "rotation"),
    ("joint", "joint"),
    ("speed", "velocity"),
    ("gripper", "gripper"),
)
ROTATION, SPEED, GRIPPER = [3, 4, 5], 7, 8
SINGLE = [0, 1, 2, 6, SPEED]
MOVING = [*SINGLE, *ROTATION]
UNITS = {"position": "m", "rotation": "rad", "joint": "rad", "velocity": "m/s", "gripper": "1"}


def ordinary(kind: Kind) -> tuple[float, float, float, float, float]:
    """low, high, then the largest velocity, acceleration and jerk."""
    high = 6.0 if kind == "rotation" else 1.5
    return -high, high, *ORDINARY


def make_robot(control_hz: float, choose: Choose = ordinary, policy_hz: float = 30.0) -> Embodiment:
    states, actions = [], []
    for slot, (name, kind) in enumerate(NAMES):
        low, high, velocity, acceleration, jerk = choose(kind)
        states.append(Dimension(name, UNITS[kind], kind, "base", slot, low, high))
        actions.append(
            ActionDimension(
                name,
                UNITS[kind],
                kind,
                "base",
                slot,
                low,
                high,
                max_velocity=velocity,
                max_acceleration=acceleration,
                max_jerk=jerk,
                hold="zero" if kind == "velocity" else "last",
                reference=None if kind == "velocity" else name,
                relative=False,
            )
        )
    poses = (Pose(("x", "y", "z"), ("rx", "ry", "rz")),)
    return Embodiment("mixed", "joint", tuple(states), tuple(actions), (), policy_hz, control_hz, poses)


def limits_of(embodiment: Embodiment) -> list[Limits]:
    """Per control tick, straight from the embodiment."""
    period_s = 1.0 / embodiment.control_hz
    return [
        Limits(
            float(np.float32(a.low)),
            float(np.float32(a.high)),
            a.max_velocity * period_s,
            a.max_acceleration * period_s**2,
            a.max_jerk * period_s**3,
        )
        for a in embodiment.actions
    ]


class Watch:
    """Differences of everything that a limiter does, judged at every command."""

    def __init__(self, limiter: MotionLimiter) -> None:
        self.limiter = limiter
        self.limits = limits_of(limiter.embodiment)
        self.position = limiter.state.position.copy()
        self.velocity = np.zeros_like(self.position)
        self.acceleration = np.zeros_like(self.position)

    def judge(self, sent: FloatArray, speed: float = 1.0) -> None:
        """After each `follow` or `stop`, with what it returned."""
        position = self.limiter.state.position
        assert sent.dtype == np.float32
        assert sent.tobytes() == position.astype(np.float32).tobytes()
        velocity = position - self.position
        velocity[ROTATION] = turns.between(self.position[ROTATION].tolist(), position[ROTATION].tolist())
        acceleration = velocity - self.velocity
        jerk = acceleration - self.acceleration
        for j in MOVING:
            limits = self.limits[j]
            rounding = 4 * limits.slack + 16 * np.spacing(max(abs(position[j]), abs(self.position[j]), 1e-3))
            rounding += 2e-14 * (j in ROTATION)
            assert abs(velocity[j]) <= limits.velocity + rounding, (j, velocity[j], limits)
            assert abs(acceleration[j]) <= limits.acceleration + 2 * rounding, (j, acceleration[j], limits)
            assert abs(jerk[j]) <= limits.jerk + 4 * rounding, (j, jerk[j], limits)
            if abs(velocity[j]) > max(speed * limits.velocity, abs(self.velocity[j])) + rounding:
                # too fast for a limit that was just lowered: only while an acceleration is being let go of
                let_go = max(abs(self.acceleration[j]) - limits.jerk, 0.0)
                assert abs(acceleration[j]) <= let_go + 2 * rounding, (j, velocity[j], speed, limits)
        for j in (*SINGLE, GRIPPER):
            assert self.limits[j].low <= position[j] <= self.limits[j].high, (j, position[j], self.limits[j])
        step = abs(position[GRIPPER] - self.position[GRIPPER])
        assert step <= self.limits[GRIPPER].velocity * (1 + 1e-9) + 1e-12 * abs(position[GRIPPER])
        numbers = position[ROTATION].tolist()
        assert np.allclose(turns.nearest(numbers, self.position[ROTATION].tolist()), numbers, rtol=0, atol=1e-9)
        self.position, self.velocity, self.acceleration = position.copy(), velocity, acceleration

    def stop(self, most: int) -> int:
        """Commands until rest, `most` at the most."""
        for i in range(most):
            if self.limiter.is_at_rest:
                return i
            self.judge(self.limiter.stop())
        assert self.limiter.is_at_rest, f"still moving after {most} commands: {self.limiter.state}"
        return most

    def stop_ticks(self) -> int:
        """A generous bound on the ticks of a stop from here: each kind of phase on its own, four times."""
        state, ticks = self.limiter.state, 20.0
        for j in MOVING:
            limits, v, a = self.limits[j], abs(state.velocity[j]), abs(state.acceleration[j])
            ticks = max(ticks, 20 + 4 * (v / limits.acceleration + 2 * (v / limits.jerk) ** 0.5 + 2 * a / limits.jerk))
            if j == SPEED:
                ticks = max(ticks, 20 + 4 * travel_ticks(limits, abs(state.position[j])) + ticks)
        return int(min(ticks, 1e9))


def travel_ticks(limits: Limits, distance: float) -> float:
    """Of the order of the ticks that a motion over `distance` takes."""
    ramps = limits.velocity / limits.acceleration + limits.acceleration / limits.jerk
    shortest = (distance / limits.jerk) ** (1 / 3) + (distance / limits.acceleration) ** 0.5
    return distance / limits.velocity + 2 * min(ramps, 4 * shortest) + shortest + 4
