"""Balance: hold a pole upright on a cart while kicks come that nobody can foresee."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Dimension
from cerebella.envs.dynamic import balance_expert
from cerebella.envs.dynamic.balance_physics import (
    FALLEN_RAD,
    MAX_RATE,
    RAIL_HIGH_M,
    RAIL_LOW_M,
    RAIL_Y_M,
    STOP_RAD,
    BalanceState,
    kicks,
    reset,
    swing,
)
from cerebella.envs.dynamic.landmarks import Landmarks, one_of_each
from cerebella.envs.dynamic.picture import GRIPPER_RGB, Picture
from cerebella.envs.dynamic.planar import (
    LENGTH_M,
    MAX_SPEED,
    TICK_S,
    move_gripper,
    place,
    planar_embodiments,
    speed,
    target,
)
from cerebella.envs.dynamic.task import Task
from cerebella.types import FloatArray, ImageArray

BALANCED, FELL, OFF_THE_RAIL = 1, 2, 3

_PROMPTS = (
    "balance the pole",
    "keep the pole upright",
    "hold the pole up",
    "do not let the pole fall",
    "balance the pole over the mark",
    "keep the pole standing near the mark",
    "please balance the pole",
    "hold the stick upright on the cart",
)
_WALL_RGB, _RAIL_RGB, _SPOT_RGB, _POLE_RGB = (44, 40, 52), (120, 124, 140), (92, 220, 96), (236, 226, 200)
_TIP_RGB, _WHEEL_RGB, _TUBE_RGB = (246, 92, 76), (26, 26, 32), (24, 30, 36)
_DRAWN_POLE_M, _POLE_HALF_M, _TIP_RADIUS_M = 0.18, 0.0036, 0.011
_LEVEL_CENTRE_M, _LEVEL_HALF_M = (LENGTH_M / 2, 0.030), (0.13, 0.013)
_LEVEL_GAIN_M, _BUBBLE_RADIUS_M = 1.0, 0.009
_CART_HALF_M = (0.024, 0.011)
_TAIL_S = (0.24, 0.18, 0.12, 0.06)


class Balance(Task[BalanceState]):
    """The pole must stay within 0.6 rad of upright, and the cart on its rail, until the episode ends.

    Holding out is the success, so the episode that runs into its length limit is the balanced one: `timeout` equals
    `success`, and Gymnasium calls it truncated, with reward 1.

    The picture shows the scene from the side, the mark below the rail. What matters is a matter of few degrees, so the
    level at the top shows the pole's angle enlarged: the bubble is as far from the middle as a pole of 1 m would lean. The
    bubble's tail shows how the angle changes.
    """

    name = "dynamic/balance"
    embodiment, state_embodiment = planar_embodiments(
        "balance",
        states=(place("gripper_x", slot=0, high_m=LENGTH_M), speed("gripper_velocity_x", slot=13, highest=MAX_SPEED)),
        actions=(target("gripper_x", slot=0, high_m=LENGTH_M),),
        scene=(
            Dimension("pole_angle", "rad", "joint", "world", slot=20, low=-STOP_RAD, high=STOP_RAD),
            Dimension("pole_rate", "rad/s", "velocity", "world", slot=21, low=-MAX_RATE, high=MAX_RATE),
            place("spot_x", slot=22, high_m=LENGTH_M),
        ),
    )
    outcomes = ("", "balanced", "fell", "off the rail")
    success = BALANCED
    timeout = BALANCED
    max_ticks = 120
    landmark_names = ("bubble", "tail", "mark", "cart", "tip")

    def reset(self, seeds: Sequence[int] | NDArray[np.int64], perturbation: bool) -> BalanceState:
        """See `Task.reset`; the perturbation is a kick larger than all others."""
        return reset(seeds, perturbation, len(_PROMPTS))

    def step(self, state: BalanceState, actions: FloatArray, with_events: bool = True) -> BalanceState:
        """See `Task.step`; without events nobody kicks."""
        self.check_actions(actions, len(state))
        tick = state.tick + np.int32(1)
        gripper = move_gripper(state.gripper, np.column_stack([actions[:, 0], state.gripper[:, 1]]))
        cart_velocity = (gripper[:, 0] - state.gripper[:, 0]) / np.float32(TICK_S)
        angle, rate = swing(state, cart_velocity)
        if with_events:
            rate = rate + kicks(state, tick)
        rate = np.clip(rate, -MAX_RATE, MAX_RATE)
        has_left = (gripper[:, 0] < RAIL_LOW_M) | (gripper[:, 0] > RAIL_HIGH_M)
        verdict = np.select(
            [np.abs(angle) >= FALLEN_RAD, has_left, tick >= self.max_ticks], [FELL, OFF_THE_RAIL, BALANCED], 0
        )
        return replace(
            state,
            tick=tick,
            gripper=gripper,
            cart_velocity=cart_velocity.astype(np.float32),
            angle=angle,
            rate=rate.astype(np.float32),
            outcome=np.where(state.is_running, verdict, state.outcome).astype(np.int32),
        )

    def proprioception(self, state: BalanceState) -> FloatArray:
        """float32[N, 2]: the cart's place (m) and velocity (m/s) along the rail."""
        return np.column_stack([state.gripper[:, 0], state.cart_velocity]).astype(np.float32)

    def scene_numbers(self, state: BalanceState) -> FloatArray:
        """float32[N, 3]: the pole's angle (rad) and angular velocity (rad/s), the mark's x (m)."""
        return np.column_stack([state.angle, state.rate, state.spot_x]).astype(np.float32)

    def prompts(self, state: BalanceState) -> list[str]:
        """The instruction of every scene."""
        return [_PROMPTS[index] for index in state.prompt_index]

    def all_prompts(self) -> list[str]:
        """Every instruction."""
        return list(_PROMPTS)

    def render(self, state: BalanceState, height: int = 64, width: int = 96) -> ImageArray:
        """See `Task.render`; the pole is drawn 0.18 m long."""
        picture = Picture(len(state), height, width, _WALL_RGB)
        cart = state.gripper
        rail = np.tile(np.array([(RAIL_LOW_M + RAIL_HIGH_M) / 2, RAIL_Y_M], dtype=np.float32), (len(state), 1))
        rail_half = (RAIL_HIGH_M - RAIL_LOW_M) / 2 + _CART_HALF_M[0] / 2
        picture.box(rail + _below(0.016), (rail_half, 0.003), _RAIL_RGB)
        spot = np.column_stack([state.spot_x, np.full(len(state), RAIL_Y_M)]).astype(np.float32)
        picture.box(spot + _below(0.028), (0.007, 0.007), _SPOT_RGB, np.pi / 4)
        middle = cart + _along_pole(state.angle, _DRAWN_POLE_M / 2)
        picture.box(middle, (_POLE_HALF_M, _DRAWN_POLE_M / 2), _POLE_RGB, state.angle)
        picture.disc(cart + _along_pole(state.angle, _DRAWN_POLE_M), _TIP_RADIUS_M, _TIP_RGB)
        picture.box(cart, _CART_HALF_M, GRIPPER_RGB)
        picture.disc(cart, 0.005, _WHEEL_RGB)
        _draw_level(picture, state)
        return picture.finish(state.light)

    def landmarks(self, state: BalanceState) -> Landmarks:
        """The level's bubble is the target; the far end of its tail tells the pole's rate."""
        spot = np.column_stack([state.spot_x, np.full(len(state), RAIL_Y_M)]) + _below(0.028)
        tip = state.gripper + _along_pole(state.angle, _DRAWN_POLE_M)
        return one_of_each((_bubble(state, 0.0), _bubble(state, _TAIL_S[0]), spot, state.gripper, tip))

    def steady_style(self, num_scenes: int) -> FloatArray:
        """See `balance_expert.steady_style`."""
        return balance_expert.steady_style(num_scenes)

    def random_style(self, num_scenes: int, generator: np.random.Generator) -> FloatArray:
        """See `balance_expert.random_style`."""
        return balance_expert.random_style(num_scenes, generator)

    def expert_command(self, state: BalanceState, style: FloatArray) -> FloatArray:
        """See `balance_expert.command`."""
        return balance_expert.command(state, style)

    def metrics(self, state: BalanceState) -> Mapping[str, FloatArray]:
        """`pole_angle_rad` from upright, `spot_distance_m` from the cart to the mark, `num_kicks` so far."""
        has_come = (state.kick != 0.0) & (state.kick_tick <= state.tick[:, None])
        return {
            "pole_angle_rad": np.abs(state.angle),
            "spot_distance_m": np.abs(state.gripper[:, 0] - state.spot_x),
            "num_kicks": has_come.sum(axis=1).astype(np.float32),
        }


