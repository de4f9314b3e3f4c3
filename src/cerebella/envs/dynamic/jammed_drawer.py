"""Jammed drawer: pull it open although it sticks now and then, where a plan made before the jam only pulls.

Everything that was promised before a jam says "pull", and the observation says "stuck": a policy that copies the rows it
has promised breaks the handle. What to do about a jam is never in doubt: go back, and to the side that the lamp shows.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Dimension
from cerebella.envs.dynamic import jammed_drawer_physics as physics
from cerebella.envs.dynamic.draws import Draws
from cerebella.envs.dynamic.jammed_drawer_physics import MAX_JAMS, NEVER_M, JammedDrawerState
from cerebella.envs.dynamic.jammed_drawer_render import LANDMARKS, landmarks, render
from cerebella.envs.dynamic.landmarks import Landmarks
from cerebella.envs.dynamic.planar import LENGTH_M, TICK_S, WIDTH_M, lead_servo, place, planar_embodiments, target
from cerebella.envs.dynamic.task import FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK, Task
from cerebella.types import FloatArray, ImageArray

PROMPTS = (
    "open the drawer",
    "pull the drawer open",
    "please open the drawer",
    "slide the drawer out",
    "get the drawer open",
    "pull the drawer out as far as the green line",
    "open the drawer without breaking the handle",
    "could you open this drawer",
)

LOWEST_SPEED, HIGHEST_SPEED, STEADY_SPEED = 0.25, 0.38, 0.30
"""How fast experts pull, m/s."""
NARROWEST_M, WIDEST_M, STEADY_SWING_M = 0.023, 0.029, 0.025
"""How far experts swing aside to free a jam."""

_FIRST_JAM_M, _LAST_JAM_BEFORE_GOAL_M, _JAM_GAP_M = 0.03, 0.03, 0.035
_BACK_SPEED, _SIDE_SPEED, _GAIN = 0.12, 0.18, 0.5
_BACK_MARGIN_M = 0.003
_LONGEST_CHANGE_M = 0.9 * TICK_S
_NUM_DRAWS = 5 + 1 + 2 * MAX_JAMS + 2 + (MAX_JAMS + 1) + 1


def _number(name: str, slot: int, low: float, high: float, unit: str = "1") -> Dimension:
    return Dimension(name, unit, "joint", "drawer", slot=slot, low=low, high=high)


class JammedDrawer(Task[JammedDrawerState]):
    """`dynamic/jammed_drawer`. Styles: float32[N, 2], how fast one pulls (m/s) and how far one swings aside (m)."""

    name = "dynamic/jammed_drawer"
    embodiment, state_embodiment = planar_embodiments(
        "jammed_drawer",
        states=(
            place("gripper_x", slot=0, high_m=LENGTH_M),
            place("gripper_y", slot=1, high_m=WIDTH_M),
            Dimension("force_x", "N", "joint", "world", slot=13, low=-240.0, high=240.0),
        ),
        actions=(target("gripper_x", slot=0, high_m=LENGTH_M), target("gripper_y", slot=1, high_m=WIDTH_M)),
        scene=(
            place("drawer_opening", slot=7, high_m=0.32),
            place("drawer_axis_y", slot=8, high_m=WIDTH_M),
            place("goal_opening", slot=9, high_m=0.32),
            _number("is_jammed", slot=10, low=0.0, high=1.0),
            _number("jam_side", slot=11, low=-1.0, high=1.0),
            _number("back_to_go", slot=12, low=0.0, high=2 * physics.RELEASE_M, unit="m"),
            _number("strain", slot=14, low=0.0, high=1.0),
        ),
    )
    outcomes = physics.OUTCOMES
    success = physics.OPEN
    timeout = physics.TIME
    max_ticks = physics.MAX_TICKS
    landmark_names = LANDMARKS

    def reset(self, seeds: Sequence[int] | NDArray[np.int64], perturbation: bool) -> JammedDrawerState:
        """See `Task`. The drawer is nearly shut, the gripper holds its handle."""
        draws = Draws(seeds, _NUM_DRAWS, self.name)
        count = len(draws)
        closed_x, axis_y, opening, goal, light = draws.between(
            (0.06, 0.11, 0.0, 0.25, 0.88), (0.10, 0.21, 0.015, 0.30, 1.10)
        ).T
        places = _jam_places(goal, draws.whole(2, MAX_JAMS), draws.take(MAX_JAMS))
        sides = np.where(draws.take(MAX_JAMS) < 0.5, -1, 1).astype(np.int32)
        ticks = draws.whole(FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK)
        perturbed_side = np.where(draws.take(1)[:, 0] < 0.5, -1, 1).astype(np.int32)
        shares = draws.between([physics.LEAST_SHARE] * (MAX_JAMS + 1), [physics.LARGEST_SHARE] * (MAX_JAMS + 1))
        zeros, counts = np.zeros(count, dtype=np.float32), np.zeros(count, dtype=np.int32)
        return JammedDrawerState(
            tick=counts,
            gripper=np.column_stack([closed_x + opening, axis_y]).astype(np.float32),
            outcome=counts,
            prompt_index=draws.whole(0, len(PROMPTS) - 1),
            perturbation_tick=ticks if perturbation else np.full(count, -1, dtype=np.int32),
            closed_x=closed_x,
            axis_y=axis_y,
            goal_opening=goal,
            force=zeros,
            strain=zeros,
            jammed_at=np.full(count, physics.FREE, dtype=np.float32),
            jam_side=counts,
            release_share=zeros,
            num_jams=counts,
            ticks_jammed=counts,
            num_scheduled_passed=counts,
            scheduled_opening=places,
            scheduled_side=sides,
            scheduled_share=shares[:, :MAX_JAMS],
            perturbed_side=perturbed_side,
            perturbed_share=shares[:, MAX_JAMS],
            light=light,
        )

    def step(self, state: JammedDrawerState, actions: FloatArray, with_events: bool = True) -> JammedDrawerState:
        """See `Task` and `jammed_drawer_physics`."""
        self.check_actions(actions, len(state))
        return physics.step(state, actions, with_events)

    def proprioception(self, state: JammedDrawerState) -> FloatArray:
        """float32[N, 3]: gripper x and y (m), force along x (N)."""
        return np.column_stack([state.gripper, state.force]).astype(np.float32)

    def scene_numbers(self, state: JammedDrawerState) -> FloatArray:
        """float32[N, 7]: opening, axis and goal (m), jammed (0 or 1), side (-1, 0, 1), way back to go (m), strain."""
        columns = (state.opening, state.axis_y, state.goal_opening, state.is_jammed, state.jam_side)
        return np.column_stack([*columns, state.back_to_go_m, state.strain]).astype(np.float32)

    def prompts(self, state: JammedDrawerState) -> list[str]:
        """See `Task`."""
        return [PROMPTS[index] for index in state.prompt_index]

    def all_prompts(self) -> list[str]:
        """See `Task`."""
        return list(PROMPTS)

    def render(self, state: JammedDrawerState, height: int = 64, width: int = 96) -> ImageArray:
        """See `Task` and `jammed_drawer_render`."""
        return render(state, height, width)

    def landmarks(self, state: JammedDrawerState) -> Landmarks:
        """See `Task` and `jammed_drawer_render`."""
        return landmarks(state)

    def steady_style(self, num_scenes: int) -> FloatArray:
        """See `Task`."""
        return np.tile(np.array([STEADY_SPEED, STEADY_SWING_M], dtype=np.float32), (num_scenes, 1))

    def random_style(self, num_scenes: int, generator: np.random.Generator) -> FloatArray:
        """See `Task`."""
        low, high = (LOWEST_SPEED, NARROWEST_M), (HIGHEST_SPEED, WIDEST_M)
        return generator.uniform(low, high, (num_scenes, 2)).astype(np.float32)

    def expert_command(self, state: JammedDrawerState, style: FloatArray) -> FloatArray:
        """Free: pull, back to the axis. Jammed: go back, and to the jam's side, until it is free.

        The target's x changes by 0.9 m/s at most: what was commanded last is in the force.
        """
        swing = state.jam_side * style[:, 1]
        back = np.minimum(_GAIN * (state.back_to_go_m + _BACK_MARGIN_M), _BACK_SPEED * TICK_S)
        forward = np.where(state.is_jammed, -back, style[:, 0] * TICK_S)
        longest = _SIDE_SPEED * TICK_S
        aside = np.clip(_GAIN * (state.axis_y + swing - state.gripper[:, 1]), -longest, longest)
        command = lead_servo(state.gripper, np.column_stack([forward, aside]).astype(np.float32))
        last_x = state.gripper[:, 0] + state.force / physics.SPRING_N_PER_M
        command[:, 0] = np.clip(command[:, 0], last_x - _LONGEST_CHANGE_M, last_x + _LONGEST_CHANGE_M)
        return command.astype(np.float32)

    def metrics(self, state: JammedDrawerState) -> Mapping[str, FloatArray]:
        """`opening_m`; `num_jams` so far; `ticks_jammed` so far; `strain` now, 0..1."""
        return {
            "opening_m": state.opening,
            "num_jams": state.num_jams.astype(np.float32),
            "ticks_jammed": state.ticks_jammed.astype(np.float32),
            "strain": state.strain,
        }


def _jam_places(goal: FloatArray, number: NDArray[np.int32], shares: NDArray[np.float64]) -> FloatArray:
    """`number` (int[N]) openings with a gap of 3.5 cm at least, float32[N, K] metres, rising, `NEVER_M` behind the last."""
    index = np.arange(MAX_JAMS)
    is_used = index < number[:, None]
    ordered = np.sort(np.where(is_used, shares, 2.0), axis=1)
    room_m = goal - _LAST_JAM_BEFORE_GOAL_M - _FIRST_JAM_M - (number - 1) * _JAM_GAP_M
    places = _FIRST_JAM_M + room_m[:, None] * ordered + index * _JAM_GAP_M
    return np.where(is_used, places, NEVER_M).astype(np.float32)
