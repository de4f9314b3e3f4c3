"""A peg, a table and a block that slides in it: state arrays and the step, vectorised over N scenes.

Seen from the side: x to the right, y down. The gripper's tool point is the tip of the peg. The block's top is flush with
the table's, at `surface_m`; its hole is open at the top. Nothing here draws random numbers (see `insert_moving_reset`).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.planar import TICK_S, move_gripper
from cerebella.envs.dynamic.task import TaskState
from cerebella.types import BoolArray, FloatArray

PLAY_M = 0.006
"""How far the tip may be from the hole's axis, on entering and inside."""
CHAMFER_M = 0.003
"""Wider than the play by this, a pressed tip slides down the hole's rim, by `SLIDE_M` per tick."""
SLIDE_M = 0.0015
HOLE_DEPTH_M, INSERTED_M = 0.045, 0.035
HOLD_TICKS = 3
"""How long the tip must stay below `INSERTED_M`."""
INSERTION_SPEED = 0.03
"""The fit is tight: the fastest way down inside, m/s, without side load."""
BLOCK_HALF_M = 0.045
LEFT_WALL_M, RIGHT_WALL_M = 0.08, 0.40
"""The hole's centre turns around here."""
FRICTION = 1.0
"""On the surface the tip moves sideways only with what the side force exceeds the push by: whoever would move, lifts."""
STIFFNESS = 1000.0
"""Of the wrist, N/m: force for every metre by which a contact stops the servo's move of one tick."""
LOAD_GAIN = 0.08
"""The side load is a low pass of the side force: its share of the difference per tick."""
JAM_LOAD_N = 10.0
MIN_SPEED, MAX_SPEED = 0.04, 0.15
"""Of the block, m/s, in either direction."""
BUMP_TICKS = 3
MAX_TICKS = 120

OUTCOMES = ("", "inserted", "jammed", "time")
RUNNING, INSERTED, JAMMED, TIME = range(4)


@dataclass(frozen=True, eq=False, kw_only=True)
class InsertMovingState(TaskState):
    """N scenes at one tick each; K unforeseen changes of the block's velocity.

    Args:
        gripper: the tip of the peg. hole_x: float32[N] metres, the hole's axis. hole_velocity: float32[N] m/s along x.
        surface_m: float32[N], y of the block's top. force: float32[N, 2] newtons, of the peg against what stops it:
            sideways inside the hole (the side load), and down.
        ticks_held: int32[N], ticks at full depth so far.
        change_tick: int32[N, K]. change_reverses: bool[N, K], whether the direction changes too. change_place:
            float32[N, K] in 0..1, the new speed among those allowed.
        perturbed_velocity: float32[N] m/s from the perturbation on. bump: float32[N] metres, by which it also pushes the
            block in the same direction, spread over `BUMP_TICKS`; 0 for no push.
        light: float32[N], brightness around 1. block_rgb: float32[N, 3].
    """

    hole_x: FloatArray
    hole_velocity: FloatArray
    surface_m: FloatArray
    force: FloatArray
    ticks_held: NDArray[np.int32]
    change_tick: NDArray[np.int32]
    change_reverses: BoolArray
    change_place: FloatArray
    bump: FloatArray
    perturbed_velocity: FloatArray
    light: FloatArray
    block_rgb: FloatArray

    @property
    def depth_m(self) -> FloatArray:
        """float32[N], how far the tip is below the surface; negative above it."""
        return self.gripper[:, 1] - self.surface_m


def step(state: InsertMovingState, actions: FloatArray, with_events: bool) -> InsertMovingState:
    """One tick. `actions`: float32[N, 2], checked by the caller."""
    tick = state.tick + np.int32(1)
    hole_x, velocity = slide(state.hole_x, state.hole_velocity)
    if with_events:
        velocity = changed_velocity(state, tick, velocity)
        velocity = np.where(state.perturbation_tick == tick, state.perturbed_velocity, velocity)
        age = tick - state.perturbation_tick
        is_pushed = (state.perturbation_tick >= 0) & (age >= 0) & (age < BUMP_TICKS)
        pushed_x = hole_x + np.where(is_pushed, state.bump, 0.0) / BUMP_TICKS
        hole_x, velocity = _reflected(pushed_x.astype(np.float32), velocity.astype(np.float32))
    gripper, force = _contact(state, move_gripper(state.gripper, actions), hole_x)
    is_deep = gripper[:, 1] - state.surface_m >= INSERTED_M
    ticks_held = np.where(is_deep, state.ticks_held + 1, 0).astype(np.int32)
    conditions = [ticks_held >= HOLD_TICKS, np.abs(force[:, 0]) > JAM_LOAD_N, tick >= MAX_TICKS]
    verdict = np.select(conditions, [INSERTED, JAMMED, TIME], RUNNING)
    return replace(
        state,
        tick=tick,
        gripper=gripper,
        outcome=np.where(state.is_running, verdict, state.outcome).astype(np.int32),
        hole_x=hole_x,
        hole_velocity=velocity,
        force=force,
        ticks_held=ticks_held,
    )


