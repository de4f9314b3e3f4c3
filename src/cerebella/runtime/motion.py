"""Every command within the embodiment's limits of range, velocity, acceleration and jerk, at the rate of the commands.

A `MotionLimiter` follows a reference. Where the reference keeps the limits the command is the reference, bit for bit;
where it does not, the command stays as near as the limits allow and comes back without a jump and without overshoot. It
can always stop: every state that it enters has a stop that keeps the limits and the range.

How the numbers of an embodiment are limited:

- positions, joints, velocities: each by itself, as first, second and third difference of what is sent;
- the three numbers of a pose's rotation: the rotation from one command to the next, as a vector in the gripper's own
  axes (rad), by the limits of the three numbers; a range of single axis-angle numbers has no meaning on its own;
- grippers: range and velocity only. Their drives make the motion; a target in between means nothing to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cerebella.embodiment import Embodiment
from cerebella.runtime import jerk_limit, turns
from cerebella.runtime.jerk_limit import Limits
from cerebella.types import FloatArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class MotionState:
    """Where the commands are and how they move, per control tick: float64[action_dim] each.

    Args:
        position, velocity, acceleration: of the last command.
        pace: how much the reference said it would move in the next tick; without a reference the own velocity.
    """

    position: Vector
    velocity: Vector
    acceleration: Vector
    pace: Vector


class MotionLimiter:
    """The commands of one robot; starts where `reset` says.

    Args:
        embodiment: limits in unit/s, unit/s^2, unit/s^3.
        control_hz: commands per second.

    Attributes:
        low, high: the range, float32[action_dim].
        state: set it to go back to an earlier one (a forecast).
        is_on_reference: the last command was the reference itself.
    """

    def __init__(self, embodiment: Embodiment, control_hz: float) -> None:
        self.embodiment = embodiment
        self.is_on_reference = True
        period_s = 1.0 / control_hz
        self._limits = [
            Limits(
                low=float(np.float32(action.low)),
                high=float(np.float32(action.high)),
                velocity=action.max_velocity * period_s,
                acceleration=action.max_acceleration * period_s**2,
                jerk=action.max_jerk * period_s**3,
            )
            for action in embodiment.actions
        ]
        self._slowed = 1.0, self._limits
        index = embodiment.action_index
        self.rotations = tuple(tuple(index(name) for name in pose.rotation) for pose in embodiment.poses)
        in_rotation = {j for triple in self.rotations for j in triple}
        self.grippers = tuple(j for j, action in enumerate(embodiment.actions) if action.kind == "gripper")
        self._scalars = [j for j in range(embodiment.action_dim) if j not in in_rotation and j not in self.grippers]
        self.low = np.asarray([action.low for action in embodiment.actions], dtype=np.float32)
        self.high = np.asarray([action.high for action in embodiment.actions], dtype=np.float32)
        self._zeros = frozenset(j for j in self._scalars if embodiment.actions[j].hold == "zero")
        self.state = self._at_rest(np.zeros(embodiment.action_dim))

    def reset(self, values: ArrayLike) -> None:
        """At rest at `values`, float[action_dim], brought into the range."""
        self.state = self._at_rest(values)
        self.is_on_reference = True

    @property
    def is_at_rest(self) -> bool:
        """Nothing moves, and nothing has to be let go of: the next `stop` repeats the last command."""
        moves = self.state.velocity.any() or self.state.acceleration.any()
        return not (moves or any(self.state.position[j] != self._zero(j) for j in self._zeros))

    @property
    def stands_still(self) -> bool:
        """The last command repeated the one before."""
        return not self.state.velocity.any()

    def follow(
        self, reference: ArrayLike, following: ArrayLike, *, is_committed: bool = False, speed: float = 1.0
    ) -> FloatArray:
        """The next command towards `reference`.

        Args:
            reference: float[action_dim], where the command should be; brought into the range first.
            following: where it should be one control tick later; the same for a reference that stands still.
            is_committed: the reference is a promise that was made by this limiter: follow it exactly if one tick can.
            speed: share of the velocity limits to use, above 0, up to 1 (a cautious start).

        Returns:
            float32[action_dim], raw units.
        """
        target, after = self._in_range(reference), self._in_range(following)
        position, velocity, acceleration, pace = self._lists()
        all_limits = self._at_speed(speed)
        is_exact = True
        for j in self._scalars:
            gap, drift = target[j] - position[j], after[j] - target[j]
            now = position[j], velocity[j], acceleration[j]
            position[j], velocity[j], acceleration[j], lands = _follow_in_range(
                all_limits[j], *now, gap, pace[j], drift, is_committed
            )
            if lands:
                position[j] = target[j]
            is_exact &= lands
            pace[j] = drift
        for triple in self.rotations:
            start = [position[j] for j in triple]
            wanted = turns.nearest([target[j] for j in triple], start)
            gaps, drifts = turns.between(start, wanted), turns.between(wanted, [after[j] for j in triple])
            lands = True
            for j, gap, drift in zip(triple, gaps, drifts, strict=True):
                velocity[j], acceleration[j], is_there = jerk_limit.follow(
                    all_limits[j], velocity[j], acceleration[j], gap, pace[j], drift, is_committed
                )
                lands &= is_there
                pace[j] = drift
            reached = wanted if lands else turns.turned(start, [velocity[j] for j in triple])
            for j, value in zip(triple, reached, strict=True):
                position[j] = value
            is_exact &= lands
        for j in self.grippers:
            step = self._limits[j].velocity
            position[j] = min(max(target[j], position[j] - step), position[j] + step)
            is_exact &= position[j] == target[j]
        self.is_on_reference = is_exact
        return self._enter(position, velocity, acceleration, pace)

    def stop(self) -> FloatArray:
        """The next command on the way to rest; the last one again when at rest. float32[action_dim], raw units.

        Rest is a target that stands still, or 0 where the embodiment holds by `zero` (a velocity).
        """
        position, velocity, acceleration, _ = self._lists()
        for j in self._scalars:
            limits = self._limits[j]
            if j in self._zeros:
                zero = self._zero(j)
                position[j], velocity[j], acceleration[j], lands = _follow_in_range(
                    limits, position[j], velocity[j], acceleration[j], zero - position[j], 0.0, 0.0, False
                )
                position[j] = zero if lands else position[j]
            else:
                velocity[j], acceleration[j] = jerk_limit.stop(limits, velocity[j], acceleration[j])
                position[j] = min(max(position[j] + velocity[j], limits.low), limits.high)
        for triple in self.rotations:
            for j in triple:
                velocity[j], acceleration[j] = jerk_limit.stop(self._limits[j], velocity[j], acceleration[j])
            step = [velocity[j] for j in triple]
            if any(step):
                for j, value in zip(triple, turns.turned([position[j] for j in triple], step), strict=True):
                    position[j] = value
        self.is_on_reference = False
        return self._enter(position, velocity, acceleration, velocity)

    @property
    def position_without_targets(self) -> Vector:
        """The last command with 0 for every absolute target: what a chunk of zeros would mean. float64[action_dim]."""
        holds = np.asarray([action.hold == "last" for action in self.embodiment.actions])
        return np.where(holds, 0.0, self.state.position)

    def lag_s(self, state: FloatArray) -> float:
        """How far a robot in `state` (float32[state_dim]) is behind its command, in seconds at full velocity.

        Numbers that are not measured, velocities and grippers (which may hold something) do not count.
        """
        gap = self._gap(self.state.position, self.embodiment.reference_of(state))
        counts = [j for j, action in enumerate(self.embodiment.actions) if action.reference and action.hold == "last"]
        behind = [abs(gap[j]) / self.embodiment.actions[j].max_velocity for j in counts if j not in self.grippers]
        return max(behind, default=0.0)

    def distance(self, values: ArrayLike) -> float:
        """How far the command is from `values`, in control ticks at full velocity (the slowest number counts)."""
        return self.gap(self.state.position, values)

    def gap(self, values: ArrayLike, others: ArrayLike) -> float:
        """The same between two commands."""
        gap = self._gap(values, others)
        return max(abs(value) / limits.velocity for value, limits in zip(gap, self._limits, strict=True))

    def _gap(self, start: ArrayLike, end: ArrayLike) -> list[float]:
        first, last = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
        gap = (last - first).tolist()
        for triple in self.rotations:
            rows = list(triple)
            for j, value in zip(triple, turns.between(first[rows].tolist(), last[rows].tolist()), strict=True):
                gap[j] = value
        return gap

    def _at_speed(self, speed: float) -> Sequence[Limits]:
        if self._slowed[0] != speed:
            slowed = [replace(limits, velocity=speed * limits.velocity) for limits in self._limits]
            self._slowed = speed, slowed if speed != 1.0 else self._limits
        return self._slowed[1]

    def _zero(self, j: int) -> float:
        return min(max(0.0, self._limits[j].low), self._limits[j].high)

    def _in_range(self, values: ArrayLike) -> list[float]:
        wanted = np.asarray(values, dtype=np.float64).tolist()
        for j in (*self._scalars, *self.grippers):
            wanted[j] = min(max(wanted[j], self._limits[j].low), self._limits[j].high)
        return wanted

    def _at_rest(self, values: ArrayLike) -> MotionState:
        nothing = np.zeros(self.embodiment.action_dim)
        return MotionState(np.asarray(self._in_range(values)), nothing, nothing, nothing)

    def _lists(self) -> tuple[list[float], list[float], list[float], list[float]]:
        state = self.state
        return state.position.tolist(), state.velocity.tolist(), state.acceleration.tolist(), state.pace.tolist()

    def _enter(
        self, position: list[float], velocity: list[float], acceleration: list[float], pace: list[float]
    ) -> FloatArray:
        self.state = MotionState(np.array(position), np.array(velocity), np.array(acceleration), np.array(pace))
        return self.state.position.astype(np.float32)


def _follow_in_range(
    limits: Limits,
    position: float,
    velocity: float,
    acceleration: float,
    gap: float,
    before: float,
    drift: float,
    is_committed: bool,
) -> tuple[float, float, float, bool]:
    """`jerk_limit.follow`, or a stop where it would lead out of the range: position, velocity, acceleration, lands."""
    v, a, lands = jerk_limit.follow(limits, velocity, acceleration, gap, before, drift, is_committed)
    if not jerk_limit.stops_within(limits, position + v, v, a):
        v, a = jerk_limit.stop(limits, velocity, acceleration)
        lands = False
    return min(max(position + v, limits.low), limits.high), v, a, lands
