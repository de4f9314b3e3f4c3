import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.conveyor import CONVEYOR_STATE
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.environment import DynamicEnvironment, DynamicExpert
from cerebella.evaluation.metrics import cycle_idle_share, idle_share
from cerebella.evaluation.rollout import Episode, rollout_virtual, rollout_wall
from cerebella.interfaces import Environment, PolicyMetadata
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.executor_config import ExecutorConfig, Mode
from cerebella.types import ActionChunk, FloatArray, Observation

MODES: tuple[Mode, ...] = ("sync", "naive", "prefix")


class Drifter:
    """Moves slowly along the belt from where it is; remembers how many observations each call had."""

    def __init__(self, horizon: int = 16) -> None:
        self.metadata = PolicyMetadata("drifter", CONVEYOR_STATE, horizon, None, horizon - 1, "none")
        self.batch_sizes: list[int] = []

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        return self.infer_batch([observation], [action_prefix])[0]

    def infer_batch(self, observations: Sequence[Observation], prefixes: Sequence[FloatArray]) -> list[ActionChunk]:
        self.batch_sizes.append(len(observations))
        return [self._plan(*pair) for pair in zip(observations, prefixes, strict=True)]

    def _plan(self, observation: Observation, prefix: FloatArray) -> ActionChunk:
        steps = np.arange(self.metadata.horizon, dtype=np.float32)
        rows = np.tile(observation.state[:3], (self.metadata.horizon, 1))
        rows[:, 0] += 0.001 * steps
        rows[: len(prefix)] = prefix
        return ActionChunk(rows, observation.tick, observation.tick, len(prefix), "drifter", 0.0)


def make_conveyor() -> Environment:
    return DynamicEnvironment(ConveyorTask(), with_images=False)


def expert(environment: Environment) -> DynamicExpert:
    assert isinstance(environment, DynamicEnvironment)
    return DynamicExpert(environment, horizon=16)


def commands(episodes: Sequence[Episode]) -> list[bytes]:
    return [episode.log.values.tobytes() for episode in episodes]


def test_the_same_seeds_give_the_same_episodes_whatever_the_batch() -> None:
    config = ExecutorConfig("prefix", 8)
    seeds = [7, 3, 11, 5, 2]
    first = rollout_virtual(expert, make_conveyor, config, 3, seeds, batch=2)
    second = rollout_virtual(expert, make_conveyor, config, 3, seeds, batch=5)
    assert [episode.seed for episode in first] == seeds
    assert commands(first) == commands(second)
    assert [episode.metrics for episode in first] == [episode.metrics for episode in second]
    [alone] = rollout_virtual(expert, make_conveyor, config, 3, [11])
    assert alone.log.values.tobytes() == commands(first)[2]


def test_at_delay_zero_the_modes_send_the_same_commands() -> None:
    streams = [commands(rollout_virtual(expert, make_conveyor, ExecutorConfig(mode, 8), 0, range(4))) for mode in MODES]
    assert streams[0] == streams[1] == streams[2]


@pytest.mark.parametrize(("execute_horizon", "delay"), [(8, 4), (6, 2), (10, 5)])
def test_idle_share_is_r_of_s_plus_r_for_sync_and_zero_for_async(execute_horizon: int, delay: int) -> None:
    for mode in MODES:
        config = ExecutorConfig(mode, execute_horizon)
        episodes = rollout_virtual(Drifter(), make_conveyor, config, delay, range(3), max_ticks=100)
        logs = [episode.log for episode in episodes]
        if mode == "sync":
            assert cycle_idle_share(logs) == pytest.approx(delay / (execute_horizon + delay))
        else:
            assert idle_share(logs) == 0.0
        assert all(episode.metrics["startup_ticks"] == delay for episode in episodes)


def test_requests_of_one_tick_share_one_inference() -> None:
    policy = Drifter()
    rollout_virtual(policy, make_conveyor, ExecutorConfig("naive", 8), 2, range(6), batch=6, max_ticks=20)
    assert max(policy.batch_sizes) == 6
    assert len(policy.batch_sizes) <= 4


def test_an_episode_can_be_cut_short() -> None:
    [episode] = rollout_virtual(Drifter(), make_conveyor, ExecutorConfig("sync", 8), 0, [1], max_ticks=9)
    assert episode.log.num_ticks == 9
    assert not episode.status.is_done


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="delay must be 0 or more ticks; got -1"):
        rollout_virtual(Drifter(), make_conveyor, ExecutorConfig("sync", 8), -1, [1])
    with pytest.raises(ValueError, match="batch must be 1 or more"):
        rollout_virtual(Drifter(), make_conveyor, ExecutorConfig("sync", 8), 0, [1], batch=0)


def constant(latency_s: float) -> Callable[[int], float]:
    return lambda k: latency_s


def test_wall_clock_rollout_keeps_rate_latency_and_snapshots() -> None:
    start_s = time.monotonic()
    episodes = rollout_wall(
        Drifter(),
        make_conveyor(),
        ExecutorConfig("prefix", 8),
        constant(0.08),
        [1, 2],
        delay_estimator=DelayEstimator(initial=4),
        max_ticks=30,
        with_snapshots=True,
    )
    assert time.monotonic() - start_s >= 2 * 29 / 30
    assert len(episodes) == 2
    for episode in episodes:
        assert len(episode.snapshots) == episode.log.num_ticks + 1 == 31
        arrived = [r for r in episode.requests if r.num_ticks_waited >= 0]
        assert arrived
        assert all(r.num_ticks_waited >= 3 for r in arrived)  # 80 ms are more than 2 ticks of 33 ms


def test_wall_clock_rollout_stops_at_its_budget_but_runs_at_least_once() -> None:
    estimator = DelayEstimator(initial=0)
    config = ExecutorConfig("naive", 8)
    episodes = rollout_wall(
        Drifter(), make_conveyor(), config, None, range(50), delay_estimator=estimator, budget_s=0.0, max_ticks=3
    )
    assert [episode.seed for episode in episodes] == [0]


class Blind:
    """An environment without snapshots."""

    def __init__(self) -> None:
        self._inner = DynamicEnvironment(ConveyorTask(), with_images=False)
        self.reset, self.observe = self._inner.reset, self._inner.observe
        self.apply, self.status = self._inner.apply, self._inner.status

    @property
    def embodiment(self) -> Embodiment:
        return CONVEYOR_STATE


def test_an_environment_without_snapshots_cannot_be_filmed() -> None:
    with pytest.raises(ValueError, match=r"Blind has no snapshot\(\)"):
        rollout_wall(
            Drifter(),
            Blind(),
            ExecutorConfig("sync", 8),
            None,
            [0],
            delay_estimator=DelayEstimator(initial=0),
            with_snapshots=True,
        )
