"""One take-over of the wrist, control tick by control tick: what the arm and the gripper are told, and for how long.

    settle -> predict -> open -> move -> settle -> predict -> ... -> (open -> move -> settle)  -> hands back, closed

The decisions are those of `refinement_steps`; this turns them into absolute targets and waits for the robot. Every phase
has a longest time. A motion that does not succeed closes the hand where it is and hands back. A new step begins only if it can
be finished in the ticks that are left, so the hand is never handed back open.
"""

import math
from collections.abc import Callable
from concurrent.futures import Executor as Worker
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cerebella.geometry import Array, compose, inverse, so3_exp, so3_log, transform
from cerebella.touch.effector import Effector
from cerebella.touch.reading import CountArray, missing_fingers, observed_reading
from cerebella.touch.refinement import Refinement, size_of
from cerebella.touch.refinement_steps import End, Move, RefinementSteps, RefinerConfig
from cerebella.types import FloatArray, Observation

Phase = Literal["settle", "predict", "open", "move"]
_OPENING_TOLERANCE = 0.05
_MAX_GAP_S = 0.2


@dataclass(frozen=True)
class TakeoverConfig:
    """How a take-over moves. No default for what depends on the cell: how far the hand may open, how long it may take.

    Args:
        release_opening: how far the gripper opens to let go of the object, 0 closed .. 1 open.
        max_ticks: control ticks that a take-over may last, the way back included.
        speed_m_s, speed_rad_s: of the wrist's targets; the executor's limits hold besides.
        phase_s: longest time of one motion beyond its planned duration, or of one wait.
        settle_s: shortest wait after the planned end of a motion, longer than the robot's dead time.
        num_still: observations in a row without motion that count as rest.
        still_m, still_rad, still_opening: motion between two observations that counts as none, of the wrist, of the wrist
            and the hand's joints, of the gripper (0..1).
        reach_m, reach_rad: how near to its target the wrist must come to rest.

    Raises:
        ValueError: a number out of range.
    """

    release_opening: float
    max_ticks: int
    speed_m_s: float = 0.03
    speed_rad_s: float = 0.4
    phase_s: float = 1.5
    settle_s: float = 0.2
    num_still: int = 3
    still_m: float = 2e-4
    still_rad: float = 2e-3
    still_opening: float = 5e-3
    reach_m: float = 3e-3
    reach_rad: float = math.radians(3.0)

    def __post_init__(self) -> None:
        if not 0 < self.release_opening <= 1:
            raise ValueError(f"release_opening must be above 0, at most 1 (open); got {self.release_opening}")
        for name in ("max_ticks", "num_still"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)}")
        names = (
            "speed_m_s",
            "speed_rad_s",
            "phase_s",
            "settle_s",
            "still_m",
            "still_rad",
            "still_opening",
            "reach_m",
            "reach_rad",
        )
        for name in names:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number above 0; got {getattr(self, name)}")
        if self.settle_s >= self.phase_s:
            raise ValueError(f"settle_s {self.settle_s} must be below phase_s {self.phase_s} (seconds)")

    def longest_move_s(self, refiner: RefinerConfig) -> float:
        """Planned duration of the longest way inside the refiner's ball."""
        return max(2 * refiner.max_way_m / self.speed_m_s, 2 * refiner.max_way_rad / self.speed_rad_s)

    def longest_step_s(self, refiner: RefinerConfig, effector: Effector) -> float:
        """Open, move, settle, predict."""
        return self.phase_s + self.longest_way_back_s(refiner, effector)

    def longest_way_back_s(self, refiner: RefinerConfig, effector: Effector) -> float:
        """Open, move, settle."""
        gripper_s = 2 * effector.travel_s(0.0, self.release_opening)
        return 3 * self.phase_s + self.longest_move_s(refiner) + gripper_s

    def check(self, refiner: RefinerConfig, effector: Effector) -> None:
        """Raise a ValueError unless one step fits into `max_ticks`."""
        control_hz = effector.embodiment.control_hz
        first_s = 2 * self.phase_s + effector.travel_s(0.0, 1.0)  # the hand may be open when it is armed
        least_s = first_s + self.longest_step_s(refiner, effector)
        if self.max_ticks < least_s * control_hz:
            raise ValueError(
                f"max_ticks {self.max_ticks} at {control_hz:g} Hz is {self.max_ticks / control_hz:.1f} s; a single step "
                f"may take {least_s:.1f} s with phase_s {self.phase_s} s, so give {math.ceil(least_s * control_hz)} or more"
            )


