"""Rates that do not divide: the rows of a chunk belong to whole ticks of the policy, wherever its commands lie."""

import numpy as np
import pytest

from cerebella.runtime.executor_config import Mode
from cerebella.runtime.trace import commands
from cerebella.types import ActionChunk, FloatArray, Observation

from .arm import Loop, ScriptedTransport, WanderingPolicy, make_arm, make_executor, make_metadata

STEP_RAD = 0.004
"""Per row."""


class SteadyPolicy(WanderingPolicy):
    """Goes on at one velocity for ever: from the prefix, else from where the path is at the observation's tick."""

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        tick = observation.tick
        first = float(action_prefix[0, 0]) if len(action_prefix) else STEP_RAD * (tick - FIRST_TICK)
        rows = np.zeros((self.metadata.horizon, self.metadata.embodiment.action_dim), dtype=np.float32)
        rows[:, :-1] = first + STEP_RAD * np.arange(self.metadata.horizon)[:, None]
        rows[: len(action_prefix)] = action_prefix
        return ActionChunk(rows, tick, tick, len(action_prefix), self.metadata.policy_id, 0.01)


FIRST_TICK = 2
"""When the first chunk begins: the delay of every answer, as the robot stands still until then."""


@pytest.mark.parametrize("mode", ["naive", "ensemble", "prefix"])
@pytest.mark.parametrize("control_hz", [30.0, 60.0, 100.0, 250.0])
def test_f22_a_hand_over_costs_no_time(control_hz: float, mode: Mode) -> None:
    """A steady motion stays steady over every hand-over: no chunk is played a part of a tick early or late."""
    policy = SteadyPolicy(make_metadata(make_arm(control_hz, acceleration=1e3, jerk=1e6), 24, 6), 0)
    executor = make_executor(policy, ScriptedTransport(policy, lambda k: [FIRST_TICK if k == 0 else 2]), mode)
    Loop(executor).run(int(4 * control_hz))
    assert executor.counters.outcomes["used"] + executor.counters.outcomes["late"] > 8
    steps = np.diff(commands(executor.trace)[int(control_hz) :, 0].astype(np.float64))
    period = STEP_RAD * 30.0 / control_hz
    assert steps.min() > 0.99 * period
    assert steps.max() < 1.01 * period
