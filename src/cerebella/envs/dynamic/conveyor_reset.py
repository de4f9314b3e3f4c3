"""Start states of the conveyor: everything random in an episode is drawn here, from one seed per scene.

One fixed number of uniform draws per seed, always in the same order, and plain arithmetic afterwards: therefore the
twin without a perturbation shares every other number with the perturbed episode.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.conveyor import COLOURS, MAX_PARTS, SHAPES, ConveyorConfig, ConveyorState
from cerebella.envs.dynamic.conveyor_prompts import NUM_PROMPTS
from cerebella.envs.dynamic.draws import Draws
from cerebella.envs.dynamic.planar import WIDTH_M
from cerebella.envs.dynamic.task import FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK
from cerebella.types import BoolArray, FloatArray

NUM_CANDIDATES = 24
NUM_JUMPS = 6
MIN_SPACING_M = 0.05

_MIN_JUMP_GAP_TICKS, _MEAN_EXTRA_GAP_TICKS = 12, 18.0
_MIN_JUMP = 0.03
_BUMP_SPACING_M = 0.042
_BUMP_ANGLES_RAD = np.deg2rad([90.0, -90.0, 60.0, -60.0, 120.0, -120.0])


def reset(seeds: Sequence[int] | NDArray[np.int64], perturbation: bool, config: ConveyorConfig) -> ConveyorState:
    """One scene per seed, at tick 0, gripper open.

    Args:
        seeds: non-negative integers; a seed decides everything that happens in its episode.
        perturbation: whether the belt or the target is disturbed once, in the ticks 8..30.
        config: the constants.

    Raises:
        ValueError: a seed is negative or no integer, or there is none.
    """
    draws = Draws(seeds, _NUM_DRAWS, "conveyor")
    count = len(draws)
    positions, is_present = _place_parts(config, draws)
    colour = draws.take(len(COLOURS)).argsort(axis=1)
    target = np.zeros(count, dtype=np.int32)
    gripper = draws.between((0.10, 0.04), (0.42, 0.28))
    low, high = config.min_belt_speed, config.max_belt_speed
    belt_speed = draws.between((low,), (high,))[:, 0]
    jump_tick, jump_speed = _jumps(config, draws, belt_speed)
    ticks = draws.whole(FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK)
    bump = _bump(config, draws, positions, is_present)
    return ConveyorState(
        tick=np.zeros(count, dtype=np.int32),
        gripper=gripper,
        opening=np.ones(count, dtype=np.float32),
        belt_speed=belt_speed,
        belt_offset=draws.between((0.0,), (1.0,))[:, 0],
        part_position=positions,
        part_is_present=is_present,
        part_colour=colour.astype(np.int32),
        part_shape=(draws.take(MAX_PARTS) * len(SHAPES)).astype(np.int32),
        part_heading=(draws.take(MAX_PARTS) * np.pi).astype(np.float32),
        target=target,
        prompt_index=draws.whole(0, NUM_PROMPTS - 1),
        grasped=np.full(count, -1, dtype=np.int32),
        ticks_held=np.zeros(count, dtype=np.int32),
        num_attempts=np.zeros(count, dtype=np.int32),
        outcome=np.zeros(count, dtype=np.int32),
        jump_tick=jump_tick,
        jump_speed=jump_speed,
        perturbation_tick=ticks if perturbation else np.full(count, -1, dtype=np.int32),
        bump=bump,
        perturbed_speed=draws.take(1)[:, 0].astype(np.float32),
        light=draws.between((0.88,), (1.10,))[:, 0],
        belt_grey=draws.between((52.0,), (84.0,))[:, 0],
    )


_NUM_DRAWS = 2 * NUM_CANDIDATES + 1 + len(COLOURS) + 2 + 1 + 2 * NUM_JUMPS + 1 + 8 + 1 + 2 * MAX_PARTS + 1 + 1 + 2


def _place_parts(config: ConveyorConfig, draws: Draws) -> tuple[FloatArray, BoolArray]:
    """Candidates are accepted one after another when they keep their distance; place 0 is the target."""
    points = draws.take(2 * NUM_CANDIDATES).reshape(-1, NUM_CANDIDATES, 2)
    wanted = 3 + np.floor(draws.take(1)[:, 0] * 3)
    count = len(points)
    edge = config.belt_margin_m + 0.018
    x_m = np.concatenate([0.02 + 0.24 * points[:, :1, 0], -0.08 + 0.50 * points[:, 1:, 0]], axis=1)
    y_m = edge + (WIDTH_M - 2 * edge) * points[..., 1]
    placed = np.full((count, MAX_PARTS, 2), np.nan)
    num_placed = np.zeros(count, dtype=np.intp)
    for candidate in np.stack([x_m, y_m], axis=-1).swapaxes(0, 1):
        distance = np.linalg.norm(placed - candidate[:, None, :], axis=-1)
        is_free = ~(distance < MIN_SPACING_M).any(axis=1) & (num_placed < wanted)
        placed[is_free, num_placed[is_free]] = candidate[is_free]
        num_placed += is_free
    is_present = np.arange(MAX_PARTS) < num_placed[:, None]
    return np.where(is_present[..., None], placed, -1.0).astype(np.float32), is_present


def _jumps(config: ConveyorConfig, draws: Draws, first_speed: FloatArray) -> tuple[NDArray[np.int32], FloatArray]:
    """About one change per second; each differs from the speed before by at least 0.03 m/s."""
    extra = -_MEAN_EXTRA_GAP_TICKS * np.log1p(-draws.take(NUM_JUMPS))
    jump_tick = np.cumsum(_MIN_JUMP_GAP_TICKS + np.floor(extra), axis=1).astype(np.int32)
    places = draws.take(NUM_JUMPS)
    low, span = config.min_belt_speed, config.max_belt_speed - config.min_belt_speed
    speeds = []
    speed = first_speed.astype(np.float64)
    for place in places.T:
        speed = low + (speed - low + _MIN_JUMP + place * (span - 2 * _MIN_JUMP)) % span
        speeds.append(speed)
    return jump_tick, np.stack(speeds, axis=1).astype(np.float32)


def _bump(config: ConveyorConfig, draws: Draws, positions: FloatArray, is_present: BoolArray) -> FloatArray:
    """A sideways push of 3..5 cm for about half of the scenes; zero where no direction keeps clear of other parts."""
    wants_bump = draws.take(1)[:, 0] < 0.5
    length_m = 0.03 + 0.02 * draws.take(1)[:, 0]
    preference = draws.take(len(_BUMP_ANGLES_RAD))
    directions = np.stack([np.cos(_BUMP_ANGLES_RAD), np.sin(_BUMP_ANGLES_RAD)], axis=-1)
    moves = length_m[:, None, None] * directions
    ends = positions[:, None, 0] + moves
    others = np.where(is_present[:, 1:, None], positions[:, 1:], np.inf)
    gap = np.linalg.norm(ends[:, :, None, :] - others[:, None, :, :], axis=-1).min(axis=-1)
    edge = config.belt_margin_m + 0.015
    is_possible = (gap >= _BUMP_SPACING_M) & (ends[..., 1] > edge) & (ends[..., 1] < WIDTH_M - edge)
    choice = np.where(is_possible, preference, -1.0).argmax(axis=1)
    rows = np.arange(len(moves))
    does_bump = wants_bump & is_possible[rows, choice]
    return np.where(does_bump[:, None], moves[rows, choice], 0.0).astype(np.float32)