def slide(hole_x: FloatArray, velocity: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where the hole is a tick later, and its velocity then: it turns at the walls, which is foreseeable."""
    return _reflected((hole_x + velocity * TICK_S).astype(np.float32), velocity)


def _reflected(hole_x: FloatArray, velocity: FloatArray) -> tuple[FloatArray, FloatArray]:
    is_left, is_right = hole_x < LEFT_WALL_M, hole_x > RIGHT_WALL_M
    hole_x = np.where(is_left, 2 * LEFT_WALL_M - hole_x, np.where(is_right, 2 * RIGHT_WALL_M - hole_x, hole_x))
    speed = np.abs(velocity)
    velocity = np.where(is_left, speed, np.where(is_right, -speed, velocity))
    return hole_x.astype(np.float32), velocity.astype(np.float32)


def changed_velocity(state: InsertMovingState, tick: NDArray[np.int32], velocity: FloatArray) -> FloatArray:
    """The velocity from `tick` (int32[N]) on: another one where a change is scheduled.

    Without a reversal the speed differs by a third of its range at least.
    """
    is_due = state.change_tick == tick[:, None]
    if not is_due.any():
        return velocity
    place = (state.change_place * is_due).sum(axis=1)
    reverses = (state.change_reverses & is_due).any(axis=1)
    span = MAX_SPEED - MIN_SPEED
    shifted = (np.abs(velocity) - MIN_SPEED + (1.0 + place) * span / 3) % span
    speed = MIN_SPEED + np.where(reverses, place * span, shifted)
    changed = np.sign(velocity) * np.where(reverses, -speed, speed)
    return np.where(is_due.any(axis=1), changed, velocity).astype(np.float32)


def _contact(state: InsertMovingState, free: FloatArray, hole_x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where the tip gets to when the servo alone would bring it to `free`, float32[N, 2], and the force, float32[N, 2]."""
    depth_m, free_depth_m = state.depth_m, free[:, 1] - state.surface_m
    was_inside, was_resting, is_down = depth_m > 0.0, depth_m == 0.0, free_depth_m > 0.0

    # On the surface a pressed tip sticks to what it stands on, or slides down the rim of the hole.
    is_on_block = np.abs(state.gripper[:, 0] - state.hole_x) <= BLOCK_HALF_M
    carried_x = state.gripper[:, 0] + np.where(is_on_block, hole_x - state.hole_x, 0.0)
    pull_m = free[:, 0] - carried_x
    slip_m = np.sign(pull_m) * np.maximum(0.0, np.abs(pull_m) - FRICTION * free_depth_m)
    outside_x = np.where(was_resting & is_down, carried_x + slip_m, free[:, 0])
    error = hole_x - outside_x
    is_on_rim = is_down & (np.abs(error) > PLAY_M) & (np.abs(error) <= PLAY_M + CHAMFER_M)
    outside_x = outside_x + np.where(is_on_rim, np.sign(error) * SLIDE_M, 0.0)
    is_inside = is_down & (was_inside | (np.abs(error) <= PLAY_M))

    # Inside, the walls carry the tip along, and the side load makes it stick.
    inside_x = np.clip(free[:, 0], hole_x - PLAY_M, hole_x + PLAY_M)
    looseness = np.maximum(0.0, 1.0 - np.abs(state.force[:, 0]) / JAM_LOAD_N)
    way_down_m = INSERTION_SPEED * TICK_S * looseness
    inside_depth_m = np.minimum(free_depth_m, np.minimum(np.maximum(depth_m, 0.0) + way_down_m, HOLE_DEPTH_M))

    x = np.where(is_inside, inside_x, outside_x)
    depth = np.where(is_inside, inside_depth_m, np.minimum(free_depth_m, 0.0))
    side_n = np.where(is_inside, STIFFNESS * (free[:, 0] - x), 0.0)
    load_n = state.force[:, 0] + LOAD_GAIN * (side_n - state.force[:, 0])
    y = state.surface_m + depth.astype(np.float32)
    gripper = np.column_stack([x, y]).astype(np.float32)
    return gripper, np.column_stack([load_n, STIFFNESS * (free_depth_m - depth)]).astype(np.float32)
