"""Pairs of grasps: with n grasps of an object every ordered pair (current, goal) is an example, n (n - 1) of them.

The label is the wrist increment `D = T_c inv(T_g)` as twelve numbers, see `increments`. Both grasps of a pair come from one
shard unless told otherwise: a goal is shown to the hand that will refine, so what differs from hand to hand (skin, curvature,
where the arrays sit) is the same in both. For the same reason they share one random sensor, which has drifted in between.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cerebella.touch.grasp import NUM_JOINTS, wrist_increment
from cerebella.touch.grasp_shards import GraspSet
from cerebella.touch.increments import increment_numbers
from cerebella.touch.reading import CountArray
from cerebella.touch.sensor import SENSORS, SensorRanges
from cerebella.types import FloatArray

GoalKind = Literal["random", "fixed"]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """What a network learns from: n pairs.

    Args:
        counts, goal_counts: uint8[n, 5, 11, 9]. joints, goal_joints: float32[n, 11] radians.
        increments: float32[n, 12], not normalised.
        object_index: int64[n], an index into the objects of the set.
        rows, goal_rows: int64[n], which grasps of the set they are.
    """

    counts: CountArray
    joints: FloatArray
    goal_counts: CountArray
    goal_joints: FloatArray
    increments: FloatArray
    object_index: Rows
    rows: Rows
    goal_rows: Rows


@dataclass(frozen=True)
class PairSource:
    """Random pairs out of a set of grasps. Every object is drawn equally often.

    Args:
        grasps: two or more of every shard.
        goal: any other grasp, or always the nominal one: the first of a shard, or of an object.
        same_hand: both grasps of a pair from one shard, which is one hand; else from one object.
        sensor: a random sensor of these for every pair.
        joint_bias_rad: standard deviation of an error of every joint that is the same in both grasps of a pair.
        joint_noise_rad: standard deviation of one that is not.

    Raises:
        ValueError: a shard of one grasp, a negative spread, an unknown goal.
    """

    grasps: GraspSet
    goal: GoalKind = "random"
    same_hand: bool = True
    sensor: SensorRanges = field(default_factory=lambda: SENSORS["trained"])
    joint_bias_rad: float = math.radians(0.5)
    joint_noise_rad: float = math.radians(0.3)

    def __post_init__(self) -> None:
        if self.goal not in get_args(GoalKind):
            raise ValueError(f"unknown goal {self.goal!r} of pairs; known: {', '.join(get_args(GoalKind))}")
        if not (self.joint_bias_rad >= 0 and self.joint_noise_rad >= 0):
            raise ValueError("joint_bias_rad and joint_noise_rad must be 0 rad or more")
        if np.diff(self.grasps.starts).min() < 2:
            raise ValueError("pairs need 2 or more grasps in every shard")

    def draw_rows(self, num: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """(current, goal): int64[num] each, rows of the set. A random goal is never the current grasp itself."""
        object_index = rng.integers(0, len(self.grasps.objects), num)
        first, last = self._object_starts[object_index], self._object_starts[object_index + 1]
        current = rng.integers(first, last)
        group = np.searchsorted(self._group_starts, current, side="right") - 1
        if self.goal == "fixed":
            return current, self._group_starts[group]
        start, size = self._group_starts[group], np.diff(self._group_starts)[group]
        return current, start + (current - start + rng.integers(1, size)) % size

    def draw(self, num: int, rng: np.random.Generator) -> Pairs:
        """Random pairs as a random sensor feels them; the same generator state gives the same pairs."""
        current, goal = self.draw_rows(num, rng)
        sensor = self.sensor.draw(rng, num)
        forces = self.grasps.arrays.forces
        bias = self.joint_bias_rad * rng.standard_normal((num, NUM_JOINTS))
        joints, goal_joints = (
            (
                self.grasps.arrays.joints[rows] + bias + self.joint_noise_rad * rng.standard_normal((num, NUM_JOINTS))
            ).astype(np.float32)
            for rows in (current, goal)
        )
        return Pairs(
            counts=sensor.counts(forces[current], rng),
            joints=joints,
            goal_counts=self.sensor.drifted(sensor, rng).counts(forces[goal], rng),
            goal_joints=goal_joints,
            increments=self.increments(current, goal),
            object_index=np.searchsorted(self._object_starts, current, side="right") - 1,
            rows=current,
            goal_rows=goal,
        )

    def increments(self, current: Rows, goal: Rows) -> FloatArray:
        """The labels of pairs of rows: float32[n, 12]."""
        poses = self.grasps.arrays.T_wrist_object
        return increment_numbers(wrist_increment(poses[current].astype(np.float64), poses[goal].astype(np.float64)))

    @cached_property
    def _object_starts(self) -> Rows:
        """int64[num_objects + 1]: the rows of an object are neighbours."""
        edges = np.searchsorted(self.grasps.object_of_shard, np.arange(len(self.grasps.objects) + 1))
        return self.grasps.starts[edges]

    @cached_property
    def _group_starts(self) -> Rows:
        return self.grasps.starts if self.same_hand else self._object_starts
