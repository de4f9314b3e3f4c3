"""A pole on a cart that is kicked in ways that nobody can foresee: state, reset, motion.

The tool carries the pole along a rail. Between ticks the servo's velocity is constant, so that the cart accelerates in
instants, and the pole's equation theta'' = (g / l) sin(theta) - (a / l) cos(theta) splits exactly: a change of velocity dv
is an impulse -(dv / l) cos(theta), after which the pole falls freely for one tick.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.draws import Draws
from cerebella.envs.dynamic.planar import TICK_S
from cerebella.envs.dynamic.task import FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK, IntArray, TaskState
from cerebella.types import FloatArray

POLE_LENGTH_M = 1.2
"""l: a counterweight below the pivot makes the pole fall as slowly as a pendulum of this length."""
GRAVITY = 9.81
RAIL_LOW_M, RAIL_HIGH_M = 0.02, 0.46
RAIL_Y_M = 0.27
FALLEN_RAD = 0.6
STOP_RAD, MAX_RATE = 1.2, 8.0
"""The pole comes to rest on stops at +-STOP_RAD; MAX_RATE (rad/s) is more than any fall reaches."""
NUM_KICKS, MIN_KICKS = 5, 3
MIN_KICK, MAX_KICK = 0.03, 0.07
MIN_HIT, MAX_HIT = 0.095, 0.12
"""Kicks and the perturbation: angular velocity, rad/s, to either side."""
SPOT_LOW_M, SPOT_HIGH_M = 0.17, 0.31

_NUM_SUBSTEPS = 2
_FIRST_KICK_TICK, _KICK_GAP_TICKS, _KICK_SPREAD_TICKS = 6, 20, 12
_NUM_DRAWS = 1 + 2 + 2 + 1 + 3 * NUM_KICKS + 3 + 2


@dataclass(frozen=True, eq=False, kw_only=True)
class BalanceState(TaskState):
    """N scenes; K = 5 places for kicks. `gripper` is the cart.

    Args:
        cart_velocity: float32[N] m/s along x, over the last tick.
        angle: float32[N] rad from upright, positive towards +x. rate: float32[N] rad/s, its angular velocity.
        spot_x: float32[N] metres, the mark on the rail.
        kick_tick: int32[N, K], when the pole takes the kick: float32[N, K] rad/s (0 for a place that is not used).
        hit: float32[N] rad/s, the perturbation. light: float32[N], brightness around 1.
    """

    cart_velocity: FloatArray
    angle: FloatArray
    rate: FloatArray
    spot_x: FloatArray
    kick_tick: IntArray
    kick: FloatArray
    hit: FloatArray
    light: FloatArray


def reset(seeds: Sequence[int] | NDArray[np.int64], perturbation: bool, num_prompts: int) -> BalanceState:
    """See `Task.reset`; `num_prompts` wordings to choose from."""
    draws = Draws(seeds, _NUM_DRAWS, "balance")
    count = len(draws)
    cart_x = draws.between((0.14,), (0.34,))[:, 0]
    angle, rate = draws.between((-0.015, -0.02), (0.015, 0.02)).T
    spot_x = draws.between((SPOT_LOW_M,), (SPOT_HIGH_M,))[:, 0]
    num_kicks = draws.whole(MIN_KICKS, NUM_KICKS)
    first = _FIRST_KICK_TICK + _KICK_GAP_TICKS * np.arange(NUM_KICKS)
    kick_tick = first + np.floor(_KICK_SPREAD_TICKS * draws.take(NUM_KICKS))
    kick = _either_side(draws.take(NUM_KICKS), draws.between((MIN_KICK,) * NUM_KICKS, (MAX_KICK,) * NUM_KICKS))
    hit_tick = draws.whole(FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK)
    hit = _either_side(draws.take(1), draws.between((MIN_HIT,), (MAX_HIT,)))[:, 0]
    return BalanceState(
        tick=np.zeros(count, dtype=np.int32),
        gripper=np.column_stack([cart_x, np.full(count, RAIL_Y_M)]).astype(np.float32),
        outcome=np.zeros(count, dtype=np.int32),
        prompt_index=draws.whole(0, num_prompts - 1),
        perturbation_tick=hit_tick if perturbation else np.full(count, -1, dtype=np.int32),
        cart_velocity=np.zeros(count, dtype=np.float32),
        angle=angle.copy(),
        rate=rate.copy(),
        spot_x=spot_x,
        kick_tick=kick_tick.astype(np.int32),
        kick=np.where(np.arange(NUM_KICKS) < num_kicks[:, None], kick, 0.0).astype(np.float32),
        hit=hit,
        light=draws.between((0.9,), (1.1,))[:, 0],
    )


def swing(state: BalanceState, cart_velocity: FloatArray) -> tuple[FloatArray, FloatArray]:
    """One tick without kicks: (angle, rate) after the cart has gone on with `cart_velocity` (float32[N], m/s)."""
    angle = state.angle
    rate = state.rate - (cart_velocity - state.cart_velocity) / POLE_LENGTH_M * np.cos(angle)
    half_s = TICK_S / _NUM_SUBSTEPS / 2
    for _ in range(_NUM_SUBSTEPS):
        rate = rate + half_s * GRAVITY / POLE_LENGTH_M * np.sin(angle)
        angle = angle + 2 * half_s * rate
        rate = rate + half_s * GRAVITY / POLE_LENGTH_M * np.sin(angle)
    has_stopped = np.abs(angle) >= STOP_RAD
    angle = np.clip(angle, -STOP_RAD, STOP_RAD)
    return angle.astype(np.float32), np.where(has_stopped, 0.0, rate).astype(np.float32)


def kicks(state: BalanceState, tick: IntArray) -> FloatArray:
    """What kicks and the perturbation add to the angular velocity at `tick`, float32[N] rad/s."""
    kick = (state.kick * (state.kick_tick == tick[:, None])).sum(axis=1)
    return (kick + np.where(state.perturbation_tick == tick, state.hit, 0.0)).astype(np.float32)


def _either_side(side: NDArray[np.float64], size: FloatArray) -> FloatArray:
    return np.where(side < 0.5, -size, size).astype(np.float32)
