"""E-11: a plan is played forwards only, at most at its own speed, and stops at its last row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.embodiment import Embodiment
from cerebella.runtime.interpolation import Path
from cerebella.runtime.motion import MotionLimiter
from cerebella.runtime.progress import Progress
from cerebella.types import FloatArray

from .mixed_robot import MOVING, Watch, make_robot

SEEDS = st.integers(0, 2**40)
RATES_HZ = (30.0, 100.0, 250.0, 500.0, 443.21)


def draw_path(robot: Embodiment, seed: int) -> Path:
    """A walk that keeps about half of the limits of velocity and acceleration, in 2 to 40 rows."""
    rng = np.random.default_rng(seed)
    num_rows = int(rng.integers(2, 40))
    speed = np.clip(np.cumsum(rng.normal(size=(num_rows, 9)) * 0.004, axis=0), -0.03, 0.03) * rng.choice([1.0, 0.1])
    return Path((rng.uniform(-0.3, 0.3) + np.cumsum(speed, axis=0)).astype(np.float32), robot)


def rows_of(path: Path, robot: Embodiment, row: float = 0.0, brake_at: int = 10**9) -> list[float]:
    """The rows played from `row` on, the last one twice."""
    progress = Progress(path, robot, robot.policy_hz / robot.control_hz)
    rows = [row]
    for k in range(20_000):
        rows.append(rows[-1] + (progress.step(rows[-1]) if k < brake_at else progress.brake()))
        if rows[-1] == rows[-2]:
            return rows
    raise AssertionError("it never stops")


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(RATES_HZ), st.booleans())
def test_e11_rows_only_grow_by_one_row_per_policy_tick_at_most(seed: int, control_hz: float, brakes: bool) -> None:
    robot = make_robot(control_hz)
    path = draw_path(robot, seed)
    full_speed = 30.0 / control_hz
    rows = rows_of(path, robot, brake_at=seed % 50 if brakes else 10**9)
    assert min(np.diff(rows)) >= 0.0
    assert max(np.diff(rows)) <= full_speed * (1 + 1e-9)
    if not brakes:
        assert rows[1] == pytest.approx(full_speed) or len(path) < 6, "it begins at its own speed"


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(RATES_HZ))
def test_e11_it_stops_at_the_last_row_where_there_is_room(seed: int, control_hz: float) -> None:
    robot = make_robot(control_hz)
    path = draw_path(robot, seed)
    rows = rows_of(path, robot)
    braking = rows_of(path, robot, brake_at=0)
    if braking[-1] <= len(path) - 1:  # so a stop fits
        assert rows[-1] == pytest.approx(len(path) - 1, abs=1e-6), "there, and not before"
    else:
        assert rows[-1] >= len(path) - 1


def test_e11_where_a_stop_does_not_fit_it_brakes_from_the_first_tick() -> None:
    robot = make_robot(500.0)
    rows = np.linspace(0, 0.06 * 3, 3, dtype=np.float32)[:, None] * np.ones(9, dtype=np.float32)
    progress = Progress(Path(rows, robot), robot, 0.06)
    speeds = [progress.step(1.97 + 0.05 * k) for k in range(4)]
    assert all(b < a for a, b in zip([0.06, *speeds], speeds, strict=False))


@pytest.mark.parametrize("control_hz", RATES_HZ)
def test_e11_a_stop_of_the_progress_is_a_stop_of_the_robot_within_its_limits(control_hz: float) -> None:
    """On a straight path at nearly full velocity the limiter has nothing left to do: each command is the target."""
    robot = make_robot(control_hz)
    rows = (np.linspace(0, 1.9 * 20 / 30, 21)[:, None] * np.ones(9)).astype(np.float32)
    path, limiter = Path(rows, robot), MotionLimiter(robot, control_hz)
    for brake_at in (10**9, round(control_hz / 6)):
        played = rows_of(path, robot, brake_at=brake_at)
        targets = np.stack([path.at(row) for row in played])
        differences = [np.abs(np.diff(targets[:, 0], order)).max() * control_hz**order for order in (2, 3)]
        assert differences[0] <= 0.51 * 15.0
        assert differences[1] <= 0.51 * 300.0 + 4e-7 * control_hz**3
        assert limiter.embodiment is robot


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from(RATES_HZ))
def test_the_robot_keeps_its_limits_to_the_end_of_any_plan_and_comes_to_rest(seed: int, control_hz: float) -> None:
    robot = make_robot(control_hz)
    path = draw_path(robot, seed)
    limiter, played = MotionLimiter(robot, control_hz), rows_of(path, robot)
    limiter.reset(path.at(0.0))
    watch = Watch(limiter)
    for row, following in zip(played, [*played[1:], played[-1]], strict=True):
        watch.judge(limiter.follow(path.at(row), path.at(following)))
    for _ in range(int(2 * control_hz)):
        watch.judge(limiter.follow(path.at(played[-1]), path.at(played[-1])))
    assert limiter.stands_still
    np.testing.assert_allclose(limiter.state.position[MOVING], path.at(played[-1])[MOVING], atol=1e-12)


def test_another_plan_goes_on_at_the_speed_of_the_last_one() -> None:
    robot = make_robot(100.0)
    rows: FloatArray = (np.linspace(0, 0.6, 11)[:, None] * np.ones(9)).astype(np.float32)
    first, second = (Progress(Path(rows, robot), robot, 0.3) for _ in range(2))
    for _ in range(4):
        first.brake()
    assert 0.0 < first.speed < 0.3
    second.continue_from(first)
    assert second.speed == first.speed
    speeds = [second.step(0.0) for _ in range(30)]
    assert all(0 <= b - a <= 0.1 for a, b in zip([first.speed, *speeds], speeds, strict=False))
    assert speeds[-1] == pytest.approx(0.3)
    slow = Progress(Path(rows, robot), robot, 0.1)
    slow.continue_from(second)
    assert slow.speed == 0.1


def test_a_plan_that_stands_is_played_to_its_end() -> None:
    """Nothing moves, so nothing has to be slowed down; grippers do not count."""
    robot = make_robot(30.0)
    rows = np.zeros((5, 9), dtype=np.float32)
    rows[:, 8] = 0.0, 1.0, 0.0, 1.0, 1.0
    assert rows_of(Path(rows, robot), robot) == [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]


def test_without_limits_worth_the_name_the_last_row_is_reached_at_full_speed() -> None:
    robot = make_robot(30.0, lambda kind: (-6.0, 6.0, 1e12, 1e12, 1e12))
    rows = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    assert rows_of(Path(rows, robot), robot) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0]
