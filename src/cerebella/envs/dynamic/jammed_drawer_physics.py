"""The drawer of `jammed_drawer`: what there is, and how one tick passes.

The gripper holds the handle of a drawer that slides along x: `gripper_x = closed_x + opening`. Its servo is a spring, and
the wrist feels it:

    lead  = commanded x - gripper x, after the tick        (m)
    force = SPRING_N_PER_M * lead                          (N)

While free, drawer and gripper follow the command. A jam stops the drawer at `jammed_at`: it can go in, but no farther out.
Pulling on strains the handle by (lead - ALLOWED_LEAD_M) / STRAIN_LIMIT_M per tick, and it breaks at a strain of 1; with a
smaller lead the strain fades. A jam is gone at the first tick at which the drawer is back by `share` of `RELEASE_M` (or
shut) and the handle off the drawer's axis by `share` of `RELEASE_ASIDE_M`, on the side that the jam asks for. Each jam has
its own share, which nobody knows: without events (in an expert's plan) it takes all of both.
"""

from dataclasses import dataclass, replace

import numpy as np

from cerebella.envs.dynamic.planar import LENGTH_M, TICK_S, WIDTH_M, move_gripper
from cerebella.envs.dynamic.task import RUNNING, IntArray, TaskState
from cerebella.types import BoolArray, FloatArray

OUTCOMES = ("", "open", "broken", "time")
"""What `JammedDrawerState.outcome` indexes: empty while the episode runs."""
OPEN, BROKEN, TIME = 1, 2, 3

MAX_TICKS = 150
MAX_JAMS = 4
"""Scheduled ones; a perturbation may add one."""
SPRING_N_PER_M = 500.0
PLAY_M = 0.03
"""How far the handle can go to either side of the drawer's axis."""
RELEASE_M, RELEASE_ASIDE_M = 0.020, 0.020
LEAST_SHARE, LARGEST_SHARE = 0.4, 0.8
"""Of `RELEASE_M` and `RELEASE_ASIDE_M`, that a jam takes."""
ALLOWED_LEAD_M, STRAIN_LIMIT_M = 0.03, 1.4
GRIND_SPEED = 0.06
"""Of a jammed drawer, inwards and to the side, m/s at most."""
STRAIN_KEPT = 0.85
"""Share of the strain that a tick without too much lead leaves."""
FREE = -1.0
"""`jammed_at` of a drawer that slides."""
NEVER_M = 1.0
"""A jam at this opening, far beyond the workspace, does not happen."""


@dataclass(frozen=True, eq=False, kw_only=True)
class JammedDrawerState(TaskState):
    """N scenes; K = `MAX_JAMS`. Openings and places in metres; a side is -1 (left of the pull, -y) or 1 (right, +y).

    Args:
        closed_x, axis_y: float32[N], where the handle of the shut drawer is. goal_opening: float32[N].
        force: float32[N] newtons, along x at the wrist; positive where the command is ahead.
        strain: float32[N], 0 fresh .. 1 broken.
        jammed_at: float32[N], the opening at which it is stuck now, or `FREE`. jam_side: int32[N], 0 where it is free.
        release_share: float32[N], hidden, what this jam takes.
        num_jams: int32[N], so far. ticks_jammed: int32[N], so far.
        num_scheduled_passed: int32[N], how many of the scheduled jams have happened.
        scheduled_opening: float32[N, K], rising; `NEVER_M` for none. scheduled_side: int32[N, K].
        scheduled_share: float32[N, K].
        perturbed_side: int32[N], perturbed_share: float32[N], of the jam that a perturbation makes.
        light: float32[N], brightness around 1.
    """

    closed_x: FloatArray
    axis_y: FloatArray
    goal_opening: FloatArray
    force: FloatArray
    strain: FloatArray
    jammed_at: FloatArray
    jam_side: IntArray
    release_share: FloatArray
    num_jams: IntArray
    ticks_jammed: IntArray
    num_scheduled_passed: IntArray
    scheduled_opening: FloatArray
    scheduled_side: IntArray
    scheduled_share: FloatArray
    perturbed_side: IntArray
    perturbed_share: FloatArray
    light: FloatArray

    @property
    def opening(self) -> FloatArray:
        """float32[N] metres, 0 is shut."""
        return self.gripper[:, 0] - self.closed_x

    @property
    def is_jammed(self) -> BoolArray:
        """bool[N]."""
        return self.jam_side != 0

    @property
    def back_to_go_m(self) -> FloatArray:
        """How much farther in any jam would be free, float32[N], 0 or more; 0 where it is free."""
        release = np.maximum(self.jammed_at - np.float32(RELEASE_M), 0.0)
        return np.where(self.is_jammed, np.maximum(self.opening - release, 0.0), 0.0).astype(np.float32)


