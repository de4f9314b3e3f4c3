"""F-22: at a row the command is the row; in between it is smooth, within the two rows, and right for each kind."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.geometry import so3_exp, so3_log
from cerebella.runtime import turns
from cerebella.runtime.interpolation import Path, Vector, hermite, whole
from cerebella.runtime.motion import MotionLimiter
from cerebella.runtime.rates import Rates
from cerebella.types import FloatArray

from .mixed_robot import GRIPPER, ROTATION, SINGLE, Watch, make_robot

SEEDS = st.integers(0, 2**40)
ROBOT = make_robot(100.0)


def draw_rows(seed: int, num_rows: int = 8, size: float = 0.3) -> FloatArray:
    """Rough rows: any steps, some of them none; rotations up to `size` rad apart, anywhere on the sphere."""
    rng = np.random.default_rng(seed)
    rows = np.cumsum(rng.normal(size=(num_rows, 9)) * size * rng.integers(0, 2, (num_rows, 9)), axis=0)
    rotation = so3_exp(rng.normal(size=3))
    for i in range(num_rows):
        rows[i, ROTATION] = so3_log(rotation)
        step = rng.normal(size=3)
        rotation = rotation @ so3_exp(size * rng.random() * step / np.linalg.norm(step))
    rows[:, GRIPPER] = rng.integers(0, 2, num_rows)
    return rows.astype(np.float32)


@settings(deadline=None)
@given(SEEDS, st.sampled_from([1e-6, 0.3, 3.0]))
def test_f22_at_a_row_it_is_the_row_bit_for_bit(seed: int, size: float) -> None:
    rows = draw_rows(seed, size=size)
    path = Path(rows, ROBOT)
    for i, row in enumerate(rows):
        assert path.at(i).astype(np.float32).tobytes() == row.tobytes()
        assert path.at(float(i)).dtype == np.float64


@settings(deadline=None)
@given(SEEDS)
def test_f22_outside_it_is_the_first_or_the_last_row(seed: int) -> None:
    rows = draw_rows(seed)
    path = Path(rows, ROBOT)
    for row in (-1e9, -1.0, -1e-12):
        np.testing.assert_array_equal(path.at(row), rows[0])
    for row in (7.0 + 1e-12, 8.5, 1e9):
        np.testing.assert_array_equal(path.at(row), rows[-1])
    single = Path(rows[:1], ROBOT)
    np.testing.assert_array_equal(single.at(0.5), rows[0])
    assert not single.largest_steps.any()


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.floats(1e-6, 10.0))
def test_f22_between_two_rows_it_only_goes_from_one_to_the_other(seed: int, size: float) -> None:
    rows = draw_rows(seed, size=size)
    path = Path(rows, ROBOT)
    for i in range(len(rows) - 1):
        values = np.stack([path.at(i + k / 24) for k in range(25)])[:, SINGLE]
        direction = np.sign(rows[i + 1] - rows[i])[SINGLE]
        rounding = 1e-15 * (1 + np.abs(rows[:, SINGLE]).max())
        assert (np.diff(values, axis=0) * direction >= -rounding).all()
        low, high = np.minimum(rows[i], rows[i + 1])[SINGLE], np.maximum(rows[i], rows[i + 1])[SINGLE]
        assert (values >= low - rounding).all()
        assert (values <= high + rounding).all()
        assert (values[:, direction == 0] == rows[i, SINGLE][direction == 0]).all(), "what stands, stands exactly"


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_f22_the_velocity_has_no_jump_at_a_row(seed: int) -> None:
    rows = draw_rows(seed)
    path, step = Path(rows, ROBOT), 1e-6
    for i in range(1, len(rows) - 1):
        before, at, after = (path.at(i + offset) for offset in (-step, 0.0, step))
        np.testing.assert_allclose((at - before)[SINGLE] / step, (after - at)[SINGLE] / step, atol=2e-5)


def angular_velocity(path: Path, row: float, step: float) -> Vector:
    """In the body's own axes, rad per row, between `row` and `row + step`."""
    start, end = (path.at(r)[ROTATION].tolist() for r in sorted((row, row + step)))
    return np.asarray(turns.between(start, end)) / abs(step)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([1e-6, 0.3, 2.5]))
def test_f22_rotations_turn_on_the_sphere_with_a_continuous_angular_velocity(seed: int, size: float) -> None:
    rows = draw_rows(seed, size=size)
    path, step = Path(rows, ROBOT), 1e-5
    for i in range(1, len(rows) - 1):
        before, after = angular_velocity(path, i, -step), angular_velocity(path, i, step)
        np.testing.assert_allclose(before, after, atol=1e-3 * size)
    for row in np.linspace(0.0, 6.9999, 60):  # no jump anywhere: never much faster than the steps
        assert np.linalg.norm(angular_velocity(path, row, 1e-4)) < 4 * size + 1e-6


