"""The emergency stop with the executor: latched at any moment of a run, no command leaves after it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.runtime.clock import VirtualClock
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.drive import drive
from cerebella.runtime.emergency_stop import EmergencyStop, EmergencyStopLatched
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.instruments.robot_stub import RobotStub
from cerebella.runtime.instruments.sway import SwayPolicy
from cerebella.runtime.transport import VirtualTransport, batched

HORIZON, EXECUTE_HORIZON, DELAY = 10, 5, 2


def make_embodiment() -> Embodiment:
    state = Dimension("joint_measured", "rad", "joint", "base", 0, -3.0, 3.0)
    action = ActionDimension("joint", "rad", "joint", "base", 0, -3.0, 3.0, 2.0, 20.0, 400.0, "last", state.name, False)
    return Embodiment("one-joint", "joint", (state,), (action,), (), 25.0, 50.0)


def make_executor() -> Executor:
    policy = SwayPolicy(make_embodiment(), HORIZON)
    transport = VirtualTransport(batched(policy), lambda _: DELAY)
    return Executor(policy.metadata, ExecutorConfig("prefix", EXECUTE_HORIZON), transport, DelayEstimator(DELAY))


def run_until(robot: RobotStub, executor: Executor, stop: EmergencyStop, latch_when: Callable[[], bool]) -> int:
    """Commands that the robot had got when it was latched."""
    num_commands = -1

    def latch_in_time() -> None:
        nonlocal num_commands
        if num_commands < 0 and latch_when():
            num_commands = len(robot.records)
            stop.latch("operator", "button")

    with pytest.raises(EmergencyStopLatched, match="operator: button"):
        drive(robot, executor, VirtualClock(), 200, guards=[latch_in_time, stop.check])
    return num_commands


@pytest.mark.parametrize(
    "moment", ["first command", "request in flight", "hand-over", "start ramp", "running", "holding"]
)
def test_f18_no_command_after_the_latch(tmp_path: Path, moment: str) -> None:
    stop, executor = EmergencyStop(tmp_path), make_executor()
    robot = RobotStub(make_embodiment(), VirtualClock())
    robot.jump(np.array([1.0], dtype=np.float32))  # far from where the policy wants to be: a start ramp is needed

    def is_the_moment() -> bool:
        trace, requests = executor.trace, executor.requests
        match moment:
            case "first command":
                return len(trace) == 1
            case "request in flight":
                return len(requests) > 2 and requests[-1].outcome == "in flight"
            case "hand-over":
                return len(trace) > 1 and trace[-2].chunk_id != trace[-1].chunk_id and trace[-2].state == "run"
            case "start ramp":
                return trace[-1].state == "start"
            case "running":
                return trace[-1].state == "run"
            case _:
                return trace[-1].state == "hold"

    num_commands = run_until(robot, executor, stop, is_the_moment)
    assert num_commands >= 0
    assert len(robot.records) == num_commands
    executor.close()


def test_f18_not_by_a_new_client_either_until_a_person_resets_it(tmp_path: Path) -> None:
    stop = EmergencyStop(tmp_path)
    stop.latch("robot", "collision")
    for _ in range(3):  # each a restarted client, with its own executor and its own look at the file
        robot, executor, reopened = (
            RobotStub(make_embodiment(), VirtualClock()),
            make_executor(),
            EmergencyStop(tmp_path),
        )
        with pytest.raises(EmergencyStopLatched, match="robot: collision"):
            drive(robot, executor, VirtualClock(), 10, guards=[reopened.check])
        assert robot.records == []
        executor.close()
