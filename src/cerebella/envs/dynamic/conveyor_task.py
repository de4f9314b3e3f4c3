"""The conveyor as a `Task`: pick the named part from a belt that changes its speed."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic import conveyor_expert, conveyor_prompts, conveyor_render, conveyor_reset
from cerebella.envs.dynamic.conveyor import (
    COLOURS,
    CONVEYOR,
    CONVEYOR_STATE,
    OUTCOMES,
    PICKED,
    TIME,
    ConveyorConfig,
    ConveyorState,
    step,
)
from cerebella.envs.dynamic.landmarks import Landmarks
from cerebella.envs.dynamic.task import Task
from cerebella.types import FloatArray, ImageArray


class ConveyorTask(Task[ConveyorState]):
    """The belt jumps to another speed about once a second; a perturbation is a large change of its speed, or a push against
    the named part.
    """

    name = "dynamic/conveyor"
    embodiment = CONVEYOR
    state_embodiment = CONVEYOR_STATE
    outcomes = OUTCOMES
    success = PICKED
    timeout = TIME
    config = ConveyorConfig()
    max_ticks = config.max_ticks
    landmark_names = (*COLOURS, "gripper")

    def reset(self, seeds: Sequence[int] | NDArray[np.int64], perturbation: bool) -> ConveyorState:
        """See `Task`; the gripper is open."""
        return conveyor_reset.reset(seeds, perturbation, self.config)

    def step(self, state: ConveyorState, actions: FloatArray, with_events: bool = True) -> ConveyorState:
        """See `Task`; actions: gripper x and y (m), opening (1)."""
        self.check_actions(actions, len(state))
        return step(self.config, state, actions, with_events)

    def proprioception(self, state: ConveyorState) -> FloatArray:
        """Gripper x and y (m), opening (1), belt speed (m/s)."""
        return state.proprioception

    def scene_numbers(self, state: ConveyorState) -> FloatArray:
        """The named part: its place (m), its offset from the gripper (m), whether it is held."""
        part, is_held = state.target_position, state.grasped == state.target
        return np.column_stack([part, part - state.gripper, is_held]).astype(np.float32)

    def prompts(self, state: ConveyorState) -> list[str]:
        """Names the part by its colour, or colour and shape."""
        return conveyor_prompts.prompts(state)

    def all_prompts(self) -> list[str]:
        """See `Task`."""
        return conveyor_prompts.all_prompts()

    def render(self, state: ConveyorState, height: int = 64, width: int = 96) -> ImageArray:
        """See `Task`."""
        return conveyor_render.render(self.config, state, height, width)

    def landmarks(self, state: ConveyorState) -> Landmarks:
        """The parts by their colours, the gripper last; the target is the named part."""
        one = np.ones((len(state), 1), dtype=np.int64)
        return Landmarks(
            position=np.concatenate([state.part_position, state.gripper[:, None]], axis=1),
            is_present=np.concatenate([state.part_is_present, one.astype(np.bool_)], axis=1),
            class_index=np.concatenate([state.part_colour.astype(np.int64), one * len(COLOURS)], axis=1),
            target=state.target.astype(np.int64),
        )

    def steady_style(self, num_scenes: int) -> FloatArray:
        """Straight at 0.35 m/s."""
        return conveyor_expert.steady_style(num_scenes)

    def random_style(self, num_scenes: int, generator: np.random.Generator) -> FloatArray:
        """Speeds, and bows to either side."""
        return conveyor_expert.random_style(num_scenes, generator)

    def expert_command(self, state: ConveyorState, style: FloatArray) -> FloatArray:
        """See `conveyor_expert`."""
        return conveyor_expert.expert_command(self.config, state, style)

    def metrics(self, state: ConveyorState) -> Mapping[str, FloatArray]:
        """`num_grasp_attempts` (closings of the gripper), `belt_speed` (m/s), `gripper_distance_m` to the named part."""
        offset = state.target_position - state.gripper
        return {
            "num_grasp_attempts": state.num_attempts.astype(np.float32),
            "belt_speed": state.belt_speed,
            "gripper_distance_m": np.linalg.norm(offset, axis=1),
        }