def step(state: JammedDrawerState, actions: FloatArray, with_events: bool) -> JammedDrawerState:
    """One tick in every scene; `actions`: float32[N, 2], checked already. Without events no new jam comes up."""
    aim = np.clip(actions, 0.0, np.array([LENGTH_M, WIDTH_M], dtype=np.float32))
    tick = state.tick + np.int32(1)
    gripper = _held(state, move_gripper(state.gripper, aim))
    moved = _freed(replace(state, tick=tick, gripper=gripper), state.release_share if with_events else 1.0)
    if with_events:
        moved = _perturbed(_reached(moved))
    lead = aim[:, 0] - moved.gripper[:, 0]
    excess = np.where(state.is_jammed | moved.is_jammed, np.maximum(lead - ALLOWED_LEAD_M, 0.0), 0.0)
    strain = np.where(excess > 0.0, state.strain + excess / STRAIN_LIMIT_M, STRAIN_KEPT * state.strain)
    after = replace(
        moved,
        force=(SPRING_N_PER_M * lead).astype(np.float32),
        strain=np.minimum(strain, 1.0).astype(np.float32),
        ticks_jammed=moved.ticks_jammed + moved.is_jammed,
    )
    verdict = np.select(
        [after.strain >= 1.0, after.opening >= after.goal_opening, tick >= MAX_TICKS], [BROKEN, OPEN, TIME], RUNNING
    )
    return replace(after, outcome=np.where(state.is_running, verdict, state.outcome).astype(np.int32))


def _held(state: JammedDrawerState, gripper: FloatArray) -> FloatArray:
    """Where the handle lets the gripper go: not beyond a jam, not farther in than shut, little to the side; slowly in a jam."""
    longest = np.where(state.is_jammed, GRIND_SPEED * TICK_S, LENGTH_M)[:, None]
    move = np.clip(gripper - state.gripper, -longest, longest)
    farthest = state.closed_x + np.where(state.is_jammed, state.jammed_at, LENGTH_M)
    x = np.clip(state.gripper[:, 0] + move[:, 0], state.closed_x, farthest)
    y = np.clip(state.gripper[:, 1] + move[:, 1], state.axis_y - PLAY_M, state.axis_y + PLAY_M)
    return np.column_stack([x, y]).astype(np.float32)


def _freed(state: JammedDrawerState, share: FloatArray | float) -> JammedDrawerState:
    """Jams whose two conditions hold at the same time are gone."""
    is_back = state.opening <= np.maximum(state.jammed_at - share * np.float32(RELEASE_M), 0.0)
    aside = state.jam_side * (state.gripper[:, 1] - state.axis_y)
    is_freed = state.is_jammed & is_back & (aside >= share * np.float32(RELEASE_ASIDE_M))
    return replace(
        state,
        jammed_at=np.where(is_freed, np.float32(FREE), state.jammed_at),
        jam_side=np.where(is_freed, np.int32(0), state.jam_side),
    )


def _reached(state: JammedDrawerState) -> JammedDrawerState:
    """Where a free drawer has come to its next scheduled jam, it stops there."""
    rows = np.arange(len(state))
    following = np.minimum(state.num_scheduled_passed, MAX_JAMS - 1)
    place = np.where(state.num_scheduled_passed < MAX_JAMS, state.scheduled_opening[rows, following], NEVER_M)
    is_reached = ~state.is_jammed & (state.opening >= place)
    x = np.where(is_reached, state.closed_x + place, state.gripper[:, 0])
    return replace(
        state,
        gripper=np.column_stack([x, state.gripper[:, 1]]).astype(np.float32),
        jammed_at=np.where(is_reached, place, state.jammed_at).astype(np.float32),
        jam_side=np.where(is_reached, state.scheduled_side[rows, following], state.jam_side),
        release_share=np.where(is_reached, state.scheduled_share[rows, following], state.release_share),
        num_jams=state.num_jams + is_reached,
        num_scheduled_passed=state.num_scheduled_passed + is_reached,
    )


def _perturbed(state: JammedDrawerState) -> JammedDrawerState:
    """A free drawer jams where it is; a jam that is there already asks for the other side."""
    is_now = state.perturbation_tick == state.tick
    if not is_now.any():
        return state
    jams = is_now & ~state.is_jammed
    return replace(
        state,
        jammed_at=np.where(jams, state.opening, state.jammed_at).astype(np.float32),
        jam_side=np.where(jams, state.perturbed_side, np.where(is_now, -state.jam_side, state.jam_side)),
        release_share=np.where(jams, state.perturbed_share, state.release_share),
        num_jams=state.num_jams + jams,
    )
