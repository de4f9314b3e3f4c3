import itertools

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import ExpertDriver, expert_ticks
from cerebella.envs.workcell.moves import (
    NORMAL,
    SLOW,
    both,
    go_to,
    grip,
    num_ticks_of,
    open_to,
    over,
    pointing_down,
    retreat,
    wait,
)

from .cube_task import CubeTask


@pytest.fixture(scope="module")
def environment() -> WorkcellEnvironment:
    environment = WorkcellEnvironment(CubeTask(), with_images=False)
    environment.reset(0)
    return environment


def test_pointing_down_points_down_and_turns_anticlockwise() -> None:
    pose = pointing_down([0.1, 0.2, 0.3], np.pi / 2)
    np.testing.assert_allclose(pose[:3, 0], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 1], [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 3], [0.1, 0.2, 0.3])


@pytest.mark.parametrize("pace", [NORMAL, SLOW])
@pytest.mark.parametrize("goal", [pointing_down([0.40, 0.0, 0.05], 1.2), pointing_down([0.23, 0.21, 0.22])])
def test_a_move_ends_at_its_goal_within_its_pace(environment, pace, goal) -> None:
    arm = environment.cell.left
    targets = list(go_to(arm, goal, 0.3, pace))
    np.testing.assert_allclose(targets[-1].T_world_tool, goal, atol=1e-12)
    positions = np.array([arm.T_world_requested[:3, 3], *(target.T_world_tool[:3, 3] for target in targets)])
    velocity = np.diff(positions, axis=0) * 30
    assert np.linalg.norm(velocity, axis=1).max() <= pace.speed_m_s * (1 + 1e-9)
    assert np.linalg.norm(np.diff(velocity, axis=0) * 30, axis=1).max() <= pace.acceleration_m_s2 * (1 + 1e-9)


def test_the_duration_is_the_shortest_that_keeps_every_limit() -> None:
    assert num_ticks_of(0.0, 0.0, NORMAL) == 1
    assert num_ticks_of(1.0, 0.0, NORMAL) == int(np.ceil(15 / 8 / 0.5 * 30))
    assert num_ticks_of(0.0, 2.0, NORMAL) == int(np.ceil(15 / 8 * 30))
    assert num_ticks_of(0.001, 0.0, NORMAL) == int(np.ceil(np.cbrt(0.06 / 60.0) * 30))


def test_over_goes_up_across_and_down(environment) -> None:
    goal = pointing_down([0.35, 0.0, 0.05])
    path = np.array([target.T_world_tool[:3, 3] for target in _simulated(environment, goal)])
    assert path[:, 2].max() == pytest.approx(0.3)
    is_moving_across = np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1) > 1e-6
    np.testing.assert_allclose(path[1:, 2][is_moving_across], 0.3, atol=1e-9)
    np.testing.assert_allclose(path[-1], goal[:3, 3], atol=1e-9)


def _simulated(environment, goal):
    """The targets of `over`, each of them requested, so that its parts follow each other."""
    environment.reset(0)
    arm = environment.cell.left
    for target in over(arm, goal, 0.3):
        environment.cell.command("left", arm.joints_at(target.T_world_tool)[0], target.opening)
        yield target


def test_two_arms_move_at_once_and_the_first_to_end_stays(environment) -> None:
    cell = environment.cell
    short, long = wait(cell.left, 0.1), open_to(cell.right, 0.0)
    targets = list(both(cell, left=short, right=long))
    assert len(targets) == int(np.ceil(1 / (0.25 / 0.08 / 30))) + 2
    assert targets[-1].right.opening == 0.0
    np.testing.assert_array_equal(targets[-1].left.T_world_tool, targets[0].left.T_world_tool)


def test_gripping_nothing_gives_up(environment) -> None:
    environment.reset(0)
    assert sum(1 for _ in grip(environment.cell.right, timeout_s=0.5)) == 15


def test_retreat_goes_backwards(environment) -> None:
    environment.reset(0)
    before = environment.cell.left.T_world_requested[:3, 3]
    *_, last = retreat(environment.cell.left, 0.05)
    np.testing.assert_allclose(last.T_world_tool[:3, 3] - before, [0, 0, 0.05], atol=1e-9)


@pytest.mark.parametrize("control_mode", ["end_effector", "joint"])
def test_the_expert_stays_within_the_limits_of_its_embodiment(control_mode) -> None:
    environment = WorkcellEnvironment(CubeTask(), control_mode, with_images=False)
    commands = np.array([action.values for action in expert_ticks(environment, 2)], dtype=np.float64)
    assert environment.status().is_success
    for values, dimension in zip(commands.T, environment.embodiment.actions, strict=True):
        assert dimension.low <= values.min() <= values.max() <= dimension.high
        assert np.abs(np.diff(values)).max() * 30 <= dimension.max_velocity * 1.001, dimension.name
        assert np.abs(np.diff(values, 2)).max() * 30**2 <= dimension.max_acceleration, dimension.name


def test_a_finished_expert_holds_still(environment) -> None:
    environment.reset(0)
    environment.task.max_ticks = 400
    driver = ExpertDriver(environment)
    for _ in itertools.takewhile(lambda _: not environment.status().is_done, range(200)):
        environment.apply(driver.next_action())
    assert environment.status().is_success
    while not driver.is_finished:
        driver.next_action()
    np.testing.assert_array_equal(driver.next_action().values, driver.next_action().values)
