import numpy as np
import pytest

from cerebella.embodiment import Embodiment
from cerebella.processing.statistics import statistics_from_released
from cerebella.released_robots import RELEASED_ROBOTS, released_embodiment
from cerebella.types import Observation


@pytest.mark.parametrize(
    ("robot_type", "views", "state_slots", "rate_hz"),
    [
        ("libero_all", ("base", "left_wrist"), list(range(8)), 20),
        ("calvin_abcd_orig", ("base", "left_wrist"), list(range(7)), 30),
        ("calvin_abc_orig", ("base", "left_wrist"), list(range(7)), 30),
        ("fractal_delta", ("ego",), list(range(8)), 3),
        ("bridge_delta", ("base",), [0, 1, 2, 3, 4, 5, 7], 5),
    ],
)
def test_the_layouts_are_those_of_the_released_clients(
    robot_type: str, views: tuple[str, ...], state_slots: list[int], rate_hz: float
) -> None:
    robot = released_embodiment(robot_type)
    assert robot.name == robot_type
    assert robot.views == views
    assert [d.slot for d in robot.states] == state_slots
    assert [d.slot for d in robot.actions] == list(range(7))
    assert not any(d.relative for d in robot.actions)
    assert (robot.policy_hz, robot.control_hz) == (rate_hz, rate_hz)


def hold(robot: Embodiment, gripper_state: list[float]) -> list[float]:
    state = np.zeros(robot.state_dim, dtype=np.float32)
    state[-len(gripper_state) :] = gripper_state
    return robot.hold(Observation(state, "hold", 0, 0.0), None).values.tolist()


def test_holding_still_moves_nothing_and_keeps_the_gripper_as_it_is() -> None:
    """Open and closed as each client's simulator reads them: LIBERO opens at -1, CALVIN at 1, SimplerEnv's models at 1."""
    for robot_type, opened, open_command, closed, closed_command in (
        ("libero_all", [0.04, -0.04], -1.0, [0.0, 0.0], 1.0),
        ("calvin_abcd_orig", [0.08], 1.0, [0.0], -1.0),
        ("fractal_delta", [0.0], 1.0, [1.0], 0.0),
        ("bridge_delta", [1.0], 1.0, [0.0], 0.0),
    ):
        robot = released_embodiment(robot_type)
        assert hold(robot, opened) == [0.0] * 6 + [open_command]
        assert hold(robot, closed) == [0.0] * 6 + [closed_command]


def test_released_statistics_fit_and_an_unknown_robot_lists_the_known_ones() -> None:
    std = np.full((10, 32), 1e-6)
    std[:, :7] = 0.5
    for robot_type in RELEASED_ROBOTS:
        assert statistics_from_released(np.zeros((10, 32)), std, released_embodiment(robot_type)).is_active.all()
    with pytest.raises(
        ValueError, match="'droid_pt'; known robot types: libero_all, calvin_abcd_orig, calvin_abc_orig, "
    ):
        released_embodiment("droid_pt")