class TakeoverRun:
    """One take-over.

    Args:
        effector: where wrist and gripper are in the vectors.
        steps: of this refinement.
        config, refiner: how it moves, and its bounds.
        to_counts: newtons to counts.
        base: float32[action_dim], the command when it begins: kept for whatever is not this arm, and where it waits.
        closed_opening: what closes the gripper, 0..1.
        worker: runs the predictions; None runs them in the control tick.
        now_s: a clock, to measure the latter.

    Attributes:
        num_ticks: control ticks so far.
    """

    def __init__(
        self,
        effector: Effector,
        steps: RefinementSteps,
        config: TakeoverConfig,
        refiner: RefinerConfig,
        to_counts: Callable[[FloatArray], CountArray],
        base: FloatArray,
        closed_opening: float,
        worker: Worker | None,
        now_s: Callable[[], float],
    ) -> None:
        self.num_ticks = 0
        self._effector, self._steps, self._config, self._refiner = effector, steps, config, refiner
        self._to_counts, self._worker, self._now_s = to_counts, worker, now_s
        self._hz = effector.embodiment.control_hz
        self._values = base.copy()
        self._closed_opening = self._opening = closed_opening
        self._T_target = self._T_from = self._T_goal = effector.commanded_pose(base)
        self._enter("settle", effector.travel_s(effector.commanded_opening(base), closed_opening))
        self._decision: Future[Move | End] | None = None
        self._end: End | None = None
        self._last: Observation | None = None
        self._T_measured = self._T_target
        self._way = np.eye(4)

    @property
    def num_ticks_left(self) -> int:
        """Control ticks that it still claims, this one included."""
        return self._config.max_ticks - self.num_ticks + 1

    def tick(self, observation: Observation) -> FloatArray | None:
        """The command of this control tick, float32[action_dim]; None when it hands back."""
        if self._is_interrupted(observation):
            self._end = End("refused", "interrupted: others had the robot meanwhile")
            return None
        self._watch(observation)
        self.num_ticks += 1
        self._num_phase_ticks += 1
        if self.num_ticks > self._config.max_ticks or self._is_over(observation):
            self._end = self._end or End("budget", f"the {self._config.max_ticks} ticks are used up")
            return None
        self._values = self._effector.command(self._values, self._T_target, self._opening)
        return self._values

    def refinement(self) -> Refinement:
        """The record, after `tick` has returned None."""
        assert self._end is not None
        return self._steps.refinement(self._end, self._T_measured)

    # Phases: each moves the targets, and says True when the take-over is over

    def _is_over(self, observation: Observation) -> bool:
        if self._phase == "settle":
            return self._settle(observation)
        if self._phase == "predict":
            return self._predict()
        if self._phase == "open":
            self._release(observation)
        else:
            self._move()
        return False

    def _settle(self, observation: Observation) -> bool:
        is_too_long = self._is_too_long
        if not (self._is_still and self._is_planned_over) and not is_too_long:
            return False
        if self._end is not None:
            return True
        if is_too_long:
            self._end = End("refused", f"wrist and fingers did not come to rest in {self._config.phase_s} s")
            return True
        if missing := missing_fingers(observation):
            self._end = End("refused", f"no taxels of {', '.join(missing)}")
            return True
        reading = observed_reading(observation, self._effector.joints(observation.state), self._to_counts)
        T_world_wrist = self._T_measured
        self._enter("predict")
        if self._worker is not None:
            self._decision = self._worker.submit(self._steps.take, reading, T_world_wrist)
            return False
        start_s = self._now_s()
        decision = self._steps.take(reading, T_world_wrist)
        taken_s = self._now_s() - start_s
        if taken_s > 1.0 / self._hz:
            self._end = End(
                "refused",
                f"the prediction took {1e3 * taken_s:.1f} ms of the control thread, a tick has {1e3 / self._hz:.1f} ms; "
                "give the take-over a worker",
            )
            self._steps.cancel_move()
            return True
        return self._follow(decision)

    def _predict(self) -> bool:
        assert self._decision is not None
        if not self._decision.done():
            if not self._is_too_long:
                return False
            self._decision.cancel()
            self._end = End("refused", f"no prediction in {self._config.phase_s} s")
            return True
        error = self._decision.exception()
        if error is not None:
            self._end = End("refused", f"the prediction failed: {type(error).__name__}: {error}")
            return True
        return self._follow(self._decision.result())

    def _follow(self, decision: Move | End) -> bool:
        left_s = (self._config.max_ticks - self.num_ticks) / self._hz
        if isinstance(decision, Move):
            if left_s < self._config.longest_step_s(self._refiner, self._effector):
                self._end = End("budget", f"{left_s:.1f} s are left, too little for another step")
                self._steps.cancel_move()
                return True
            self._begin(decision.T_world_wrist)
            return False
        self._end = decision
        if decision.T_world_wrist_back is None:
            return True
        if left_s < self._config.longest_way_back_s(self._refiner, self._effector):
            reason = f"{decision.reason}; {left_s:.1f} s are left, too little for the way back to the best pose"
            self._end = End(decision.outcome, reason)
            return True
        self._begin(decision.T_world_wrist_back)
        return False

    def _begin(self, T_world_wrist: Array) -> None:
        """The command moves by what the wrist should move: an arm that hangs low by the same everywhere gets there."""
        self._T_from, self._T_goal = self._T_target, T_world_wrist
        self._way = compose(inverse(self._T_measured), T_world_wrist)
        self._opening = self._config.release_opening
        self._enter("open", self._effector.travel_s(self._closed_opening, self._opening))

    def _release(self, observation: Observation) -> None:
        opening = self._effector.measured_opening(observation.state)
        if opening >= self._opening - _OPENING_TOLERANCE and self._is_planned_over:
            distance, angle = size_of(self._way)
            self._enter("move", max(distance / self._config.speed_m_s, angle / self._config.speed_rad_s))
        elif self._is_too_long:
            self._give_up(
                f"the gripper is open by {opening:.2f} {self._config.phase_s} s after it should be open by "
                f"{self._opening:.2f}"
            )

    def _move(self) -> None:
        config = self._config
        way = self._way
        share = min(1.0, self._seconds / max(self._planned_s, 1e-9))
        part = transform(so3_exp(share * so3_log(way[:3, :3])), share * way[:3, 3])
        self._T_target = compose(self._T_from, part)
        off_m, off_rad = size_of(compose(inverse(self._T_goal), self._T_measured))
        is_there = off_m <= config.reach_m and off_rad <= config.reach_rad
        if is_there and self._is_still and self._is_planned_over:
            self._close()
        elif self._is_too_long:
            self._give_up(
                f"the wrist is {1e3 * off_m:.1f} mm and {math.degrees(off_rad):.1f} deg from its target "
                f"{config.phase_s} s after it should be there"
            )

    def _give_up(self, reason: str) -> None:
        """Close where the wrist is; hand back when everything is at rest."""
        self._end = End("refused", reason)
        self._T_target = self._T_measured
        self._close()

    def _close(self) -> None:
        self._enter("settle", self._effector.travel_s(self._opening, self._closed_opening))
        self._opening = self._closed_opening

    # Watching

    def _enter(self, phase: Phase, planned_s: float = 0.0) -> None:
        """Begin a phase whose motion should be over in `planned_s`."""
        self._phase: Phase = phase
        self._planned_s = planned_s
        self._num_phase_ticks = self._num_still = 0

    @property
    def _seconds(self) -> float:
        """In this phase."""
        return self._num_phase_ticks / self._hz

    @property
    def _is_still(self) -> bool:
        return self._num_still >= self._config.num_still

    @property
    def _is_planned_over(self) -> bool:
        return self._seconds >= self._planned_s + self._config.settle_s

    @property
    def _is_too_long(self) -> bool:
        return self._seconds > self._planned_s + self._config.phase_s

    def _is_interrupted(self, observation: Observation) -> bool:
        if self._last is None:
            return False
        gap = observation.tick - self._last.tick
        return gap < 0 or gap > max(1.0, _MAX_GAP_S * self._effector.embodiment.policy_hz)

    def _watch(self, observation: Observation) -> None:
        """Compare with the last observation; several control ticks may share one."""
        last, self._last = self._last, observation
        if last is not None and last.tick == observation.tick:
            return
        before, self._T_measured = self._T_measured, self._effector.wrist_pose(observation.state)
        if last is None:
            return
        effector, config = self._effector, self._config
        moved_m, moved_rad = size_of(compose(inverse(before), self._T_measured))
        bent_rad = np.abs(effector.joints(observation.state) - effector.joints(last.state)).max()
        opened = abs(effector.measured_opening(observation.state) - effector.measured_opening(last.state))
        is_still = (
            moved_m <= config.still_m
            and max(moved_rad, bent_rad) <= config.still_rad
            and opened <= config.still_opening
        )
        self._num_still = self._num_still + 1 if is_still else 0
