import gymnasium
import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.gym import WorkcellGym

from .cube_task import CubeTask


def make() -> WorkcellGym:
    return WorkcellGym(CubeTask(), with_images=False)


def test_spaces_hold_what_is_given() -> None:
    environment = WorkcellGym(CubeTask(), render_size=(32, 48), render_mode="rgb_array")
    observation, info = environment.reset(seed=0)
    assert environment.observation_space.contains(observation)
    assert info["episode_seed"] >= 0
    observation, reward, is_terminated, is_truncated, info = environment.step(environment.action_space.sample())
    assert environment.observation_space.contains(observation)
    assert (reward, is_terminated, is_truncated) == (0.0, False, False)
    assert info["ticks"] == 1.0
    picture = environment.render()
    assert picture is not None
    assert picture.shape == (32, 48, 3)
    environment.close()


def test_the_time_limit_truncates() -> None:
    environment = make()
    environment.cell_environment.task.max_ticks = 1
    environment.reset(seed=0)
    _, _, is_terminated, is_truncated, info = environment.step(environment.action_space.sample())
    assert (is_terminated, is_truncated, info["reason"]) == (False, True, "time")


def test_processes_give_the_same_numbers_as_one() -> None:
    seeds: list[int | None] = [3, 4]
    actions = np.stack([make().action_space.sample()] * 2)
    many = gymnasium.vector.AsyncVectorEnv([make, make])
    many.reset(seed=seeds)
    together = [many.step(actions)[0]["state"].copy() for _ in range(3)][-1]
    many.close()
    for i, seed in enumerate(seeds):
        alone = make()
        alone.reset(seed=seed)
        observation = [alone.step(actions[i])[0] for _ in range(3)][-1]
        np.testing.assert_array_equal(together[i], observation["state"])


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="render_mode"):
        WorkcellGym(CubeTask(), render_mode="human")
    with pytest.raises(ValueError, match="unknown task 'workcell/nothing'"):
        WorkcellGym("workcell/nothing")
