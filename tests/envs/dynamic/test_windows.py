from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from cerebella.envs.dynamic.task import Task
from cerebella.envs.dynamic.tasks import TASKS
from cerebella.envs.dynamic.windows import StaleWindows, Windows, expert_windows, stale_windows

HORIZON = 12


@pytest.fixture(scope="module", params=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task[Any]:
    return TASKS[request.param]()


@pytest.fixture(scope="module")
def windows(task: Task[Any]) -> Windows[Any]:
    return expert_windows(task, 300, HORIZON, seed=0, committed_share=0.5, max_delay=4)


@pytest.fixture(scope="module")
def stale(task: Task[Any]) -> StaleWindows[Any]:
    return stale_windows(task, 200, HORIZON, delay=4, seed=0)


def assert_equal(first: Windows[Any], second: Windows[Any]) -> None:
    for f in fields(first.state):
        np.testing.assert_array_equal(getattr(first.state, f.name), getattr(second.state, f.name), err_msg=f.name)
    for name in ("style", "actions", "committed_length"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def test_the_seed_decides_the_windows(task: Task[Any], windows: Windows[Any], stale: StaleWindows[Any]) -> None:
    assert len(windows) == 300
    assert_equal(windows, expert_windows(task, 300, HORIZON, seed=0, committed_share=0.5, max_delay=4))
    other = expert_windows(task, 300, HORIZON, seed=1, committed_share=0.5, max_delay=4)
    assert (windows.actions != other.actions).any()
    again = stale_windows(task, 200, HORIZON, delay=4, seed=0)
    assert_equal(stale.windows, again.windows)
    np.testing.assert_array_equal(stale.old_continuation, again.old_continuation)


def test_labels_are_the_law_behind_the_promise(task: Task[Any], windows: Windows[Any]) -> None:
    is_committed = windows.committed_length > 0
    assert 0.3 < is_committed.mean() < 0.6
    assert set(windows.committed_length) == {0, 1, 2, 3, 4}
    state = windows.state
    for i in range(HORIZON):
        free = windows.committed_length <= i
        law = task.expert_command(state, windows.style)
        np.testing.assert_array_equal(windows.actions[free, i], law[free])
        state = task.step(state, windows.actions[:, i], with_events=False)
    assert np.isfinite(windows.actions).all()


def test_windows_come_from_running_episodes_of_both_kinds(windows: Windows[Any]) -> None:
    assert windows.state.is_running.all()
    assert 0.3 < (windows.state.perturbation_tick >= 0).mean() < 0.7
    assert len(np.unique(windows.state.tick)) > 20


@pytest.mark.parametrize("with_images", [True, False])
def test_samples_say_what_was_seen(task: Task[Any], windows: Windows[Any], with_images: bool) -> None:
    indices = [7, 3, 11]
    samples = windows.samples(indices, with_images)
    chosen = windows.take(indices)
    embodiment = task.embodiment if with_images else task.state_embodiment
    np.testing.assert_array_equal(chosen.observed(with_images), np.stack([s.state for s in samples]))
    assert chosen.prompts() == [s.prompt for s in samples]
    np.testing.assert_array_equal(chosen.committed_length, [s.num_committed for s in samples])
    for sample in samples:
        assert (sample.robot_type, sample.control_mode) == (embodiment.name, embodiment.control_mode)
        assert set(sample.images) == set(embodiment.views)
        embodiment.check_state(sample.state)
        embodiment.check_actions(sample.actions)


def test_a_stale_plan_is_kept_beside_the_new_one(task: Task[Any], stale: StaleWindows[Any]) -> None:
    assert (stale.windows.committed_length == 4).all()
    assert (stale.windows.state.tick >= 4).all()
    np.testing.assert_array_equal(stale.old_continuation[:, :4], stale.windows.actions[:, :4])
    new, old = stale.windows.actions[:, 4:], stale.old_continuation[:, 4:]
    assert (new != old).any(axis=(1, 2)).mean() > 0.7
    part = stale.take([5, 2])
    np.testing.assert_array_equal(part.old_continuation, stale.old_continuation[[5, 2]])
    np.testing.assert_array_equal(part.windows.actions, stale.windows.actions[[5, 2]])


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (expert_windows, {"num_windows": 0}, "num_windows"),
        (expert_windows, {"seed": -1}, "seed"),
        (expert_windows, {"committed_share": 1.5}, "committed_share"),
        (expert_windows, {"max_delay": 12}, r"1\.\.11"),
        (stale_windows, {"delay": 12}, r"1\.\.11"),
        (stale_windows, {"delay": 0}, "got 0"),
        (stale_windows, {"horizon": 0, "delay": 1}, "horizon"),
    ],
)
def test_bad_arguments_are_refused(make: Callable[..., object], options: dict[str, float], words: str) -> None:
    arguments = {"task": TASKS["dynamic/conveyor"](), "num_windows": 10, "horizon": HORIZON, "seed": 0, **options}
    with pytest.raises(ValueError, match=words):
        make(**arguments)
