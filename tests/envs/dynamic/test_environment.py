import numpy as np
import pytest

from cerebella.envs.dynamic.conveyor import CONVEYOR, ConveyorConfig, ConveyorState
from cerebella.envs.dynamic.conveyor_render import render
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.environment import DynamicEnvironment, DynamicExpert
from cerebella.types import Action, FloatArray

NO_PREFIX = np.zeros((0, 3), dtype=np.float32)


def command(values: FloatArray | list[float], tick: int) -> Action:
    return Action(values=np.asarray(values, dtype=np.float32), tick=tick)


def run_episode(environment: DynamicEnvironment[ConveyorState], seed: int) -> list[FloatArray]:
    """The expert at zero latency, one inference per tick; returns the measured states."""
    environment.reset(seed)
    expert = DynamicExpert(environment, horizon=4)
    states = []
    while not environment.status().is_done:
        observation = environment.observe()
        states.append(observation.state)
        environment.apply(command(expert.infer(observation, NO_PREFIX).actions[0], observation.tick))
    return states


def test_the_expert_solves_an_episode_and_the_status_tells_so() -> None:
    environment = DynamicEnvironment(ConveyorTask(), with_images=False)
    states = run_episode(environment, seed=0)
    status = environment.status()
    assert (status.is_success, status.reason) == (True, "picked")
    assert status.metrics["ticks"] == len(states)
    assert status.metrics["num_grasp_attempts"] == 1
    assert status.metrics["perturbation_tick"] == -1
    assert status.metrics["path_m"] > 0
    again = run_episode(environment, seed=0)
    np.testing.assert_array_equal(np.stack(states), np.stack(again))


def test_the_perturbation_is_reported_once_it_happened() -> None:
    environment = DynamicEnvironment(ConveyorTask(), with_images=False, perturbation=True)
    environment.reset(1)
    ticks = []
    for tick in range(31):
        environment.apply(command([0.4, 0.02, 1.0], tick))
        ticks.append(environment.status().metrics["perturbation_tick"])
    assert ticks[0] == -1
    assert 8 <= ticks[-1] <= 30
    assert ticks.index(ticks[-1]) + 1 == ticks[-1]


def test_observations_have_a_picture_only_when_asked() -> None:
    environment = DynamicEnvironment(ConveyorTask(), clock_s=lambda: 12.5)
    environment.reset(0)
    observation = environment.observe()
    np.testing.assert_array_equal(observation.images["base"], render(ConveyorConfig(), environment.snapshot())[0])
    assert observation.timestamp_s == 12.5
    blind = DynamicEnvironment(ConveyorTask(), with_images=False)
    blind.reset(0)
    blind.apply(command([0.2, 0.1, 1.0], 0))
    assert not blind.observe().images
    assert blind.observe().timestamp_s == pytest.approx(1 / 30)


def test_snapshots_stay_as_they_were() -> None:
    environment = DynamicEnvironment(ConveyorTask(), with_images=False)
    environment.reset(0)
    before = environment.snapshot()
    gripper = before.gripper.copy()
    environment.apply(command([0.0, 0.0, 0.0], 0))
    np.testing.assert_array_equal(before.gripper, gripper)


def test_bad_commands_are_refused() -> None:
    environment = DynamicEnvironment(ConveyorTask(), with_images=False)
    with pytest.raises(ValueError, match="reset"):
        environment.observe()
    environment.reset(0)
    with pytest.raises(ValueError, match="tick 3"):
        environment.apply(command([0.1, 0.1, 1.0], 3))
    with pytest.raises(ValueError, match=r"gripper_x \[m\]"):
        environment.apply(command([0.1, 0.1], 0))
    with pytest.raises(ValueError, match="finite"):
        command([np.nan, 0.1, 1.0], 0)
    assert environment.observe().tick == 0


def test_a_finished_episode_takes_no_more_commands() -> None:
    environment = DynamicEnvironment(ConveyorTask(), with_images=False)
    num_ticks = len(run_episode(environment, seed=0))
    with pytest.raises(ValueError, match="over"):
        environment.apply(command([0.1, 0.1, 1.0], num_ticks))


def test_the_expert_keeps_its_prefix_and_knows_past_ticks() -> None:
    environment = DynamicEnvironment(ConveyorTask(), with_images=False)
    environment.reset(4)
    expert = DynamicExpert(environment, horizon=16)
    observation = environment.observe()
    first = expert.infer(observation, NO_PREFIX)
    for tick in range(5):
        environment.apply(command(first.actions[tick], tick))
    late = expert.infer(observation, first.actions[:6])
    np.testing.assert_array_equal(late.actions, first.actions)
    assert (late.start_tick, late.prefix_length) == (0, 6)


def test_the_expert_refuses_what_it_cannot_do() -> None:
    environment = DynamicEnvironment(ConveyorTask(), with_images=False)
    environment.reset(0)
    observation = environment.observe()
    with pytest.raises(ValueError, match="horizon"):
        DynamicExpert(environment, horizon=1)
    expert = DynamicExpert(environment, horizon=4)
    with pytest.raises(ValueError, match=r"0\.\.3"):
        expert.infer(observation, np.zeros((4, 3), dtype=np.float32))
    with pytest.raises(ValueError, match=r"float32\[\.\.\., 3\]"):
        expert.infer(observation, np.zeros((1, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="not kept"):
        environment.state_at(7)


def test_old_ticks_are_forgotten() -> None:
    environment = DynamicEnvironment(ConveyorTask(), with_images=False)
    environment.reset(2)
    tick = 0
    while not environment.status().is_done:
        environment.apply(command([0.0, 0.0, 1.0], tick))
        tick += 1
    assert tick > 70
    assert environment.state_at(tick - 63).tick[0] == tick - 63
    with pytest.raises(ValueError, match="not kept"):
        environment.state_at(tick - 64)


def test_the_embodiment_survives_a_file(tmp_path) -> None:
    CONVEYOR.save(tmp_path / "embodiment.json")
    assert CONVEYOR.load(tmp_path / "embodiment.json") == CONVEYOR
