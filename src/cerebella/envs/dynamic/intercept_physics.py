"""A puck that glides through an arena and bounces off its walls in ways that nobody can foresee: state, reset, motion.

A bounce mirrors the puck's velocity at the wall, then turns it and changes its speed by numbers that were drawn at the
reset: a plan that was made before a bounce is wrong after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.draws import Draws
from cerebella.envs.dynamic.planar import LENGTH_M, TICK_S, WIDTH_M
from cerebella.envs.dynamic.task import FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK, IntArray, TaskState
from cerebella.types import BoolArray, FloatArray

PUCK_RADIUS_M = 0.012
WALL_M = 0.04
"""Thickness of the arena's walls, inside the workspace."""
LOW_M = np.full(2, WALL_M + PUCK_RADIUS_M, dtype=np.float32)
HIGH_M = np.array([LENGTH_M, WIDTH_M], dtype=np.float32) - LOW_M
"""Between them lies the puck's centre, (x, y) in metres."""
MIN_PUCK_SPEED, MAX_PUCK_SPEED = 0.30, 0.45
MAX_TURN_RAD = float(np.deg2rad(60.0))
MIN_SPEED_FACTOR, MAX_SPEED_FACTOR = 0.7, 1.4
MIN_HIT_RAD, MAX_HIT_RAD = float(np.deg2rad(70.0)), float(np.deg2rad(180.0))
CATCH_RADIUS_M = 0.014
CATCH_TICKS = 12
NUM_BOUNCES = 16
"""Different bounces per scene; after the last one they repeat."""

_MAX_EXIT_RAD = float(np.deg2rad(72.0))
_MAX_CORNER_EXIT_RAD = float(np.deg2rad(40.0))
_MIN_START_GAP_M = 0.16
_NUM_CANDIDATES = 6
_NUM_DRAWS = 2 + 2 + 2 * _NUM_CANDIDATES + 2 * NUM_BOUNCES + 4 + 1


@dataclass(frozen=True, eq=False, kw_only=True)
class InterceptState(TaskState):
    """N scenes; K = 16 bounces each.

    Args:
        puck: float32[N, 2] metres. puck_velocity: float32[N, 2] m/s.
        num_bounces: int32[N], so far. turn: float32[N, K] rad and speed_factor: float32[N, K], what bounces do beyond
            mirroring. hit_turn: float32[N] rad, what the perturbation does to the velocity.
        ticks_near: int32[N], how many ticks in a row the gripper has been at the puck.
        light: float32[N], brightness around 1.
    """

    puck: FloatArray
    puck_velocity: FloatArray
    num_bounces: IntArray
    turn: FloatArray
    speed_factor: FloatArray
    hit_turn: FloatArray
    ticks_near: IntArray
    light: FloatArray


def reset(seeds: Sequence[int] | NDArray[np.int64], perturbation: bool, num_prompts: int) -> InterceptState:
    """See `Task.reset`; `num_prompts` wordings to choose from."""
    draws = Draws(seeds, _NUM_DRAWS, "intercept")
    count = len(draws)
    puck = (LOW_M + draws.take(2) * (HIGH_M - LOW_M)).astype(np.float32)
    speed, heading = draws.between((MIN_PUCK_SPEED, -np.pi), (MAX_PUCK_SPEED, np.pi)).T
    candidates = LOW_M + draws.take(2 * _NUM_CANDIDATES).reshape(-1, _NUM_CANDIDATES, 2) * (HIGH_M - LOW_M)
    gap_m = np.linalg.norm(candidates - puck[:, None], axis=-1)
    is_far = gap_m >= _MIN_START_GAP_M
    chosen = np.where(is_far.any(axis=1), is_far.argmax(axis=1), gap_m.argmax(axis=1))
    turn = draws.between((-MAX_TURN_RAD,) * NUM_BOUNCES, (MAX_TURN_RAD,) * NUM_BOUNCES)
    factor = draws.between((MIN_SPEED_FACTOR,) * NUM_BOUNCES, (MAX_SPEED_FACTOR,) * NUM_BOUNCES)
    hit_tick = draws.whole(FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK)
    hit_side = np.where(draws.take(1)[:, 0] < 0.5, -1.0, 1.0)
    hit_turn = (hit_side * draws.between((MIN_HIT_RAD,), (MAX_HIT_RAD,))[:, 0]).astype(np.float32)
    return InterceptState(
        tick=np.zeros(count, dtype=np.int32),
        gripper=candidates[np.arange(count), chosen].astype(np.float32),
        outcome=np.zeros(count, dtype=np.int32),
        prompt_index=draws.whole(0, num_prompts - 1),
        perturbation_tick=hit_tick if perturbation else np.full(count, -1, dtype=np.int32),
        puck=puck,
        puck_velocity=(speed[:, None] * np.column_stack([np.cos(heading), np.sin(heading)])).astype(np.float32),
        num_bounces=np.zeros(count, dtype=np.int32),
        turn=turn,
        speed_factor=factor,
        hit_turn=hit_turn,
        ticks_near=np.zeros(count, dtype=np.int32),
        light=draws.between((0.9,), (1.1,))[:, 0],
    )


