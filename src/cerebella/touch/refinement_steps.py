"""What to do next, given a reading of the closed hand: the one piece of logic behind `refiner.refine` and `takeover`.

No hand, no clock, no thread: `take` is called once per closed hand and answers with a wrist pose or with the end.

    reading -> is it to be trusted? -> predict D -> small enough? -> budget left? -> growing? -> W' = W (damped, bounded D)

The predicted increment stands in for the error, which nobody knows. It should shrink from step to step. Where it grows,
this and all later steps are damped; where it keeps growing, the wrist goes back to the pose with the smallest one.

Two bounds hold whatever is predicted: every step is shortened as a whole to `max_step_m` and `max_step_rad`, and the pose
is brought into a ball about the first one, `max_way_m` and `max_way_rad`. They are about the poses that the wrist reports;
what the wrist itself errs by comes on top.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, get_args

import numpy as np

from cerebella.geometry import Array, compose, inverse, so3_exp, so3_log, transform
from cerebella.touch.confidence import (
    MAX_DEAD_FINGERS,
    ConfidenceLimits,
    assess,
    distance_of,
    distance_problem,
)
from cerebella.touch.goal import Goal
from cerebella.touch.grasp import FINGERS
from cerebella.touch.reading import CountArray, Reading
from cerebella.touch.refinement import Error, Outcome, Refinement, Step, size_of
from cerebella.types import FloatArray

OnDeadFinger = Literal["refuse", "mask"]
_SLACK_M, _SLACK_RAD = 1e-3, math.radians(1.0)
_MAX_ENTRY = 1.001
"""No entry of a rotation is larger, nor any increment of a wrist in metres."""


class Predictor(Protocol):
    """The network, as the loop sees it. Plain arrays, so that the two need not know each other.

    A `policy_id`, if it has one, is written into the record.
    """

    @property
    def calibration(self) -> Mapping[str, float]:
        """Numbers that travel with the weights: see `confidence.DISTANCE_LIMIT` and `confidence.MAX_DEAD_FINGERS`."""
        ...

    def predict(
        self, counts: CountArray, joints: FloatArray, goal_counts: CountArray, goal_joints: FloatArray
    ) -> Array:
        """The increment D, float64[4, 4] metres, in the wrist's frame: `W' = W D`.

        Args:
            counts, goal_counts: uint8[5, 11, 9]. joints, goal_joints: float32[11] radians.
        """
        ...

    def embedding(self, counts: CountArray, joints: FloatArray) -> FloatArray:
        """Where one grasp lies, seen from the middle of the training: float32[k], its norm is the distance."""
        ...


@dataclass(frozen=True)
class RefinerConfig:
    """How a refinement runs.

    Args:
        max_steps: wrist moves; 5 as in the second version of the paper, 10 in the first.
        stop_m, stop_rad: an increment below both ends the refinement.
        damping: factor on this and all later steps when the increment has grown, above 0, up to 1.
        max_growths: so many growths in a row end the refinement.
        max_step_m, max_step_rad: bound of one move. max_way_m, max_way_rad: of the way from the first pose.
        on_dead_finger: `refuse`, or `mask`: its taxels are blanked now and in the goal, if the predictor was trained for
            so many dead fingers; refused otherwise.
        limits: of confidence.

    Raises:
        ValueError: a number out of range.
    """

    max_steps: int = 5
    stop_m: float = 0.5e-3
    stop_rad: float = math.radians(0.5)
    damping: float = 0.7
    max_growths: int = 2
    max_step_m: float = 12e-3
    max_step_rad: float = math.radians(15.0)
    max_way_m: float = 20e-3
    max_way_rad: float = math.radians(35.0)
    on_dead_finger: OnDeadFinger = "refuse"
    limits: ConfidenceLimits = field(default_factory=ConfidenceLimits)

    def __post_init__(self) -> None:
        for name in ("max_steps", "max_growths"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)}")
        if not 0 < self.damping <= 1:
            raise ValueError(f"damping must be above 0 and at most 1 (a factor); got {self.damping}")
        for name in ("stop_m", "max_step_m", "max_way_m"):
            if not 0 < getattr(self, name) <= 0.1:
                raise ValueError(f"{name} must be above 0 and at most 0.1 m; got {getattr(self, name)}")
        for name in ("stop_rad", "max_step_rad", "max_way_rad"):
            if not 0 < getattr(self, name) <= math.pi / 4:
                raise ValueError(f"{name} must be above 0 and at most pi/4 rad; got {getattr(self, name)}")
        if self.on_dead_finger not in get_args(OnDeadFinger):
            raise ValueError(f"on_dead_finger is {self.on_dead_finger!r}; known: {', '.join(get_args(OnDeadFinger))}")


@dataclass(frozen=True, eq=False)
class Move:
    """Open the hand, bring the wrist to `T_world_wrist`, close, and read again."""

    T_world_wrist: Array


@dataclass(frozen=True, eq=False)
class End:
    """It is over. `T_world_wrist_back`: open, go there, and close once more; None leaves the hand closed where it is."""

    outcome: Outcome
    reason: str
    T_world_wrist_back: Array | None = None


class RefinementSteps:
    """One refinement, step by step. Make a new one for the next.

    Args:
        predictor: the network.
        goal: what the hand should feel.
        config: budgets, bounds, limits.

    Attributes:
        steps: what was done so far.
    """

    def __init__(self, predictor: Predictor, goal: Goal, config: RefinerConfig) -> None:
        self.steps: list[Step] = []
        self._predictor, self._goal, self._config = predictor, goal, config
        self._damping = 1.0
        self._num_growths = 0
        self._sizes: list[float] = []

    def take(self, reading: Reading, T_world_wrist: Array, true_error: Error | None = None) -> Move | End:
        """The next thing to do, and a new entry of `steps`.

        Args:
            reading: of the closed hand, at rest.
            T_world_wrist: float64[4, 4] metres, where the wrist is now, as it reports.
            true_error: for the record, from a simulator.

        Raises:
            ValueError: no rigid transform, or a predictor without calibration.
        """
        inverse(T_world_wrist)  # raises unless it is rigid
        num_dead_allowed = 0
        if self._config.on_dead_finger == "mask":
            num_dead_allowed = int(self._predictor.calibration.get(MAX_DEAD_FINGERS, 0))
        goal, limits = self._goal.reading, self._config.limits
        confidence = assess(reading, limits, num_dead_allowed)
        step = Step(reading, T_world_wrist, confidence, None, self._damping, None, true_error)
        self.steps.append(step)
        if confidence.problem:
            back = self._best_pose() if confidence.problem == "contact" else None
            return End("refused", confidence.reason, back)
        now, goal = _masked(reading, confidence.dead_fingers), _masked(goal, confidence.dead_fingers)
        distance = distance_of(self._predictor.embedding(now.counts, now.joints), self._predictor.calibration)
        confidence = replace(confidence, distance=distance)
        if problem := distance_problem(distance, limits):
            confidence = replace(confidence, problem="distribution", reason=problem)
            self.steps[-1] = replace(step, confidence=confidence)
            return End("refused", problem)
        increment = self._predictor.predict(now.counts, now.joints, goal.counts, goal.joints)
        if objection := _objection(increment):
            self.steps[-1] = replace(step, confidence=confidence)
            return End("refused", f"the prediction is no wrist increment: {objection}")
        decision = self._decide(increment, T_world_wrist)
        following = decision.T_world_wrist if isinstance(decision, Move) else None
        self.steps[-1] = replace(
            step,
            confidence=confidence,
            increment=increment,
            damping=self._damping,
            T_world_wrist_next=following,
        )
        return decision

    def cancel_move(self) -> None:
        """The last `Move` is not made after all."""
        self.steps[-1] = replace(self.steps[-1], T_world_wrist_next=None)

    def refinement(self, end: End, T_world_wrist_end: Array, true_error_end: Error | None = None) -> Refinement:
        """The record, once the hand is closed at its end."""
        return Refinement(
            tuple(self.steps),
            end.outcome,
            end.reason,
            end.T_world_wrist_back is not None,
            T_world_wrist_end,
            true_error_end,
            self._goal.object_name,
            getattr(self._predictor, "policy_id", ""),
        )

    def _decide(self, increment: Array, T_world_wrist: Array) -> Move | End:
        config = self._config
        distance, angle = size_of(increment)
        words = f"{1e3 * distance:.2f} mm and {math.degrees(angle):.2f} deg"
        size = math.hypot(distance / config.stop_m, angle / config.stop_rad)
        has_grown = bool(self._sizes) and size > self._sizes[-1]
        self._num_growths = self._num_growths + 1 if has_grown else 0
        self._damping *= config.damping if has_grown else 1.0
        self._sizes.append(size)
        if distance < config.stop_m and angle < config.stop_rad:
            return End("converged", f"the predicted increment is {words}")
        if self._num_growths >= config.max_growths:
            reason = f"the predicted increment grew {self._num_growths} times in a row, to {words}"
            return End("stopped_growing", reason, self._best_pose())
        if len(self._sizes) > config.max_steps:
            back = self._best_pose() if has_grown else None
            return End("budget", f"{config.max_steps} steps are used up; the predicted increment is {words}", back)
        return self._bounded(increment, T_world_wrist, words)

    def _bounded(self, increment: Array, T_world_wrist: Array, words: str) -> Move | End:
        config = self._config
        T_start_world = inverse(self.steps[0].T_world_wrist)
        gone_m, gone_rad = size_of(compose(T_start_world, T_world_wrist))
        if gone_m > config.max_way_m + _SLACK_M or gone_rad > config.max_way_rad + _SLACK_RAD:
            return End(
                "refused",
                f"the wrist is {1e3 * gone_m:.1f} mm and {math.degrees(gone_rad):.1f} deg from where it started, beyond "
                f"the bound of {1e3 * config.max_way_m:g} mm and {math.degrees(config.max_way_rad):g} deg: something else "
                "has moved it",
            )
        step = _shortened(increment, self._damping, config.max_step_m, config.max_step_rad)
        T_start_next = _into_ball(compose(T_start_world, compose(T_world_wrist, step)), config)
        T_world_wrist_next = compose(self.steps[0].T_world_wrist, T_start_next)
        left_m, left_rad = size_of(compose(inverse(T_world_wrist), T_world_wrist_next))
        wanted_m, wanted_rad = size_of(step)
        is_held_back = left_m < 0.1 * wanted_m or left_rad < 0.1 * wanted_rad
        if is_held_back and left_m < config.stop_m and left_rad < config.stop_rad:
            return End(
                "refused",
                f"the goal lies beyond the bound: the predicted increment is {words}, but the wrist is at the edge of "
                f"{1e3 * config.max_way_m:g} mm and {math.degrees(config.max_way_rad):g} deg from where it started",
            )
        return Move(T_world_wrist_next)

    def _best_pose(self) -> Array | None:
        """Where the increment was smallest; None if the wrist is there, or nothing was predicted yet."""
        if not self._sizes:
            return None
        best = int(np.argmin(self._sizes))
        return None if best == len(self.steps) - 1 else self.steps[best].T_world_wrist


def _masked(reading: Reading, dead_fingers: tuple[str, ...]) -> Reading:
    if not dead_fingers:
        return reading
    counts = reading.counts.copy()
    counts[[FINGERS.index(finger) for finger in dead_fingers]] = 0
    return replace(reading, counts=counts)


def _objection(increment: object) -> str:
    """Why this is no increment; empty if it is one."""
    if not isinstance(increment, np.ndarray) or increment.shape != (4, 4) or increment.dtype.kind != "f":
        shape = f"{increment.dtype}{list(increment.shape)}" if isinstance(increment, np.ndarray) else type(increment)
        return f"it must be float64[4, 4]; got {shape}"
    if not np.isfinite(increment).all():
        return "it is not finite"
    if np.abs(increment).max() > _MAX_ENTRY:
        return f"it holds {increment.ravel()[np.abs(increment).argmax()]:.3g}; a wrist does not move by metres"
    try:
        inverse(increment)
    except ValueError as error:
        return str(error)
    return ""


def _shortened(increment: Array, damping: float, max_m: float, max_rad: float) -> Array:
    """The same motion, damped, and as a whole no longer than the bounds."""
    turn = so3_log(increment[:3, :3])
    distance, angle = size_of(increment)
    factor = min(damping, max_m / max(distance, 1e-12), max_rad / max(angle, 1e-12))
    return transform(so3_exp(factor * turn), factor * increment[:3, 3])


def _into_ball(T_start_wrist: Array, config: RefinerConfig) -> Array:
    """The nearest pose within the way that is allowed; position and rotation apart."""
    turn = so3_log(T_start_wrist[:3, :3])
    distance, angle = size_of(T_start_wrist)
    position = T_start_wrist[:3, 3] * min(1.0, config.max_way_m / max(distance, 1e-12))
    return transform(so3_exp(turn * min(1.0, config.max_way_rad / max(angle, 1e-12))), position)
