"""Every command within the embodiment's limits of range, velocity, acceleration and jerk, at the rate of the commands.

A `MotionLimiter` follows a reference. Where the reference keeps the limits the command is the reference, bit for bit;
where it does not, the command stays as near as the limits allow and comes back without a jump. It can always stop: every
state that it enters has a stop that keeps the limits and the range.

How the numbers of an embodiment are limited:

- positions, joints, velocities: each by itself, as first, second and third difference of what is sent;
- the three numbers of a pose's rotation: the rotation from one command to the next, as a vector in the gripper's own
  axes (rad), by the limits of the three numbers; a range of single axis-angle numbers has no meaning on its own;
- grippers: range and velocity only. Their drives make the motion; a target in between means nothing to them.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cerebella.embodiment import Embodiment
from cerebella.geometry import nearest_axis_angle, so3_exp, so3_log
from cerebella.runtime import jerk_limit
from cerebella.runtime.jerk_limit import Limits
from cerebella.types import FloatArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class MotionState:
    """Where the commands are and how they move, per control tick: float64[action_dim] each."""

    position: Vector
    velocity: Vector
    acceleration: Vector


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
        self.state = self._at_rest(np.asarray(values, dtype=np.float64))
        self.is_on_reference = True

    @property
    def is_at_rest(self) -> bool:
        """Nothing moves, and nothing has to be let go of: the next `stop` repeats the last command."""
        moves = self.state.velocity.any() or self.state.acceleration.any()
        return not (moves or any(self.state.position[j] for j in self._zeros))

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
            speed: 0..1, share of the velocity limits to use (a cautious start).

        Returns:
            float32[action_dim], raw units.
        """
        target = self._in_range(np.asarray(reference, dtype=np.float64))
        after = self._in_range(np.asarray(following, dtype=np.float64))
        position, velocity, acceleration = self._copies()
        is_exact = True
        for j in self._scalars:
            limits = self._scaled(j, speed)
            at = position[j]
            v, a, lands = jerk_limit.follow(
                limits, velocity[j], acceleration[j], target[j] - at, after[j] - target[j], is_committed
            )
            if not jerk_limit.stops_within(limits, target[j] if lands else at + v, v, a):
                v, a = jerk_limit.stop(limits, velocity[j], acceleration[j])
                lands = False
            position[j], velocity[j], acceleration[j] = (target[j] if lands else at + v), v, a
            is_exact &= lands
        for triple in self.rotations:
            is_exact &= self._turn(triple, target, after, position, velocity, acceleration, is_committed, speed)
        for j in self.grippers:
            step = self._limits[j].velocity
            wanted = target[j]
            position[j] = min(max(wanted, position[j] - step), position[j] + step)
            is_exact &= position[j] == wanted
        self.is_on_reference = is_exact
        return self._enter(position, velocity, acceleration)

    def stop(self) -> FloatArray:
        """The next command on the way to rest; the last one again when at rest. float32[action_dim], raw units.

        Rest is a target that stands still, or 0 where the embodiment holds by `zero` (a velocity).
        """
        position, velocity, acceleration = self._copies()
        for j in self._scalars:
            if j in self._zeros:
                v, a, lands = jerk_limit.follow(
                    self._limits[j], velocity[j], acceleration[j], -position[j], 0.0, is_committed=False
                )
                position[j], velocity[j], acceleration[j] = (0.0 if lands else position[j] + v), v, a
                continue
            v, a = jerk_limit.stop(self._limits[j], velocity[j], acceleration[j])
            position[j], velocity[j], acceleration[j] = position[j] + v, v, a
        for triple in self.rotations:
            start = position[list(triple)]
            for j in triple:
                velocity[j], acceleration[j] = jerk_limit.stop(self._limits[j], velocity[j], acceleration[j])
            step = velocity[list(triple)]
            if step.any():
                turned = so3_log(so3_exp(start) @ so3_exp(step))
                position[list(triple)] = nearest_axis_angle(turned, start)
        self.is_on_reference = False
        return self._enter(position, velocity, acceleration)

    def lag_s(self, state: FloatArray) -> float:
        """How far a robot in `state` (float32[state_dim]) is behind its command, in seconds at full velocity.

        Numbers that are not measured, velocities and grippers (which may hold something) do not count.
        """
        measured = self.embodiment.reference_of(state).astype(np.float64)
        gap = self._gap(self.state.position, measured)
        counts = [j for j, action in enumerate(self.embodiment.actions) if action.reference and action.hold == "last"]
        behind = [abs(gap[j]) / self.embodiment.actions[j].max_velocity for j in counts if j not in self.grippers]
        return float(max(behind, default=0.0))

    def distance(self, values: ArrayLike) -> float:
        """How far the command is from `values`, in control ticks at full velocity (the slowest number counts)."""
        return self.gap(self.state.position, values)

    def gap(self, values: ArrayLike, others: ArrayLike) -> float:
        """The same between two commands."""
        gap = self._gap(np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64))
        return float(max(abs(gap[j]) / self._limits[j].velocity for j in range(len(gap))))

    def _gap(self, start: Vector, end: Vector) -> Vector:
        gap = end - start
        for triple in self.rotations:
            rows = list(triple)
            gap[rows] = so3_log(so3_exp(start[rows]).T @ so3_exp(end[rows]))
        return gap

    def _turn(
        self,
        triple: tuple[int, ...],
        target: Vector,
        after: Vector,
        position: Vector,
        velocity: Vector,
        acceleration: Vector,
        is_committed: bool,
        speed: float,
    ) -> bool:
        """One rotation, in place: as three numbers in the axes of the gripper."""
        rows = list(triple)
        start, wanted, later = so3_exp(position[rows]), so3_exp(target[rows]), so3_exp(after[rows])
        gap, drift = so3_log(start.T @ wanted), so3_log(wanted.T @ later)
        moves = [
            jerk_limit.follow(self._scaled(j, speed), velocity[j], acceleration[j], gap[i], drift[i], is_committed)
            for i, j in enumerate(rows)
        ]
        velocity[rows] = [v for v, _, _ in moves]
        acceleration[rows] = [a for _, a, _ in moves]
        lands = all(exact for _, _, exact in moves)
        reached = target[rows] if lands else so3_log(start @ so3_exp(velocity[rows]))
        position[rows] = reached if lands else nearest_axis_angle(reached, position[rows])
        return lands

    def _scaled(self, j: int, speed: float) -> Limits:
        return self._limits[j] if speed == 1.0 else replace(self._limits[j], velocity=speed * self._limits[j].velocity)

    def _in_range(self, values: Vector) -> Vector:
        values = values.copy()
        for j in (*self._scalars, *self.grippers):
            values[j] = min(max(values[j], self._limits[j].low), self._limits[j].high)
        return values

    def _at_rest(self, values: Vector) -> MotionState:
        nothing = np.zeros(len(values))
        return MotionState(self._in_range(values), nothing, nothing.copy())

    def _copies(self) -> tuple[Vector, Vector, Vector]:
        return self.state.position.copy(), self.state.velocity.copy(), self.state.acceleration.copy()

    def _enter(self, position: Vector, velocity: Vector, acceleration: Vector) -> FloatArray:
        self.state = MotionState(position, velocity, acceleration)
        return position.astype(np.float32)
