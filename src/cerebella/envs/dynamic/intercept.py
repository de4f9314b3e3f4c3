"""Intercept: catch a puck whose bounces nobody can foresee, by staying at it for a while."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic import intercept_expert
from cerebella.envs.dynamic.intercept_physics import (
    CATCH_RADIUS_M,
    CATCH_TICKS,
    MAX_PUCK_SPEED,
    PUCK_RADIUS_M,
    WALL_M,
    InterceptState,
    is_near,
    move_puck,
    reset,
)
from cerebella.envs.dynamic.landmarks import Landmarks, one_of_each
from cerebella.envs.dynamic.picture import Picture
from cerebella.envs.dynamic.planar import LENGTH_M, WIDTH_M, move_gripper, place, planar_embodiments, speed, target
from cerebella.envs.dynamic.task import Task
from cerebella.types import FloatArray, ImageArray

CAUGHT, TIME = 1, 2

_PROMPTS = (
    "catch the puck",
    "intercept the puck",
    "get the puck",
    "catch the sliding puck",
    "grab the orange puck",
    "stop the puck for me",
    "please catch the puck",
    "chase the puck and catch it",
)
_FLOOR_RGB, _WALL_RGB, _PUCK_RGB, _HELD_RGB = (38, 44, 62), (92, 98, 120), (255, 138, 26), (255, 240, 120)
_TAIL_S = (0.16, 0.12, 0.08, 0.04)


class Intercept(Task[InterceptState]):
    """The puck is caught when the gripper stays within 14 mm of its centre for `CATCH_TICKS` ticks in a row.

    The picture shows the puck with a tail along its velocity; the puck lights up while the gripper is at it.
    """

    name = "dynamic/intercept"
    embodiment, state_embodiment = planar_embodiments(
        "intercept",
        states=(place("gripper_x", slot=0, high_m=LENGTH_M), place("gripper_y", slot=1, high_m=WIDTH_M)),
        actions=(target("gripper_x", slot=0, high_m=LENGTH_M), target("gripper_y", slot=1, high_m=WIDTH_M)),
        scene=(
            place("puck_x", slot=20, high_m=LENGTH_M),
            place("puck_y", slot=21, high_m=WIDTH_M),
            speed("puck_velocity_x", slot=22, highest=MAX_PUCK_SPEED),
            speed("puck_velocity_y", slot=23, highest=MAX_PUCK_SPEED),
        ),
    )
    outcomes = ("", "caught", "time")
    success = CAUGHT
    timeout = TIME
    max_ticks = 90
    landmark_names = ("puck", "tail", "gripper")

    def reset(self, seeds: Sequence[int] | NDArray[np.int64], perturbation: bool) -> InterceptState:
        """See `Task.reset`; the perturbation is a hit that turns the puck's velocity by 70..180 degrees."""
        return reset(seeds, perturbation, len(_PROMPTS))

    def step(self, state: InterceptState, actions: FloatArray, with_events: bool = True) -> InterceptState:
        """See `Task.step`; without events the walls are mirrors."""
        self.check_actions(actions, len(state))
        tick = state.tick + np.int32(1)
        gripper = move_gripper(state.gripper, actions)
        puck, velocity, num_bounces = move_puck(state, tick, with_events)
        ticks_near = np.where(is_near(gripper, puck), state.ticks_near + 1, 0).astype(np.int32)
        verdict = np.select([ticks_near >= CATCH_TICKS, tick >= self.max_ticks], [CAUGHT, TIME], 0)
        return replace(
            state,
            tick=tick,
            gripper=gripper,
            puck=puck,
            puck_velocity=velocity,
            num_bounces=num_bounces,
            ticks_near=ticks_near,
            outcome=np.where(state.is_running, verdict, state.outcome).astype(np.int32),
        )

    def proprioception(self, state: InterceptState) -> FloatArray:
        """float32[N, 2]: gripper x and y, metres."""
        return state.gripper.copy()

    def scene_numbers(self, state: InterceptState) -> FloatArray:
        """float32[N, 4]: puck x and y (m), its velocity along x and y (m/s)."""
        return np.concatenate([state.puck, state.puck_velocity], axis=1)

    def prompts(self, state: InterceptState) -> list[str]:
        """The instruction of every scene."""
        return [_PROMPTS[index] for index in state.prompt_index]

    def all_prompts(self) -> list[str]:
        """Every instruction."""
        return list(_PROMPTS)

    def render(self, state: InterceptState, height: int = 64, width: int = 96) -> ImageArray:
        """See `Task.render`."""
        picture = Picture(len(state), height, width, _FLOOR_RGB)
        for age_s in _TAIL_S:
            fresh = 1.0 - age_s / 0.2
            colour = np.array(_FLOOR_RGB) + 0.6 * fresh * (np.array(_PUCK_RGB) - np.array(_FLOOR_RGB))
            past = (state.puck - state.puck_velocity * age_s).astype(np.float32)
            picture.disc(past, PUCK_RADIUS_M * (0.4 + 0.6 * fresh), colour)
        _draw_walls(picture, len(state))
        share = np.minimum(state.ticks_near / CATCH_TICKS, 1.0)[:, None]
        picture.disc(state.puck, PUCK_RADIUS_M, _PUCK_RGB + share * (np.array(_HELD_RGB) - np.array(_PUCK_RGB)))
        picture.ring(state.gripper, CATCH_RADIUS_M, 0.0016, (40, 120, 130))
        picture.gripper(state.gripper, np.full(len(state), 0.6))
        return picture.finish(state.light)

    def landmarks(self, state: InterceptState) -> Landmarks:
        """The puck is the target; the far end of its tail tells its velocity."""
        tail = (state.puck - _TAIL_S[0] * state.puck_velocity).astype(np.float32)
        return one_of_each((state.puck, tail, state.gripper))

    def steady_style(self, num_scenes: int) -> FloatArray:
        """See `intercept_expert.steady_style`."""
        return intercept_expert.steady_style(num_scenes)

    def random_style(self, num_scenes: int, generator: np.random.Generator) -> FloatArray:
        """See `intercept_expert.random_style`."""
        return intercept_expert.random_style(num_scenes, generator)

    def expert_command(self, state: InterceptState, style: FloatArray) -> FloatArray:
        """See `intercept_expert.command`."""
        return intercept_expert.command(state, style)

    def metrics(self, state: InterceptState) -> Mapping[str, FloatArray]:
        """`puck_distance_m`: from the gripper to the puck. `num_bounces`: so far. `ticks_near`: in a row, up to now."""
        return {
            "puck_distance_m": np.linalg.norm(state.puck - state.gripper, axis=1).astype(np.float32),
            "num_bounces": state.num_bounces.astype(np.float32),
            "ticks_near": state.ticks_near.astype(np.float32),
        }


def _draw_walls(picture: Picture, num_scenes: int) -> None:
    for at, half in (
        ((LENGTH_M / 2, WALL_M / 2), (LENGTH_M / 2, WALL_M / 2)),
        ((LENGTH_M / 2, WIDTH_M - WALL_M / 2), (LENGTH_M / 2, WALL_M / 2)),
        ((WALL_M / 2, WIDTH_M / 2), (WALL_M / 2, WIDTH_M / 2)),
        ((LENGTH_M - WALL_M / 2, WIDTH_M / 2), (WALL_M / 2, WIDTH_M / 2)),
    ):
        picture.box(np.tile(np.array(at, dtype=np.float32), (num_scenes, 1)), half, _WALL_RGB)
