"""`TouchRefinement`: the refinement as an `ActionFilter` of the executor. The policy grasps, touch does the rest.

    executor = Executor(..., action_filter=TouchRefinement(...))

After a grasp it claims the robot with `Takeover`s; the executor drops its plan, keeps every limit of motion, and starts
anew from the measured pose when the robot is handed back. See `takeover_run` for what happens in between.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor as Worker
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cerebella.embodiment import Embodiment, Pose
from cerebella.geometry import Array
from cerebella.interfaces import Takeover
from cerebella.touch.effector import Effector
from cerebella.touch.goal import Goal
from cerebella.touch.grasp import CONTACT_N, FINGERS, JOINTS
from cerebella.touch.reading import CountArray, missing_fingers, observed_forces
from cerebella.touch.refinement import Refinement
from cerebella.touch.refinement_steps import Predictor, RefinementSteps, RefinerConfig
from cerebella.touch.sensor import nominal_sensor
from cerebella.touch.takeover_run import TakeoverConfig, TakeoverRun
from cerebella.types import Action, FloatArray, Observation

On = Literal["contact", "arm"]


@dataclass(frozen=True)
class Trigger:
    """When touch takes over.

    Args:
        on: `contact`: the policy has told the gripper to close for `num_closed` control ticks, and the thumb and enough
            fingers carry `grasp.CONTACT_N`; once per grasp. `arm`: only after `TouchRefinement.arm()`.
        closed_opening: a command at or below it closes, 0 closed .. 1 open.

    Raises:
        ValueError: an unknown kind, or a number out of range.
    """

    on: On
    closed_opening: float = 0.3
    num_closed: int = 15

    def __post_init__(self) -> None:
        if self.on not in get_args(On):
            raise ValueError(f"unknown trigger {self.on!r}; known: {', '.join(get_args(On))}")
        if not 0 <= self.closed_opening < 1:
            raise ValueError(f"closed_opening must be in 0..1 (0 is closed), below 1; got {self.closed_opening}")
        if self.num_closed < 1:
            raise ValueError(f"num_closed must be 1 control tick or more; got {self.num_closed}")


class TouchRefinement:
    """Takes the wrist over after a grasp, refines it, and hands back. One per episode; called from the control thread.

    Args:
        embodiment: the robot's; see `Effector` for what it must have.
        T_effector_wrist: float64[4, 4] metres, the wrist frame of `grasp` in the frame of the commanded pose.
        predictor: at 100 Hz or more if it runs without a worker.
        goal: what the hand should feel.
        config: how it moves. trigger: when. refiner: bounds and budgets; None is `RefinerConfig()`.
        to_counts: float32[5, 11, 9] newtons to counts; None is the nominal sensor, the inverse of what made newtons of
            the counts of a real one.
        pose, gripper, joint_names: which, where the embodiment has several; see `Effector`.
        worker: a `concurrent.futures` executor with one thread for the predictions, shut down by whoever made it: the
            control thread never waits. An error of the predictor hands the robot back. None predicts in the control
            tick: one that takes longer than the tick hands back, an error ends the run.
        now_s: measures the latter, seconds.

    Attributes:
        goal: may be replaced between two grasps.
        refinements: the records of all take-overs, in order.

    Raises:
        ValueError: the embodiment does not fit, or `max_ticks` are too few for one step.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        T_effector_wrist: Array,
        predictor: Predictor,
        goal: Goal,
        config: TakeoverConfig,
        trigger: Trigger,
        refiner: RefinerConfig | None = None,
        *,
        to_counts: Callable[[FloatArray], CountArray] | None = None,
        pose: Pose | None = None,
        gripper: str | None = None,
        joint_names: Sequence[str] = JOINTS,
        worker: Worker | None = None,
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.goal = goal
        self.refinements: list[Refinement] = []
        self._effector = Effector(embodiment, T_effector_wrist, pose, gripper, joint_names)
        self._predictor, self._config, self._trigger = predictor, config, trigger
        self._refiner = refiner or RefinerConfig()
        config.check(self._refiner, self._effector)
        self._to_counts = to_counts or _nominal_counts
        self._worker, self._now_s = worker, now_s
        self._run: TakeoverRun | None = None
        self._is_armed = self._is_spent = self._has_felt = False
        self._num_closed = 0

    @property
    def is_active(self) -> bool:
        """Touch has the robot now."""
        return self._run is not None

    def arm(self) -> None:
        """Take over at the next command, whatever is felt; the hand closes if it is open. Without contact it is refused."""
        self._is_armed = True

    def filter(self, observation: Observation, action: Action) -> Action | Takeover:
        """The action itself, or a claim on the robot.

        Raises:
            ValueError: the first observation has not the taxels of all fingers. Later a missing finger is no contact.
        """
        if not self._has_felt:
            observed_forces(observation)
            self._has_felt = True
        if self._run is None:
            if not self._is_due(observation, action):
                return action
            self._run = self._begin(action)
        values = self._run.tick(observation)
        if values is None:
            self.refinements.append(self._run.refinement())
            self._run = None
            return action
        return Takeover(Action(values, action.tick), self._run.num_ticks_left, "touch refines the grasp")

    def _is_due(self, observation: Observation, action: Action) -> bool:
        is_closed = self._effector.commanded_opening(action.values) <= self._trigger.closed_opening
        self._num_closed = self._num_closed + 1 if is_closed else 0
        self._is_spent &= is_closed
        is_held = (
            self._trigger.on == "contact"
            and not self._is_spent
            and self._num_closed >= self._trigger.num_closed
            and self._feels_grasp(observation)
        )
        return self._is_armed or is_held

    def _feels_grasp(self, observation: Observation) -> bool:
        if missing_fingers(observation):
            return False
        touches = observed_forces(observation).sum(axis=(1, 2)) >= CONTACT_N
        thumb = FINGERS.index("thumb")
        return bool(touches[thumb]) and int(touches.sum()) - 1 >= self._refiner.limits.min_opposing

    def _begin(self, action: Action) -> TakeoverRun:
        self._is_armed, self._is_spent = False, True
        opening = self._effector.commanded_opening(action.values)
        return TakeoverRun(
            self._effector,
            RefinementSteps(self._predictor, self.goal, self._refiner),
            self._config,
            self._refiner,
            self._to_counts,
            base=action.values,
            closed_opening=opening if opening <= self._trigger.closed_opening else 0.0,
            worker=self._worker,
            now_s=self._now_s,
        )


def _nominal_counts(forces: FloatArray) -> CountArray:
    return nominal_sensor().counts(forces, np.random.default_rng(0))
