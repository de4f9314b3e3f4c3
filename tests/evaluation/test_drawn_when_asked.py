"""Pictures drawn for requests only: nothing but the time changes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.embodiment import Embodiment
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.evaluation.rollout import DrawsWhenAsked, rollout_virtual
from cerebella.interfaces import PolicyMetadata, Status
from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.types import Action, ActionChunk, FloatArray, ImageArray, Observation
from tests.recipes.short_cube import ShortCube

HORIZON = 8


class BrightnessPolicy:
    """Opens the left gripper as far as the left wrist's picture is bright, and turns what it holds to move that picture."""

    def __init__(self, embodiment: Embodiment) -> None:
        self.metadata = PolicyMetadata("brightness", embodiment, HORIZON, None, HORIZON - 1, "none")

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        robot = self.metadata.embodiment
        held = robot.hold(observation, None).values
        actions = np.tile(held, (HORIZON, 1))
        bright = observation.images["left_wrist"].mean() / 255.0
        actions[:, robot.action_index("left_gripper")] = bright
        actions[:, robot.action_index("left_z")] += np.float32(0.02 * np.sin(20.0 * bright))
        actions[: len(action_prefix)] = action_prefix
        return ActionChunk(actions, observation.tick, observation.tick, len(action_prefix), "brightness", 0.0)


class CountingCell(WorkcellEnvironment[Any]):
    num_drawn = 0

    def draw(self) -> dict[str, ImageArray]:
        CountingCell.num_drawn += 1
        return super().draw()


class Plain:
    """The same cell as any other environment."""

    def __init__(self, cell: WorkcellEnvironment[Any]) -> None:
        self.cell = cell
        self.embodiment = cell.embodiment

    def reset(self, seed: int) -> None:
        self.cell.reset(seed)

    def observe(self) -> Observation:
        return self.cell.observe()

    def apply(self, action: Action) -> None:
        self.cell.apply(action)

    def status(self) -> Status:
        return self.cell.status()


@pytest.fixture(scope="module")
def cell() -> Iterator[WorkcellEnvironment[Any]]:
    made = CountingCell(ShortCube(), render_size=(32, 32))
    yield made
    made.close()


def test_the_commands_are_the_same_and_most_pictures_are_spared(cell: WorkcellEnvironment[Any]) -> None:
    policy, config = BrightnessPolicy(cell.embodiment), ExecutorConfig("naive", 5)
    assert isinstance(cell, DrawsWhenAsked)
    assert not isinstance(Plain(cell), DrawsWhenAsked)
    drawn = []
    episodes = []
    for environment in (cell, Plain(cell)):
        CountingCell.num_drawn = 0
        episodes += rollout_virtual(policy, lambda each=environment: each, config, 2, [3], max_ticks=40)
        drawn.append(CountingCell.num_drawn)
    spared, every = episodes
    np.testing.assert_array_equal(spared.log.values, every.log.values)
    assert len(np.unique(spared.log.values[:, cell.embodiment.action_index("left_gripper")])) > 5
    assert drawn == [len(spared.requests), 40]
    assert len(spared.requests) < 15
