"""Runs a task's expert against an environment, tick by tick: targets in the world become commands of its control mode."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.cell import CONTROL_HZ
from cerebella.envs.workcell.embodiment import SIDES
from cerebella.envs.workcell.environment import ARM_STATE_DIM, POSE, WorkcellEnvironment
from cerebella.envs.workcell.task import ArmTarget, Plan
from cerebella.geometry import Array, inverse, nearest_axis_angle, so3_log
from cerebella.interfaces import Status
from cerebella.types import Action


class ExpertDriver:
    """The expert of one episode; make a new one after each reset.

    Args:
        environment: at the start of its episode.
        seed: of the expert's style, 0 or above.

    Attributes:
        is_finished: the expert has nothing more to do; it holds still.
    """

    def __init__(self, environment: WorkcellEnvironment[Any], seed: int = 0) -> None:
        """See the class."""
        self._environment = environment
        cell = environment.cell
        self._plan: Plan = environment.task.expert(cell, environment.episode, np.random.default_rng(seed))
        self._targets = [ArmTarget(arm.T_world_requested, arm.requested_opening) for arm in (cell.left, cell.right)]
        state = environment.observe_state().reshape(len(SIDES), ARM_STATE_DIM)
        self._rotations: list[Array] = [row[POSE][3:].astype(np.float64) for row in state]
        self.is_finished = False

    def next_action(self) -> Action:
        """The command for the current tick. Call it once per tick, and apply what it gives."""
        targets = next(self._plan, None)
        if targets is None:
            self.is_finished = True
        else:
            self._targets = list(targets)
        joined = zip(SIDES, self._targets, strict=True)
        values = np.concatenate([self._command(i, side, target) for i, (side, target) in enumerate(joined)])
        return Action(values=values.astype(np.float32), tick=self._environment.cell.tick)

    def _command(self, index: int, side: Side, target: ArmTarget) -> Array:
        arm = self._environment.cell.arm(side)
        if self._environment.embodiment.control_mode == "joint":
            return np.array([target.opening, *arm.joints_at(target.T_world_tool)[0]])
        T_base_tool = inverse(arm.T_world_base) @ target.T_world_tool
        rotation = nearest_axis_angle(so3_log(T_base_tool[:3, :3]), self._rotations[index])
        self._rotations[index] = rotation
        return np.array([*T_base_tool[:3, 3], *rotation, target.opening])


def run_expert(environment: WorkcellEnvironment[Any], seed: int, style_seed: int = 0) -> Status:
    """One episode by the expert: until it is decided, or the expert has held still for one second after its last target."""
    for _ in expert_ticks(environment, seed, style_seed):
        pass
    return environment.status()


def expert_ticks(environment: WorkcellEnvironment[Any], seed: int, style_seed: int = 0) -> Iterator[Action]:
    """Reset, then play an episode; yields each command before it is applied, so that a recorder can observe first."""
    environment.reset(seed)
    driver = ExpertDriver(environment, style_seed)
    num_idle = 0
    while not environment.status().is_done and num_idle <= CONTROL_HZ:
        action = driver.next_action()
        num_idle += driver.is_finished
        yield action
        environment.apply(action)
