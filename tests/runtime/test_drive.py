from dataclasses import replace

import numpy as np
import pytest

from cerebella.interfaces import Transport
from cerebella.runtime.clock import Clock, VirtualClock, WallClock
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.drive import Pacing, check_embodiment, drive
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import MODES, ExecutorConfig, Mode
from cerebella.runtime.trace import commands
from cerebella.runtime.transport import ThreadTransport, VirtualTransport, batched
from cerebella.types import Action, Observation

from .tagged import Robot, TaggedPolicy, make_embodiment, make_metadata

PERIOD_S = 1 / 30


def make_executor(mode: Mode, transport: Transport, policy: TaggedPolicy) -> Executor:
    return Executor(policy.metadata, ExecutorConfig(mode, 5), transport, DelayEstimator(2))


def run_virtual(mode: Mode, clock: Clock, robot: Robot, max_ticks: int = 1000) -> tuple[Executor, Pacing]:
    policy = TaggedPolicy(make_metadata(16, 6))
    executor = make_executor(mode, VirtualTransport(batched(policy), lambda number: 2), policy)
    robot.reset(3)
    return executor, drive(robot, executor, clock, max_ticks)


def test_an_episode_ends_with_the_environment_or_at_the_limit() -> None:
    robot = Robot(num_ticks=50)
    run_virtual("prefix", VirtualClock(), robot)
    assert len(robot.sent) == 50
    run_virtual("prefix", VirtualClock(), robot, max_ticks=20)
    assert len(robot.sent) == 20


def test_the_robot_gets_the_commands_of_the_trace_on_schedule() -> None:
    robot = Robot(num_ticks=40)
    executor, pacing = run_virtual("naive", VirtualClock(7.0), robot)
    assert np.array_equal(np.stack([action.values for action in robot.sent]), commands(executor.trace))
    assert [record.sent_s for record in executor.trace] == pytest.approx([7.0 + k * PERIOD_S for k in range(40)])
    assert pacing == Pacing(num_ticks=40, num_overruns=0, num_skipped=0, max_lateness_s=0.0)


def test_a_stalled_loop_is_counted_and_sends_no_burst() -> None:
    clock = VirtualClock()
    policy = TaggedPolicy(make_metadata(16, 6))
    executor = make_executor("prefix", VirtualTransport(batched(policy), lambda number: 2), policy)
    robot = Robot(num_ticks=30)
    robot.reset(0)

    def stall(observation: Observation, action: Action) -> None:
        clock.advance(0.2 if observation.tick == 10 else 0.01)

    pacing = drive(robot, executor, clock, 1000, on_tick=stall)
    gaps_s = np.diff([record.sent_s for record in executor.trace])
    assert (pacing.num_overruns, pacing.num_skipped) == (1, 6)
    assert pacing.max_lateness_s == pytest.approx(0.2 - PERIOD_S)
    assert gaps_s.min() == pytest.approx(PERIOD_S)
    assert gaps_s.max() == pytest.approx(7 * PERIOD_S)


@pytest.mark.parametrize("mode", MODES)
def test_a_short_episode_on_the_wall_clock(mode: Mode) -> None:
    """The same executor with a real thread and real time: nothing is lost, and commands are never early."""
    clock = WallClock()
    policy = TaggedPolicy(make_metadata(16, 6))
    transport = ThreadTransport(policy, clock, latency_s=lambda number: 0.05)
    executor = make_executor(mode, transport, policy)
    robot = Robot(num_ticks=25)
    robot.reset(1)
    drive(robot, executor, clock, 1000)
    executor.close()
    trace, answered = executor.trace, [r for r in executor.requests if r.outcome != "in flight"]
    assert [action.tick for action in robot.sent] == list(range(25))
    # The first command may be late by up to a period on a busy machine; deadlines stay where they are.
    assert trace[24].sent_s - trace[0].sent_s >= 23 * PERIOD_S - 1e-6
    assert {record.state for record in trace} == {"run", "hold"}
    assert len(answered) >= 1
    assert {r.outcome for r in answered} <= {"used", "late"}
    assert all(r.num_ticks_waited >= 1 for r in answered)
    for record in trace:
        if record.state == "run":
            num_runs = sum(r.state == "run" for r in trace[record.observation_tick : record.tick])
            assert record.row == num_runs


def test_a_policy_for_another_robot_is_refused() -> None:
    policy = TaggedPolicy(make_metadata(8, 0))
    executor = make_executor("sync", VirtualTransport(batched(policy), lambda number: 0), policy)
    robot = Robot(10, replace(make_embodiment(), name="another"))
    with pytest.raises(ValueError, match="the policy was made for the name 'tagged'; this robot has 'another'"):
        drive(robot, executor, VirtualClock(), 10)
    assert robot.sent == []


def test_embodiments_are_compared_by_what_their_numbers_mean() -> None:
    ours = make_embodiment()
    check_embodiment(ours, make_embodiment(limit=1.0))
    with pytest.raises(ValueError, match="made for the control_hz 30"):
        check_embodiment(ours, replace(ours, control_hz=50.0))
    with pytest.raises(ValueError, match="looks through the view 'ego'; this robot has the views none"):
        check_embodiment(replace(ours, views=("ego",)), replace(ours, views=()))
    with pytest.raises(ValueError, match="made for the state vector chunk_measured"):
        check_embodiment(ours, replace(ours, states=ours.states[::-1]))
    with pytest.raises(ValueError, match=r"action vector .*value \[m, .*value \[rad, "):
        check_embodiment(ours, replace(ours, actions=(*ours.actions[:3], replace(ours.actions[3], unit="rad"))))