def test_f22_a_steady_turn_stays_steady_through_half_a_turn() -> None:
    """About one axis at 0.2 rad per row, with rows whose numbers jump at pi."""
    axis = np.asarray([2.0, -1.0, 2.0]) / 3.0
    rows = np.zeros((40, 9), dtype=np.float32)
    for i in range(40):
        rows[i, ROTATION] = axis * math.remainder(0.2 * i, math.tau)
    path = Path(rows, ROBOT)
    for row in np.linspace(0.0, 39.0, 500):
        np.testing.assert_allclose(so3_exp(path.at(row)[ROTATION]), so3_exp(axis * 0.2 * row), atol=1e-5)
    np.testing.assert_allclose(path.largest_steps[ROTATION], np.abs(0.2 * axis), atol=1e-5)


def test_f22_half_a_turn_from_row_to_row() -> None:
    rows = np.zeros((3, 9), dtype=np.float32)
    rows[1, ROTATION] = 0.0, 0.0, np.float32(math.pi)
    rows[2, ROTATION] = 0.0, 0.0, 2 * np.float32(math.pi)
    path = Path(rows, ROBOT)
    angles = [path.at(row)[5] for row in np.linspace(0.0, 1.0, 50)]
    assert np.isfinite(angles).all()
    assert (np.diff(angles) > 0).all() or (np.diff(angles[:-1]) < 0).all()


@settings(deadline=None)
@given(SEEDS, st.floats(0.0, 7.0))
def test_f22_grippers_keep_the_last_row(seed: int, row: float) -> None:
    rows = draw_rows(seed)
    assert Path(rows, ROBOT).at(row)[GRIPPER] == rows[int(whole(row)), GRIPPER]


def test_f22_rounding_does_not_keep_a_gripper_one_command_longer() -> None:
    """A row that is reached by adding up control ticks is that row."""
    rows = draw_rows(1)
    rows[:, GRIPPER] = np.arange(8) % 2
    position, path = 0.0, Path(rows, ROBOT)
    for k in range(1, 24):
        position += 0.3
        if k % 10 == 0:
            assert path.at(position).tobytes() == rows[3 * k // 10].astype(np.float64).tobytes()
    assert whole(3.0 - 1e-10) == 3.0
    assert whole(3.0 - 1e-7) == 3.0 - 1e-7


def test_a_standing_chunk_stands_bit_for_bit() -> None:
    """Not even rounding moves it: else a robot at rest would tremble in its last digit."""
    rows = np.repeat(draw_rows(7)[:1], 5, axis=0)
    path = Path(rows, ROBOT)
    assert {path.at(row).tobytes() for row in np.linspace(0.0, 4.0, 100)} == {rows[0].astype(np.float64).tobytes()}


def test_largest_steps_leave_grippers_out() -> None:
    rows = np.zeros((4, 9), dtype=np.float32)
    rows[:, 0] = 0.0, 0.5, -0.25, 0.0
    rows[:, GRIPPER] = 0.0, 1.0, 0.0, 1.0
    steps = Path(rows, ROBOT).largest_steps
    assert steps[0] == 0.75
    assert not steps[1:].any()


def test_hermite_has_these_ends() -> None:
    assert hermite(0.0, 1.0, 5.0, 2.0, 7.0) == 1.0
    assert hermite(1.0, 1.0, 5.0, 2.0, 7.0) == 2.0
    assert (hermite(1e-7, 1.0, 5.0, 2.0, 7.0) - 1.0) / 1e-7 == pytest.approx(5.0, rel=1e-5)
    assert (2.0 - hermite(1 - 1e-7, 1.0, 5.0, 2.0, 7.0)) / 1e-7 == pytest.approx(7.0, rel=1e-5)


@pytest.mark.parametrize("control_hz", [30.0, 100.0, 250.0, 500.0, 443.21])
def test_f22_slow_rows_arrive_at_the_robot_exactly_at_every_rate(control_hz: float) -> None:
    """Rows, path and limiter together: on each policy tick that a command meets, the action bit for bit, within limits.

    The slopes of the path bend at the rows; a motion whose bends fit the jerk limit is sent as it is.
    """
    robot = make_robot(control_hz, lambda kind: (-6.0, 6.0, 2.0, 15.0, 3000.0))
    time = np.arange(60) / 60
    shape = 256 * (time * (1 - time)) ** 4
    rows = (0.1 * shape[:, None] * np.asarray([1.0, -0.5, 0.7, 0.2, -1.0, 0.3, 0.9, 0.1, 0.0])).astype(np.float32)
    path, rates, limiter = Path(rows, robot), Rates(30.0, control_hz), MotionLimiter(robot, control_hz)
    limiter.reset(rows[0])
    watch = Watch(limiter)
    num_met, k = 0, 1
    while sum(rates.locate(k)) < len(rows) - 1:
        (tick, phase), following = rates.locate(k), rates.locate(k + 1)
        sent = limiter.follow(path.at(tick + phase), path.at(sum(following)))
        watch.judge(sent)
        if phase == 0.0:
            assert sent.tobytes() == rows[tick].tobytes()
            num_met += 1
        k += 1
    assert num_met >= (5 if control_hz != 443.21 else 0)
