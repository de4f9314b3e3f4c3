"""What a mode-switch scene is: its state, and how all of it is drawn from one seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.draws import Draws
from cerebella.envs.dynamic.planar import LENGTH_M, WIDTH_M
from cerebella.envs.dynamic.task import TaskState
from cerebella.types import BoolArray, FloatArray

NUM_GOALS = 2
JUMP_GOAL = (0, 1, 1)
"""On the way to which goal each of the scheduled jumps happens."""
NUM_JUMPS = len(JUMP_GOAL)
JUMP_SHARES = ((0.08, 0.42), (0.05, 0.12), (0.28, 0.42))
"""After which share of the straight line to that goal, lowest and highest."""
JUMP_AHEAD_M = (0.110, 0.170)
"""How far ahead of the gripper, along its way, the obstacle then is."""
JUMP_OFFSET_M = 0.008
"""How far off the way, at most, to either side."""
PERTURBATION_TICKS = (8, 22)
"""Later, there might be no room left before the first goal."""
PERTURBATION_AHEAD_M = (0.105, 0.135)
OBSTACLE_LOW_Y_M, OBSTACLE_HIGH_Y_M = 0.075, WIDTH_M - 0.075
"""The obstacle stays so far from the edges that the gripper can pass on both sides."""
NUM_PROMPTS = 8

_START_SHARE, _START_OFFSET_M = (0.4, 0.65), 0.02
_NUM_DRAWS = 2 + 2 * NUM_GOALS + 3 + 3 * NUM_JUMPS + 2 + 1 + 2


@dataclass(frozen=True, eq=False, kw_only=True)
class ModeSwitchState(TaskState):
    """N scenes at one tick each; G goals one after the other, K scheduled jumps of the obstacle.

    Args:
        velocity: float32[N, 2] m/s, of the gripper in the last tick.
        goals: float32[N, G, 2] metres. num_reached: int32[N], 0..G, goals that are behind it.
        obstacle: float32[N, 2] metres, zero while there is none. is_present: bool[N].
        jump_left_m: float32[N, K]: a jump happens as soon as its goal is so near. has_jumped: bool[N, K].
        jump_ahead_m, jump_offset_m: float32[N, K], where to: so far along the way, and so far beside it.
        perturbation_ahead_m: float32[N], the same for the perturbation.
        nearest_m: float32[N], the smallest distance between the centres of gripper and obstacle so far.
        light: float32[N], brightness around 1. floor_grey: float32[N], 0..255.
    """

    velocity: FloatArray
    goals: FloatArray
    num_reached: NDArray[np.int32]
    obstacle: FloatArray
    is_present: BoolArray
    jump_left_m: FloatArray
    has_jumped: BoolArray
    jump_ahead_m: FloatArray
    jump_offset_m: FloatArray
    perturbation_ahead_m: FloatArray
    nearest_m: FloatArray
    light: FloatArray
    floor_grey: FloatArray

    @property
    def goal_index(self) -> NDArray[np.int32]:
        """int32[N], which goal the gripper is to go to now; the last one after it was reached."""
        return np.minimum(self.num_reached, np.int32(NUM_GOALS - 1))

    @property
    def goal(self) -> FloatArray:
        """float32[N, 2], metres."""
        return self.goals[np.arange(len(self)), self.goal_index]


def draw_scenes(seeds: Sequence[int] | NDArray[np.int64], perturbation: bool) -> ModeSwitchState:
    """One scene per seed, at tick 0; every second one with an obstacle that already stands in the way.

    Raises:
        ValueError: a seed is negative or no integer, or there is none.
    """
    draws = Draws(seeds, _NUM_DRAWS, "dynamic/mode_switch")
    count = len(draws)
    start = draws.between((0.03, 0.11), (0.05, 0.21))
    goals = np.stack([draws.between((0.43, 0.11), (0.45, 0.21)), draws.between((0.03, 0.11), (0.05, 0.21))], axis=1)
    is_present = draws.take(1)[:, 0] < 0.5
    share, offset_m = draws.between((_START_SHARE[0], -_START_OFFSET_M), (_START_SHARE[1], _START_OFFSET_M)).T
    obstacle = start + (goals[:, 0] - start) * share[:, None]
    obstacle[:, 1] += offset_m
    legs_m = np.linalg.norm(np.diff(np.concatenate([start[:, None], goals], axis=1), axis=1), axis=2)
    low, high = np.array(JUMP_SHARES).T
    ticks = draws.whole(*PERTURBATION_TICKS)
    return ModeSwitchState(
        tick=np.zeros(count, dtype=np.int32),
        gripper=start,
        outcome=np.zeros(count, dtype=np.int32),
        prompt_index=draws.whole(0, NUM_PROMPTS - 1),
        perturbation_tick=ticks if perturbation else np.full(count, -1, dtype=np.int32),
        velocity=np.zeros((count, 2), dtype=np.float32),
        goals=goals,
        num_reached=np.zeros(count, dtype=np.int32),
        obstacle=np.where(is_present[:, None], obstacle, 0.0).astype(np.float32),
        is_present=is_present,
        jump_left_m=(legs_m[:, JUMP_GOAL] * (1.0 - draws.between(low.tolist(), high.tolist()))).astype(np.float32),
        has_jumped=np.zeros((count, NUM_JUMPS), dtype=np.bool_),
        jump_ahead_m=draws.between([JUMP_AHEAD_M[0]] * NUM_JUMPS, [JUMP_AHEAD_M[1]] * NUM_JUMPS),
        jump_offset_m=draws.between([-JUMP_OFFSET_M] * NUM_JUMPS, [JUMP_OFFSET_M] * NUM_JUMPS),
        perturbation_ahead_m=draws.between(PERTURBATION_AHEAD_M[:1], PERTURBATION_AHEAD_M[1:])[:, 0],
        nearest_m=np.full(count, LENGTH_M, dtype=np.float32),
        light=draws.between((0.9,), (1.1,))[:, 0],
        floor_grey=draws.between((56.0,), (80.0,))[:, 0],
    )
