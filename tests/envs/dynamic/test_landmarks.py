from typing import Any

import numpy as np
import pytest

from cerebella.envs.dynamic.landmarks import one_of_each
from cerebella.envs.dynamic.picture import Picture
from cerebella.envs.dynamic.task import Task
from cerebella.envs.dynamic.tasks import TASKS


@pytest.fixture(params=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task[Any]:
    return TASKS[request.param]()


def test_what_an_episode_shows(task: Task[Any]) -> None:
    state, style = task.reset(range(16), True), task.steady_style(16)
    num_classes = len(task.landmark_names)
    seen = np.zeros(num_classes, dtype=bool)
    for tick in range(60):
        if tick % 10 == 0:
            shown = task.landmarks(state)
            truth = shown.in_picture(num_classes)
            everyone, running = np.arange(16), state.is_running
            assert truth.pixel.shape == (16, shown.is_present.shape[1], 2)
            seen[truth.class_index[truth.is_present]] = True
            assert truth.is_present[everyone, truth.target_index][running].all()
            assert (truth.pixel[truth.is_present] >= 0).all()
            assert (truth.pixel[truth.is_present] < (96, 64)).all()
            alone = task.landmarks(state.take(slice(3, 4)))
            np.testing.assert_array_equal(alone.position[0], shown.position[3])
        state = task.step(state, task.expert_command(state, style))
    assert seen.sum() >= 3
    if task.name != "dynamic/conveyor":  # not every colour lies on every belt
        assert seen.all(), [task.landmark_names[i] for i in np.flatnonzero(~seen)]


def test_positions_become_pixels() -> None:
    dot = np.array([[0.1013, 0.2487], [0.4811, 0.1]], dtype=np.float32)
    shown = one_of_each([dot, dot], target=[1, 0], is_present=[True, [False, True]]).in_picture(2)
    np.testing.assert_allclose(shown.pixel[0, 0], (20.26, 49.74), atol=1e-3)
    np.testing.assert_array_equal(shown.is_present, [[True, False], [False, False]])
    np.testing.assert_array_equal(shown.target_index, [1, 0])
    picture = Picture(2, 64, 96, (0, 0, 0))
    picture.disc(dot, 0.004, (200, 0, 0))
    u, v = np.floor(shown.pixel[0, 0]).astype(int)
    assert picture.finish()[0, v, u, 0] > 150