def mirrored(position: NDArray[np.floating]) -> FloatArray:
    """Where mirror reflections at the walls bring a puck that would be at `position` without walls, float32[N, 2]."""
    span = HIGH_M - LOW_M
    return (LOW_M + span - np.abs((position - LOW_M) % (2 * span) - span)).astype(np.float32)


def move_puck(state: InterceptState, tick: IntArray, with_events: bool) -> tuple[FloatArray, FloatArray, IntArray]:
    """One tick: (puck, puck_velocity, num_bounces) at `tick`; see `InterceptState`."""
    free = state.puck + state.puck_velocity * np.float32(TICK_S)
    is_below, is_above = free < LOW_M, free > HIGH_M
    velocity = np.where(is_below, np.abs(state.puck_velocity), state.puck_velocity)
    velocity = np.where(is_above, -np.abs(state.puck_velocity), velocity)
    bounces = (is_below | is_above).any(axis=1)
    if with_events:
        scenes = np.flatnonzero(bounces)
        if len(scenes):
            inward = is_below[scenes].astype(np.float32) - is_above[scenes].astype(np.float32)
            velocity[scenes] = _bounced(state.take(scenes), velocity[scenes], inward)
        is_hit = state.perturbation_tick == tick
        if is_hit.any():
            velocity[is_hit] = _turned(velocity[is_hit], state.hit_turn[is_hit])
    return mirrored(free), velocity.astype(np.float32), (state.num_bounces + bounces).astype(np.int32)


def is_near(gripper: FloatArray, puck: FloatArray) -> BoolArray:
    """Whether the gripper could close on the puck, bool[N]."""
    dx, dy = (puck - gripper).T
    return dx**2 + dy**2 <= CATCH_RADIUS_M**2


def _bounced(state: InterceptState, velocity: FloatArray, inward: FloatArray) -> FloatArray:
    """Turn and scale mirrored velocities; the way out keeps clear of the wall. `inward`: float32[N, 2], -1, 0 or 1."""
    scenes, index = np.arange(len(state)), state.num_bounces % NUM_BOUNCES
    speed = np.sqrt(velocity[:, 0] ** 2 + velocity[:, 1] ** 2) * state.speed_factor[scenes, index]
    speed = np.clip(speed, MIN_PUCK_SPEED, MAX_PUCK_SPEED)
    normal = np.arctan2(inward[:, 1], inward[:, 0])
    leaving = np.arctan2(velocity[:, 1], velocity[:, 0]) + state.turn[scenes, index] - normal
    leaving = (leaving + np.pi) % (2 * np.pi) - np.pi
    widest = np.where(inward.all(axis=1), _MAX_CORNER_EXIT_RAD, _MAX_EXIT_RAD)
    heading = normal + np.clip(leaving, -widest, widest)
    return speed[:, None] * np.column_stack([np.cos(heading), np.sin(heading)])


def _turned(vectors: FloatArray, angle_rad: FloatArray) -> FloatArray:
    """float[N, 2] vectors, turned from x to y by float[N] radians."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    x, y = vectors.T
    return np.column_stack([cosine * x - sine * y, sine * x + cosine * y])
