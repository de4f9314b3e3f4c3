"""Runs a task's expert against an environment, tick by tick: targets in the world become commands of its control mode."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.cell import CONTROL_HZ
from cerebella.envs.workcell.disturbance import Disturbance
from cerebella.envs.workcell.embodiment import SIDES
from cerebella.envs.workcell.environment import ARM_STATE_DIM, POSE, WorkcellEnvironment
from cerebella.envs.workcell.task import ArmTarget, Plan
from cerebella.geometry import Array, inverse, nearest_axis_angle, so3_log
from cerebella.interfaces import Status
from cerebella.types import Action


class ExpertDriver:
    """The expert of one episode; make a new one after each reset.

    With a disturbance, what is sent is beside what the expert asks for. The expert does not know: an arm's newest request, where
    its motions start and which it keeps while it waits or grips, is then the one that it made itself. Otherwise each motion
    would start at an error, and keep it. So its commands are the smooth path that they are without a disturbance, and from
    wherever an arm was brought, they are the way back. What it measures (things, grips, poses) is what is.

    Args:
        environment: at the start of its episode.
        seed: of the expert's style, 0 or above.
        disturbance: new, too; None for none.

    Attributes:
        is_finished: the expert has nothing more to do; it holds still.
        sent: what to apply for the newest action: the action itself without a disturbance.
    """

    def __init__(
        self, environment: WorkcellEnvironment[Any], seed: int = 0, disturbance: Disturbance | None = None
    ) -> None:
        """See the class."""
        self._environment, self._disturbance = environment, disturbance
        cell = environment.cell
        self._arms = (cell.left, cell.right)
        self._plan: Plan = environment.task.expert(cell, environment.episode, np.random.default_rng(seed))
        self._targets = [ArmTarget(arm.T_world_requested, arm.requested_opening) for arm in self._arms]
        self._asked_rad = [arm.requested_rad for arm in self._arms]
        state = environment.observe_state().reshape(len(SIDES), ARM_STATE_DIM)
        self._rotations: list[Array] = [row[POSE][3:].astype(np.float64) for row in state]
        self.is_finished = False

    def next_action(self) -> Action:
        """The expert's command for the current tick. Call it once per tick, and apply what is `sent`."""
        sent_rad = [arm.requested_rad for arm in self._arms]
        if self._disturbance is not None:
            self._request(self._asked_rad)
        targets = next(self._plan, None)
        if targets is None:
            self.is_finished = True
        else:
            self._targets = list(targets)
        action = self.sent = self._action(self._targets)
        if self._disturbance is not None:
            asked = zip(self._arms, self._targets, strict=True)
            self._asked_rad = [arm.joints_at(target.T_world_tool)[0] for arm, target in asked]
            self._request(sent_rad)
            rotations = list(self._rotations)
            self.sent = self._action(self._disturbance.missed(self._targets, self._environment.truth()))
            self._rotations = rotations
        return action

    def _request(self, joints_rad: Sequence[Array]) -> None:
        for arm, joints in zip(self._arms, joints_rad, strict=True):
            arm.requested_rad = joints

    def _action(self, targets: Sequence[ArmTarget]) -> Action:
        joined = zip(SIDES, targets, strict=True)
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
    return (action for action, _ in disturbed_ticks(environment, seed, style_seed))


def disturbed_ticks(
    environment: WorkcellEnvironment[Any], seed: int, style_seed: int = 0, disturbance: Disturbance | None = None
) -> Iterator[tuple[Action, Action]]:
    """Like `expert_ticks`: yields what the expert asks for, and what is sent and will be applied."""
    environment.reset(seed)
    driver = ExpertDriver(environment, style_seed, disturbance)
    num_idle = 0
    while not environment.status().is_done and num_idle <= CONTROL_HZ:
        action = driver.next_action()
        num_idle += driver.is_finished
        yield action, driver.sent
        environment.apply(driver.sent)
