"""What holds for every dynamic task, whatever its physics."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import cerebella.envs  # noqa: F401 (registers the names)
from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.environment import DynamicEnvironment, DynamicExpert
from cerebella.envs.dynamic.gym import gymnasium_id
from cerebella.envs.dynamic.task import FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK, RUNNING, Task, TaskState
from cerebella.envs.dynamic.tasks import TASKS
from cerebella.types import Action, FloatArray

EXPERT_SEEDS = range(1000, 1064)
State = Any
Choose = Callable[[State], FloatArray]


@pytest.fixture(params=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task[Any]:
    return TASKS[request.param]()


def assert_equal(first: State, second: State, but: tuple[str, ...] = ()) -> None:
    assert len(first) == len(second)
    for f in fields(first):
        if f.name not in but:
            one, two = getattr(first, f.name), getattr(second, f.name)
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two, err_msg=f.name)


def random_actions(task: Task[Any], num_scenes: int, generator: np.random.Generator) -> FloatArray:
    """Anywhere in the ranges, and a little beyond."""
    low, high = (np.array([getattr(d, end) for d in task.embodiment.actions]) for end in ("low", "high"))
    return (low + (high - low) * generator.uniform(-0.1, 1.1, (num_scenes, len(low)))).astype(np.float32)


def expert(task: Task[Any], num_scenes: int) -> Choose:
    style = task.steady_style(num_scenes)
    return lambda state: task.expert_command(state, style)


def wanderer(task: Task[Any]) -> Choose:
    """Another random target every few ticks."""
    generator = np.random.default_rng(0)
    held: list[FloatArray] = []

    def choose(state: State) -> FloatArray:
        if int(state.tick[0]) % 8 == 0:
            held[:] = [random_actions(task, len(state), generator)]
        return held[0]

    return choose


def run(task: Task[Any], state: State, choose: Choose) -> Iterator[State]:
    """The states of max_ticks ticks, the first one too, whatever ended before."""
    yield state
    for _ in range(task.max_ticks):
        state = task.step(state, choose(state))
        yield state


def ranges(embodiment: Embodiment) -> tuple[FloatArray, FloatArray]:
    low, high = (np.array([getattr(d, end) for d in embodiment.states], dtype=np.float32) for end in ("low", "high"))
    return low, high


def test_names_fit_together(task: Task[Any]) -> None:
    file_name = task.name.removeprefix("dynamic/")
    assert (task.embodiment.name, task.state_embodiment.name) == (file_name, f"{file_name}-state")
    assert (task.embodiment.views, task.state_embodiment.views) == (("base",), ())
    assert task.state_embodiment.states[: task.embodiment.state_dim] == task.embodiment.states
    assert task.state_embodiment.actions == task.embodiment.actions
    assert task.outcomes[RUNNING] == ""
    assert 0 < task.success < len(task.outcomes)
    assert 0 < task.timeout < len(task.outcomes)
    assert all(d.slot is not None and d.slot < 32 for d in task.state_embodiment.states)


@pytest.mark.parametrize("perturbation", [False, True])
def test_a_scene_alone_equals_itself_among_many(task: Task[Any], perturbation: bool) -> None:
    seeds = [5, 2**62, 11, 0, 7]
    among = task.reset(seeds, perturbation)
    alone = [task.reset([seed], perturbation) for seed in seeds]
    generator, style = np.random.default_rng(1), task.random_style(5, np.random.default_rng(2))
    for tick in range(60):
        command = task.expert_command(among, style)
        if tick % 20 >= 12:
            command = random_actions(task, 5, generator)
        for i, state in enumerate(alone):
            assert_equal(state, among.take(slice(i, i + 1)))
            one = task.observed(state, False)[0]
            np.testing.assert_array_equal(one, task.observed(among, False)[i])
            if tick % 20 < 12:
                np.testing.assert_array_equal(task.expert_command(state, style[i : i + 1])[0], command[i])
        alone = [task.step(state, command[i : i + 1]) for i, state in enumerate(alone)]
        among = task.step(among, command)
    np.testing.assert_array_equal(task.render(alone[2])[0], task.render(among)[2])


def test_the_same_seed_gives_the_same_episode(task: Task[Any]) -> None:
    runs = [list(run(task, task.reset(range(8), True), wanderer(task))) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        assert_equal(first, second)
    assert not np.array_equal(task.observed(runs[0][0], False)[0], task.observed(runs[0][0], False)[1])


def test_the_twin_is_identical_until_the_perturbation(task: Task[Any]) -> None:
    disturbed, twin = task.reset(range(40), True), task.reset(range(40), False)
    ticks, choose = disturbed.perturbation_tick, expert(task, 40)
    assert FIRST_PERTURBATION_TICK <= ticks.min() < ticks.max() <= LAST_PERTURBATION_TICK
    assert (twin.perturbation_tick == -1).all()
    looks_different, calls_for_another_command, is_hit = np.zeros((3, 40), dtype=bool)
    for tick in range(LAST_PERTURBATION_TICK + 3):
        before = np.flatnonzero(ticks > tick)
        assert_equal(disturbed.take(before), twin.take(before), but=("perturbation_tick",))
        seen, unseen = task.observed(disturbed, False), task.observed(twin, False)
        commands = choose(disturbed), choose(twin)
        is_hit |= (ticks == tick) & twin.is_running
        soon = (ticks <= tick) & (tick < ticks + 3)
        looks_different |= soon & (seen != unseen).any(axis=1)
        calls_for_another_command |= soon & (commands[0] != commands[1]).any(axis=1)
        disturbed, twin = task.step(disturbed, commands[0]), task.step(twin, commands[1])
    assert is_hit.mean() >= 0.6
    assert looks_different[is_hit].mean() >= 0.95
    assert calls_for_another_command[is_hit].mean() >= 0.9


def test_a_step_leaves_its_input_alone(task: Task[Any]) -> None:
    state = task.reset(range(6), True)
    choose = expert(task, 6)
    for _ in range(40):
        copy = state.take(slice(None))
        command = choose(state)
        kept = command.copy()
        after = task.step(state, command)
        task.render(state)
        task.metrics(state)
        task.expert_plan(state, task.steady_style(6), 3)
        assert_equal(state, copy)
        np.testing.assert_array_equal(command, kept)
        for f in fields(state):
            assert getattr(after, f.name).shape == getattr(state, f.name).shape
            assert getattr(after, f.name).dtype == getattr(state, f.name).dtype, f.name
        state = after


@pytest.mark.parametrize("perturbation", [False, True])
@pytest.mark.parametrize("who", ["expert", "wanderer"])
def test_what_is_observed_lies_in_the_declared_ranges(task: Task[Any], who: str, perturbation: bool) -> None:
    choose = expert(task, 64) if who == "expert" else wanderer(task)
    low, high = ranges(task.state_embodiment)
    was_running = np.ones(64, dtype=bool)
    for state in run(task, task.reset(range(64), perturbation), choose):
        seen = task.observed(state, False)
        assert seen.dtype == np.float32
        assert seen.shape == (64, task.state_embodiment.state_dim)
        np.testing.assert_array_equal(task.observed(state, True), seen[:, : task.embodiment.state_dim])
        assert all(np.isfinite(getattr(state, f.name)).all() for f in fields(state))
        outside = ((seen < low - 1e-6) | (seen > high + 1e-6)) & was_running[:, None]
        names = [task.state_embodiment.states[j].name for j in np.flatnonzero(outside.any(axis=0))]
        assert not names, (names, seen[:, outside.any(axis=0)].min(), seen[:, outside.any(axis=0)].max())
        was_running = state.is_running


def test_an_outcome_stays_and_every_episode_ends(task: Task[Any]) -> None:
    states = list(run(task, task.reset(range(64), True), wanderer(task)))
    for before, after in pairwise(states):
        np.testing.assert_array_equal(after.tick, before.tick + 1)
        over = ~before.is_running
        np.testing.assert_array_equal(after.outcome[over], before.outcome[over])
    assert not states[-1].is_running.any()
    assert states[-1].outcome.max() < len(task.outcomes)


@pytest.mark.parametrize("perturbation", [False, True])
def test_the_expert_succeeds_without_latency(task: Task[Any], perturbation: bool) -> None:
    *_, last = run(task, task.reset(EXPERT_SEEDS, perturbation), expert(task, len(EXPERT_SEEDS)))
    assert (last.outcome == task.success).mean() >= 0.95, np.bincount(last.outcome, minlength=len(task.outcomes))


def test_the_environment_runs_the_same_episode_as_the_arrays(task: Task[Any]) -> None:
    environment = DynamicEnvironment(task, with_images=False, perturbation=True)
    policy = DynamicExpert(environment, horizon=4)
    for seed in EXPERT_SEEDS[:2]:
        environment.reset(seed)
        state = task.reset([seed], True)
        while not environment.status().is_done:
            observation = environment.observe()
            np.testing.assert_array_equal(observation.state, task.observed(state, False)[0])
            chunk = policy.infer(observation, np.zeros((0, task.embodiment.action_dim), dtype=np.float32))
            environment.apply(Action(chunk.actions[0], observation.tick))
            state = task.step(state, chunk.actions[:1])
        assert environment.status().reason == task.outcomes[state.outcome[0]]
        assert all(np.isfinite(value) for value in environment.status().metrics.values())


def test_a_plan_is_the_law_in_a_world_without_surprises(task: Task[Any]) -> None:
    state = task.reset(range(10), True)
    style = task.random_style(10, np.random.default_rng(4))
    plan = task.expert_plan(state, style, 8)
    foresight = task.expert_plan(state, style, 60, knows_future=True)
    calm = task.expert_plan(state, style, 60)
    np.testing.assert_array_equal(plan, calm[:, :8])
    assert (foresight != calm).any()
    for i in range(8):
        np.testing.assert_array_equal(plan[:, i], task.expert_command(state, style))
        state = task.step(state, plan[:, i], with_events=False)


def test_styles_are_many_right_answers(task: Task[Any]) -> None:
    state = task.reset([3] * 32, False)
    plans = task.expert_plan(state, task.random_style(32, np.random.default_rng(5)), 16)
    assert np.ptp(plans, axis=0).max() > 0.01
    steady = task.expert_plan(state, task.steady_style(32), 16)
    assert np.ptp(steady, axis=0).max() == 0.0


def test_the_expert_keeps_to_the_limits(task: Task[Any]) -> None:
    state = task.reset(range(32), False)
    plan = task.expert_plan(state, task.steady_style(32), 60)
    most = np.array([d.max_velocity for d in task.embodiment.actions]) / task.embodiment.control_hz
    low, high = (np.array([getattr(d, end) for d in task.embodiment.actions]) for end in ("low", "high"))
    assert (plan >= low - 1e-6).all()
    assert (plan <= high + 1e-6).all()
    assert (np.abs(np.diff(plan, axis=1)) <= 1.05 * most).mean() > 0.99


def test_bad_actions_are_refused(task: Task[Any]) -> None:
    state, width = task.reset([0, 1], False), task.embodiment.action_dim
    bad: list[tuple[Any, str]] = [
        (np.zeros((2, width + 1), dtype=np.float32), rf"{task.name}: actions must be float32\[2, {width}\].*gripper_x"),
        (np.zeros((3, width), dtype=np.float32), rf"got float32\[3, {width}\]"),
        (np.zeros((2, width)), "float64"),
        (np.full((2, width), np.nan, dtype=np.float32), "finite"),
    ]
    for actions, words in bad:
        with pytest.raises(ValueError, match=words):
            task.step(state, actions)


@pytest.mark.parametrize("seeds", [[], [-1], [0.5]])
def test_bad_seeds_are_refused(task: Task[Any], seeds: list[Any]) -> None:
    with pytest.raises(ValueError, match="seeds"):
        task.reset(seeds, False)


def test_bad_plans_are_refused(task: Task[Any]) -> None:
    state, style = task.reset([0], False), task.steady_style(1)
    with pytest.raises(ValueError, match="horizon"):
        task.expert_plan(state, style, 0)
    with pytest.raises(ValueError, match="prefix"):
        task.expert_plan(state, style, 4, np.zeros((1, 5, task.embodiment.action_dim), dtype=np.float32))


def test_pictures_show_what_happens(task: Task[Any]) -> None:
    state = task.reset(range(12), False)
    first = task.render(state)
    assert (first.dtype, first.shape) == (np.uint8, (12, 64, 96, 3))
    assert len({picture.tobytes() for picture in first}) == 12
    choose = expert(task, 12)
    for _ in range(12):
        state = task.step(state, choose(state))
    assert (task.render(state) != first).any(axis=(1, 2, 3)).all()
    assert task.render(state.take(slice(0, 1)), 384, 576).shape == (1, 384, 576, 3)
    for size in ((64, 64), (16, 24)):
        with pytest.raises(ValueError, match="64 x 96"):
            task.render(state, *size)


def test_a_picture_shows_the_gripper(task: Task[Any]) -> None:
    state = task.reset([0], False)
    there = replace(state, gripper=(state.gripper + np.float32(0.05)) % np.float32(0.3))
    assert isinstance(there, TaskState)
    assert (task.render(there) != task.render(state)).any()


def test_prompts_come_from_the_list(task: Task[Any]) -> None:
    texts = task.all_prompts()
    assert len(texts) == len(set(texts)) >= 4
    assert all(text == text.lower() and text.replace(" ", "").isalnum() for text in texts)
    asked = task.prompts(task.reset(range(100), False))
    assert set(asked) <= set(texts)
    assert len(set(asked)) >= 3


@pytest.mark.parametrize("with_images", [True, False])
def test_gymnasium_accepts_it(task: Task[Any], with_images: bool) -> None:
    environment = gymnasium.make(gymnasium_id(task.name), with_images=with_images, render_mode="rgb_array")
    check_env(environment.unwrapped)
    environment.close()


@pytest.mark.parametrize("with_images", [True, False])
def test_many_scenes_at_once_fit_their_spaces(task: Task[Any], with_images: bool) -> None:
    vector = gymnasium.make_vec(gymnasium_id(task.name), num_envs=3, with_images=with_images)
    observations, _ = vector.reset(seed=5)
    assert vector.observation_space.contains(observations)
    vector.action_space.seed(0)
    for _ in range(5):
        observations, *_ = vector.step(vector.action_space.sample())
        assert vector.observation_space.contains(observations)
    again, _ = vector.reset(seed=5)
    first, _ = gymnasium.make_vec(gymnasium_id(task.name), num_envs=3, with_images=with_images).reset(seed=5)
    for key, value in again.items():
        np.testing.assert_array_equal(value, first[key])
