"""Insert the peg into the hole of a block that slides along x and changes its velocity without warning.

The expert follows the hole with feed-forward and stays above a funnel: only over the hole may the tip go down. It is a
law of the state alone, so after a miss it lifts, centres and comes back.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Dimension
from cerebella.envs.dynamic import insert_moving_physics as physics
from cerebella.envs.dynamic.insert_moving_physics import InsertMovingState
from cerebella.envs.dynamic.insert_moving_picture import GAUGE_BELOW_M, GAUGE_S, render
from cerebella.envs.dynamic.insert_moving_reset import reset
from cerebella.envs.dynamic.landmarks import Landmarks, one_of_each
from cerebella.envs.dynamic.planar import (
    LENGTH_M,
    TICK_S,
    WIDTH_M,
    lead_servo,
    place,
    planar_embodiments,
    speed,
    target,
)
from cerebella.envs.dynamic.task import Task
from cerebella.types import FloatArray, ImageArray

PROMPTS = (
    "insert the peg into the hole",
    "put the peg into the moving hole",
    "push the peg into the slot of the sliding block",
    "place the peg in the block",
    "plug the peg into the moving block",
    "fit the peg into the hole of the block",
)
MIN_STYLE, MAX_STYLE = (0.18, 0.015, 0.12), (0.36, 0.045, 0.30)
"""Ranges of a style: approach speed relative to the block (m/s), hover height (m), speed of the descent above (m/s)."""
STEADY_STYLE = (0.30, 0.025, 0.20)

_GAIN = 0.45
_FUNNEL_SLOPE, _FUNNEL_PLAY_M = 2.5, 0.005
_LIFT_SPEED = 0.30
_ENTRY_M = 0.004
_CENTRED_M = 0.02


class InsertMoving(Task[InsertMovingState]):
    """See the module; `insert_moving_physics` has the constants and what the contact does.

    State: tip of the peg (m), side load and push of the contact (N); then the hole's x (m), its velocity (m/s) and the y of
    the surface (m). Style: float32[N, 3], see `MIN_STYLE`.
    """

    name = "dynamic/insert_moving"
    outcomes = physics.OUTCOMES
    success = physics.INSERTED
    timeout = physics.TIME
    max_ticks = physics.MAX_TICKS
    landmark_names = ("hole", "gauge", "peg")
    embodiment, state_embodiment = planar_embodiments(
        "insert_moving",
        states=(
            place("gripper_x", slot=0, high_m=LENGTH_M),
            place("gripper_y", slot=1, high_m=WIDTH_M),
            Dimension("force_x", "N", "joint", "world", slot=7, low=-20.0, high=20.0),
            Dimension("force_y", "N", "joint", "world", slot=8, low=-20.0, high=20.0),
        ),
        actions=(target("gripper_x", slot=0, high_m=LENGTH_M), target("gripper_y", slot=1, high_m=WIDTH_M)),
        scene=(
            place("hole_x", slot=14, high_m=LENGTH_M),
            speed("hole_velocity", slot=15, highest=0.2),
            place("surface_y", slot=16, high_m=WIDTH_M),
        ),
    )

    def reset(self, seeds: Sequence[int] | NDArray[np.int64], perturbation: bool) -> InsertMovingState:
        """See `Task`."""
        return reset(seeds, perturbation, len(PROMPTS))

    def step(self, state: InsertMovingState, actions: FloatArray, with_events: bool = True) -> InsertMovingState:
        """See `Task`."""
        self.check_actions(actions, len(state))
        return physics.step(state, actions, with_events)

    def proprioception(self, state: InsertMovingState) -> FloatArray:
        """See `Task`."""
        return np.column_stack([state.gripper, state.force]).astype(np.float32)

    def scene_numbers(self, state: InsertMovingState) -> FloatArray:
        """See `Task`."""
        return np.column_stack([state.hole_x, state.hole_velocity, state.surface_m]).astype(np.float32)

    def prompts(self, state: InsertMovingState) -> list[str]:
        """See `Task`."""
        return [PROMPTS[i] for i in state.prompt_index]

    def all_prompts(self) -> list[str]:
        """See `Task`."""
        return list(PROMPTS)

    def render(self, state: InsertMovingState, height: int = 64, width: int = 96) -> ImageArray:
        """See `Task`."""
        return render(state, height, width)

    def landmarks(self, state: InsertMovingState) -> Landmarks:
        """The hole is the target; the end of the gauge below it tells its velocity."""
        hole = np.column_stack([state.hole_x, state.surface_m])
        gauge = np.column_stack([state.hole_x + GAUGE_S * state.hole_velocity, state.surface_m + GAUGE_BELOW_M])
        return one_of_each((hole, gauge, state.gripper))

    def steady_style(self, num_scenes: int) -> FloatArray:
        """See `Task`."""
        return np.tile(np.array(STEADY_STYLE, dtype=np.float32), (num_scenes, 1))

    def random_style(self, num_scenes: int, generator: np.random.Generator) -> FloatArray:
        """See `Task`."""
        return generator.uniform(MIN_STYLE, MAX_STYLE, (num_scenes, 3)).astype(np.float32)

    def expert_command(self, state: InsertMovingState, style: FloatArray) -> FloatArray:
        """See `Task`; per tick it moves with the hole, towards it, and down or up to the funnel."""
        approach, hover_m, descent = style.T
        error = state.hole_x - state.gripper[:, 0]
        distance = np.abs(error)
        next_x, _ = physics.slide(state.hole_x, state.hole_velocity)
        move_x = next_x - state.hole_x + np.clip(_GAIN * error, -approach * TICK_S, approach * TICK_S)

        height_m = np.minimum(_FUNNEL_SLOPE * (distance - _FUNNEL_PLAY_M), hover_m)
        above = np.clip(_GAIN * (-height_m - state.depth_m), -_LIFT_SPEED * TICK_S, descent * TICK_S)
        inside = physics.INSERTION_SPEED * TICK_S * np.clip(1.25 - distance / _CENTRED_M, 0.0, 1.25)
        share_inside = np.clip(state.depth_m / _ENTRY_M, 0.0, 1.0)
        move_y = above + share_inside * (inside - above)
        return lead_servo(state.gripper, np.column_stack([move_x, move_y]).astype(np.float32))

    def metrics(self, state: InsertMovingState) -> Mapping[str, FloatArray]:
        """`depth_m` of the tip (negative above the surface), `side_load_n`, `error_m` to the hole's axis."""
        return {
            "depth_m": state.depth_m,
            "side_load_n": np.abs(state.force[:, 0]),
            "error_m": np.abs(state.hole_x - state.gripper[:, 0]),
        }