def _draw_level(picture: Picture, state: BalanceState) -> None:
    """A tube whose bubble lies where the angle is, enlarged."""
    centre = np.tile(np.array(_LEVEL_CENTRE_M, dtype=np.float32), (len(state), 1))
    picture.box(centre, _LEVEL_HALF_M, _TUBE_RGB)
    for age_s in (*_TAIL_S, 0.0):
        share = 1.0 if age_s == 0.0 else 0.6 * (1.0 - age_s / 0.3)
        colour = np.array(_TUBE_RGB) + share * (np.array(_TIP_RGB) - np.array(_TUBE_RGB))
        picture.disc(_bubble(state, age_s), _BUBBLE_RADIUS_M * (0.5 + 0.5 * share), colour)
    for side in (-1.0, 1.0):
        line = centre + np.array([side * 1.6 * _BUBBLE_RADIUS_M, 0.0], dtype=np.float32)
        picture.box(line, (0.001, _LEVEL_HALF_M[1]), _RAIL_RGB)


def _bubble(state: BalanceState, age_s: float) -> FloatArray:
    """Where the bubble was `age_s` ago at the rate of now, float32[N, 2]."""
    reach = _LEVEL_HALF_M[0] - _BUBBLE_RADIUS_M
    offset = np.clip(_LEVEL_GAIN_M * (state.angle - age_s * state.rate), -reach, reach)
    centre = np.tile(np.array(_LEVEL_CENTRE_M, dtype=np.float32), (len(state), 1))
    return centre + np.column_stack([offset, np.zeros(len(state))]).astype(np.float32)


def _below(distance_m: float) -> FloatArray:
    """An offset downwards in the picture, float32[2]."""
    return np.array([0.0, distance_m], dtype=np.float32)


def _along_pole(angle: FloatArray, distance_m: float) -> FloatArray:
    """From the pivot along a pole at `angle`, float32[N, 2]."""
    return (distance_m * np.column_stack([np.sin(angle), -np.cos(angle)])).astype(np.float32)
