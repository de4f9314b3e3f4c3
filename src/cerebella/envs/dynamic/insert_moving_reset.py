"""Start states of `insert_moving`: everything random in an episode is drawn here, from one seed per scene."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.draws import Draws
from cerebella.envs.dynamic.insert_moving_physics import (
    LEFT_WALL_M,
    MAX_SPEED,
    MIN_SPEED,
    RIGHT_WALL_M,
    InsertMovingState,
    changed_velocity,
    slide,
)
from cerebella.envs.dynamic.planar import LENGTH_M
from cerebella.envs.dynamic.task import FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK
from cerebella.types import FloatArray

NUM_CHANGES = 8
REVERSAL_SHARE = 0.7
MIN_PERTURBED_SPEED = 0.08
MIN_BUMP_M, MAX_BUMP_M = 0.03, 0.05

_MIN_GAP_TICKS, _MEAN_EXTRA_GAP_TICKS = 12, 12.0
_ROOM_M = 0.03
_BLOCK_RGB = (196.0, 142.0, 82.0)
_NUM_DRAWS = 6 + 3 * NUM_CHANGES + 4 + 3


def reset(seeds: Sequence[int] | NDArray[np.int64], perturbation: bool, num_prompts: int) -> InsertMovingState:
    """One scene per seed, at tick 0, the peg above the table.

    Args:
        perturbation: whether the block is disturbed once. num_prompts: how many wordings there are.

    Raises:
        ValueError: a seed is negative or no integer, or there is none.
    """
    draws = Draws(seeds, _NUM_DRAWS, "insert_moving")
    count = len(draws)
    hole_x, speed = draws.between((0.14, MIN_SPEED), (0.34, MAX_SPEED)).T
    surface_m, aside_m, above_m = draws.between((0.190, 0.04, 0.05), (0.225, 0.11, 0.10)).T
    moves_left = draws.take(1)[:, 0] < 0.5
    # The peg starts on the side of the hole where there is more room.
    gripper_x = hole_x + np.where(hole_x < LENGTH_M / 2, aside_m, -aside_m)
    gaps = _MIN_GAP_TICKS - _MEAN_EXTRA_GAP_TICKS * np.log1p(-draws.take(NUM_CHANGES))
    state = InsertMovingState(
        tick=np.zeros(count, dtype=np.int32),
        gripper=np.column_stack([gripper_x, surface_m - above_m]).astype(np.float32),
        outcome=np.zeros(count, dtype=np.int32),
        hole_x=hole_x,
        hole_velocity=np.where(moves_left, -speed, speed).astype(np.float32),
        surface_m=surface_m,
        force=np.zeros((count, 2), dtype=np.float32),
        ticks_held=np.zeros(count, dtype=np.int32),
        change_tick=np.cumsum(np.floor(gaps), axis=1).astype(np.int32),
        change_reverses=draws.take(NUM_CHANGES) < REVERSAL_SHARE,
        change_place=draws.take(NUM_CHANGES).astype(np.float32),
        perturbation_tick=draws.whole(FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK),
        bump=np.zeros(count, dtype=np.float32),
        perturbed_velocity=np.zeros(count, dtype=np.float32),
        prompt_index=draws.whole(0, num_prompts - 1),
        light=draws.between((0.9,), (1.1,))[:, 0],
        block_rgb=(np.array(_BLOCK_RGB) * draws.between((0.85,), (1.1,))).astype(np.float32),
    )
    state = _with_perturbation(state, draws)
    return state if perturbation else replace(state, perturbation_tick=np.full(count, -1, dtype=np.int32))


def _with_perturbation(state: InsertMovingState, draws: Draws) -> InsertMovingState:
    """A sudden reversal; for half of the scenes the block is also hit from ahead, which throws it back.

    Near a wall a reversal would be no surprise. Where the block would turn soon anyway it is always hit from ahead; where it
    has just turned it is hit from behind instead, and goes on with a speed that differs by half of the range.
    """
    wants_bump = draws.take(1)[:, 0] < 0.5
    bump, reversed_speed = draws.between((MIN_BUMP_M, MIN_PERTURBED_SPEED), (MAX_BUMP_M, MAX_SPEED)).T
    hole_x, velocity = _undisturbed(state)
    speed, direction, span = np.abs(velocity), np.sign(velocity), MAX_SPEED - MIN_SPEED
    ahead_m = np.where(velocity > 0.0, RIGHT_WALL_M - hole_x, hole_x - LEFT_WALL_M)
    turns_soon, has_turned = ahead_m < _ROOM_M, RIGHT_WALL_M - LEFT_WALL_M - ahead_m < MAX_BUMP_M + _ROOM_M
    other_speed = MIN_SPEED + (speed - MIN_SPEED + span / 2) % span
    is_bumped = wants_bump | turns_soon | has_turned
    return replace(
        state,
        perturbed_velocity=(direction * np.where(has_turned, other_speed, -reversed_speed)).astype(np.float32),
        bump=(direction * np.where(is_bumped, np.where(has_turned, bump, -bump), 0.0)).astype(np.float32),
    )


def _undisturbed(state: InsertMovingState) -> tuple[FloatArray, FloatArray]:
    """Where the hole is at the perturbation's tick, and its velocity, if nothing but the scheduled changes happens."""
    hole_x, velocity = state.hole_x, state.hole_velocity
    for tick in range(1, LAST_PERTURBATION_TICK + 1):
        next_x, next_velocity = slide(hole_x, velocity)
        next_velocity = changed_velocity(state, np.full(len(state), tick, dtype=np.int32), next_velocity)
        is_before = tick <= state.perturbation_tick
        hole_x, velocity = np.where(is_before, next_x, hole_x), np.where(is_before, next_velocity, velocity)
    return hole_x, velocity
