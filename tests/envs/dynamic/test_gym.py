import gymnasium
import numpy as np
import pytest

import cerebella.envs  # noqa: F401 (registers the names)
from cerebella.envs.dynamic.gym import TaskGym, TaskVectorEnv, gymnasium_id

CONVEYOR_ID = "cerebella/Conveyor-v0"


def test_names_follow_the_tasks() -> None:
    assert gymnasium_id("dynamic/jammed_drawer") == "cerebella/JammedDrawer-v0"
    assert gymnasium_id("dynamic/conveyor") == CONVEYOR_ID


def test_an_episode_ends_and_refuses_more() -> None:
    environment = gymnasium.make(CONVEYOR_ID, with_images=False).unwrapped
    environment.reset(seed=0)
    idle = np.array([0.0, 0.0, 1.0], dtype=np.float32)
    is_over, info = False, {}
    while not is_over:
        _, reward, is_terminated, is_truncated, info = environment.step(idle)
        is_over = is_terminated or is_truncated
        assert reward == 0.0
    assert info["reason"] in ("left the belt", "time")
    with pytest.raises(ValueError, match="reset"):
        environment.step(idle)


def test_many_scenes_start_anew_by_themselves() -> None:
    environment = TaskVectorEnv("dynamic/conveyor", num_envs=8, with_images=False)
    observations, _ = environment.reset(seed=0)
    assert environment.observation_space.contains(observations)
    idle = np.tile(np.array([0.0, 0.0, 1.0], dtype=np.float32), (8, 1))
    was_over = np.zeros(8, dtype=bool)
    num_episodes = 0
    for _ in range(150):
        observations, reward, is_terminated, is_truncated, _ = environment.step(idle)
        is_over = is_terminated | is_truncated
        assert not (is_over & was_over).any()
        assert not reward.any()
        assert (observations["state"][was_over, 2] == 1.0).all()
        num_episodes += int(was_over.sum())
        was_over = is_over
    assert num_episodes >= 8


def test_the_same_seed_gives_the_same_scenes() -> None:
    first, second = (gymnasium.make_vec(CONVEYOR_ID, num_envs=3) for _ in range(2))
    one, two = first.reset(seed=5)[0], second.reset(seed=5)[0]
    np.testing.assert_array_equal(one["base"], two["base"])
    assert one["prompt"] == two["prompt"]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="known tasks: dynamic/conveyor"):
        TaskGym("dynamic/conveyer")
    with pytest.raises(ValueError, match="render_mode"):
        TaskGym("dynamic/conveyor", render_mode="human")
    with pytest.raises(ValueError, match="num_envs"):
        TaskVectorEnv("dynamic/conveyor", num_envs=0)
    with pytest.raises(ValueError, match="render_mode"):
        TaskVectorEnv("dynamic/conveyor", num_envs=1, render_mode="human")
    environment = TaskVectorEnv("dynamic/conveyor", num_envs=2)
    with pytest.raises(ValueError, match="reset"):
        environment.step(np.zeros((2, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="one integer"):
        environment.reset(seed=[1, 2])
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=r"float32\[2, 3\]"):
        environment.step(np.zeros((1, 3), dtype=np.float32))
