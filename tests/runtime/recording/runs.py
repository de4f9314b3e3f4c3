"""Runs to record: a random one with everything that can happen, and a whole episode of the conveyor."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cerebella.envs.dynamic.conveyor import ConveyorState
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.environment import DynamicEnvironment, DynamicExpert
from cerebella.interfaces import Reply, Request, Takeover
from cerebella.runtime.clock import VirtualClock
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.drive import drive
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig, Mode
from cerebella.runtime.instruments.tagged import (
    CHANNELS,
    TaggedPolicy,
    make_embodiment,
    make_metadata,
    make_observation,
)
from cerebella.runtime.recording.construction import describe_run
from cerebella.runtime.recording.recorded_filter import RecordedFilter
from cerebella.runtime.recording.recorder import Recorder
from cerebella.runtime.trace import TraceSink
from cerebella.runtime.transport import InferenceQueue, VirtualTransport, batched
from cerebella.types import Action, Observation

POLICY_HZ = 30.0


class AnyPollTransport:
    """Gives each reply at a random poll after it is due, some twice, some never."""

    def __init__(self, policy: TaggedPolicy, rng: np.random.Generator) -> None:
        self._inference = InferenceQueue(batched(policy))
        self._rng = rng
        self._waiting: list[tuple[int, Reply]] = []

    def submit(self, request: Request) -> None:
        reply = self._inference.take(self._inference.add(request))
        num_copies = self._rng.choice([0, 1, 2], p=[0.1, 0.8, 0.1])
        self._waiting += [(request.observation.tick + int(self._rng.integers(0, 9)), reply)] * int(num_copies)

    def poll(self, tick: int) -> list[Reply]:
        is_now = [due_tick <= tick and bool(self._rng.integers(2)) for due_tick, _ in self._waiting]
        replies = [reply for (_, reply), now in zip(self._waiting, is_now, strict=True) if now]
        self._waiting = [entry for entry, now in zip(self._waiting, is_now, strict=True) if not now]
        return replies

    def close(self) -> None:
        self._waiting.clear()


class Meddler:
    """A filter that corrects some commands and claims the robot now and then."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._num_left = 0

    def filter(self, observation: Observation, action: Action) -> Action | Takeover:
        if self._num_left or self._rng.random() < 0.02:
            self._num_left = self._num_left - 1 if self._num_left else 4
            if self._num_left:
                return Takeover(action, self._num_left, "touch")
            return action
        if self._rng.random() < 0.2:
            return Action(action.values + np.float32(0.1), action.tick)
        return action


def record_tagged(path: Path, mode: Mode, seed: int, *sinks: TraceSink, with_filter: bool = False) -> Executor:
    """A run of the tagged policy under everything: jitter, failures, stalls, several commands a tick, an operator."""
    rng = np.random.default_rng(seed)
    horizon = int(rng.integers(4, 17))
    control_hz = POLICY_HZ * float(rng.choice([1.0, 1.0, 2.0, 3.5]))
    metadata = make_metadata(horizon, max(1, horizon // 2), make_embodiment(control_hz=control_hz))
    metadata = replace(metadata, supports_guidance=True)
    failures = frozenset(np.flatnonzero(rng.random(200) < 0.1).tolist())
    policy = TaggedPolicy(metadata, failures, nans=frozenset(np.flatnonzero(rng.random(200) < 0.05).tolist()))
    config = ExecutorConfig(mode, int(rng.integers(1, horizon + 1)), reply_timeout=int(rng.integers(5, 20)))
    estimator = DelayEstimator(int(rng.integers(0, 4)), window=10)
    with Recorder(path, describe_run(metadata, config, estimator, {"seed": seed}), may_wait=True) as recorder:
        action_filter = RecordedFilter(Meddler(rng), recorder) if with_filter else None
        transport = AnyPollTransport(policy, rng)
        executor = Executor(
            metadata, config, transport, estimator, action_filter=action_filter, sinks=(recorder, *sinks)
        )
        _drive(executor, rng, control_hz)
        executor.close()
    return executor


def _drive(executor: Executor, rng: np.random.Generator, control_hz: float, num_commands: int = 150) -> None:
    tick = -1
    number = 0
    for _ in range(num_commands):
        number += int(rng.integers(1, 12)) if rng.random() < 0.02 else 1
        position = number * POLICY_HZ / control_hz
        phase = position - int(position)
        now_s = number / control_hz + float(rng.uniform(0, 0.001))
        if int(position) > tick:
            tick = int(position)
            if rng.random() < 0.05:
                _order(executor, rng)
            executor.observe(make_observation(tick, float(rng.normal())), now_s, phase)
        if rng.random() < 0.03:
            _order(executor, rng)
        executor.command(now_s, phase)


def _order(executor: Executor, rng: np.random.Generator) -> None:
    match int(rng.integers(6)):
        case 0:
            executor.pause()
        case 1 | 2:
            executor.resume()
            executor.hand_back()
        case 3:
            executor.set_prompt(f"task {rng.integers(3)}")
        case _:
            executor.take_over()
            executor.human_command(rng.normal(size=len(CHANNELS)).astype(np.float32))


class DarkConveyor(DynamicEnvironment[ConveyorState]):
    """The same robot, whose camera sends nothing."""

    def observe(self) -> Observation:
        return replace(super().observe(), images={})


def record_conveyor(path: Path, mode: Mode, seed: int = 3, with_images: bool = True, delay: int = 4) -> Executor:
    """One episode of the conveyor's expert with delays of up to `delay` ticks."""
    environment = (DynamicEnvironment if with_images else DarkConveyor)(ConveyorTask())
    environment.reset(seed)
    policy = DynamicExpert(environment)
    delays = np.random.default_rng(seed).integers(1, delay + 1, size=200)
    config, estimator = ExecutorConfig(mode, 10), DelayEstimator(2)
    header = describe_run(policy.metadata, config, estimator, {"seed": seed, "environment": "conveyor"})
    with Recorder(path, header, may_wait=True) as recorder:
        transport = VirtualTransport(batched(policy), lambda number: int(delays[number]))
        executor = Executor(policy.metadata, config, transport, estimator, sinks=[recorder])
        drive(environment, executor, VirtualClock(), max_ticks=200)
        executor.close()
    return executor
