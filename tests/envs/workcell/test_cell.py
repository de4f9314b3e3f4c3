from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from cerebella.envs.workcell.arm_kinematics import JOINT_LOW_RAD
from cerebella.envs.workcell.cell import CONTROL_HZ, MAX_STEP_OPENING, MAX_STEP_RAD, Cell
from cerebella.envs.workcell.environment import make_cell
from cerebella.envs.workcell.moves import go_to, pointing_down
from cerebella.envs.workcell.scene import room_spec
from cerebella.geometry import transform

from .cube_task import CubeTask


@pytest.fixture
def cell() -> Cell:
    cell = make_cell(CubeTask())
    cell.clear()
    cell.settle()
    return cell


def test_a_straight_line_is_followed_within_two_millimetres(cell: Cell) -> None:
    """0.32 m in 0.8 s, at up to 0.75 m/s: 1.6 mm along the line, 0.3 mm across it, nothing at the end."""
    start = cell.left.T_world_requested[:3, 3]
    goal = pointing_down([0.40, 0.0, 0.05])
    direction = (goal[:3, 3] - start) / np.linalg.norm(goal[:3, 3] - start)
    num_ticks = 24
    along, across = [], []
    for i in range(1, num_ticks + 6):
        u = min(i / num_ticks, 1.0)
        wanted = start + u**3 * (10 - 15 * u + 6 * u**2) * (goal[:3, 3] - start)
        joints, is_reached = cell.left.joints_at(pointing_down(wanted))
        assert is_reached
        cell.command("left", joints, 1.0)
        cell.step()
        error = cell.left.T_world_tool[:3, 3] - wanted
        along.append(error @ direction)
        across.append(np.linalg.norm(error - (error @ direction) * direction))
    assert np.abs(along).max() < 2e-3
    assert max(across) < 5e-4
    assert abs(along[-1]) < 1e-5


def test_commands_are_kept_within_velocity_and_range(cell: Cell) -> None:
    before = cell.left.requested_rad
    cell.command("left", before + np.array([0.0, 0.1, -0.4, 0.0, 0.0, 0.0]), -3.0)
    np.testing.assert_allclose(cell.left.requested_rad - before, [0.0, 0.025, -MAX_STEP_RAD[2], 0.0, 0.0, 0.0])
    assert cell.left.requested_opening == pytest.approx(1.0 - MAX_STEP_OPENING)
    for _ in range(100):
        cell.command("left", np.full(6, -10.0), 0.0)
    assert cell.left.requested_opening == 0.0
    np.testing.assert_allclose(cell.left.requested_rad, JOINT_LOW_RAD)


def test_a_delay_plays_commands_later(cell: Cell) -> None:
    def positions(delay_ticks: int) -> list[float]:
        cell.clear(delay_ticks)
        cell.settle()
        found = []
        for target in go_to(cell.left, pointing_down([0.3, 0.1, 0.1])):
            cell.command("left", cell.left.joints_at(target.T_world_tool)[0], target.opening)
            cell.step()
            found.append(float(cell.left.T_world_tool[0, 3]))
        return found

    prompt, late = positions(0), positions(3)
    np.testing.assert_allclose(late[3:], prompt[:-3], atol=1e-12)


def test_whatever_a_task_changes_in_the_model_is_restored(cell: Cell) -> None:
    mass, friction = cell.model.body_mass.copy(), cell.model.geom_friction.copy()
    cell.model.body_mass[:] *= 2.0
    cell.model.geom_friction[:] = 0.1
    cell.data.qpos[:] = 0.3
    cell.clear()
    np.testing.assert_array_equal(cell.model.body_mass, mass)
    np.testing.assert_array_equal(cell.model.geom_friction, friction)
    np.testing.assert_array_equal(cell.left.joints_rad, cell.left.home_rad)


def test_bodies_are_placed_and_read(cell: Cell) -> None:
    pose = transform(np.eye(3), [0.35, 0.1, 0.3])
    cell.place_body("cube", pose)
    cell.settle()
    np.testing.assert_allclose(cell.T_world_body("cube"), pose, atol=1e-12)
    assert cell.speed_m_s("cube") == 0.0
    for _ in range(3):
        cell.step()
    assert cell.speed_m_s("cube") == pytest.approx(9.81 * 3 / CONTROL_HZ, rel=1e-3)
    with pytest.raises(ValueError, match="'left_hand' is neither free nor mocap"):
        cell.place_body("left_hand", pose)


def test_a_parked_body_is_away_until_the_next_reset(cell: Cell) -> None:
    cell.park("cube")
    cell.settle()
    for _ in range(30):
        cell.step()
    np.testing.assert_allclose(cell.position_m("cube"), [0.3, 0.0, -0.4], atol=1e-9)
    assert cell.data.ncon == 0
    cell.clear()
    cell.settle()
    for _ in range(10):
        cell.step()
    assert cell.is_touching("cube", "table")


def test_the_arms_touch_each_other(cell: Cell) -> None:
    for side in ("left", "right"):
        cell.arm(side).place(cell.arm(side).joints_at(pointing_down([0.3, 0.0, 0.2]))[0], 1.0)
    cell.settle()
    bodies = {cell.model.body(cell.model.geom_bodyid[geom]).name for geom in cell.data.contact.geom.ravel()}
    assert {"left_hand", "right_hand"} <= bodies


def test_contacts_weigh_what_lies_on_the_table(cell: Cell) -> None:
    assert not cell.is_touching("cube", "left_pad_left")
    for _ in range(30):
        cell.step()
    assert cell.is_touching("cube", "table")
    assert cell.contact_force_n("cube") == pytest.approx(0.05 * 9.81, rel=1e-3)
    assert cell.contact_force_n("cube", "table") == pytest.approx(0.05 * 9.81, rel=1e-3)
    assert cell.contact_force_n("cube", "left_pad_left") == 0.0
    assert cell.left.grip_force_n == 0.0


def test_a_fault_cuts_the_tick_short(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the task does between physics steps then no longer runs; the next `clear` forgets it."""
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file
    times_s: list[float] = []

    def break_after_three() -> None:
        times_s.append(cell.data.time)
        if len(times_s) == 3:
            cell.data.qvel[-1] = np.nan

    cell.step(break_after_three)
    assert len(times_s) == 3
    assert cell.fault == "velocities are no numbers or huge"
    assert cell.tick == 1
    assert np.isfinite(cell.data.qpos).all()
    assert np.isfinite(cell.data.qvel).all()
    cell.clear()
    cell.settle()
    assert cell.fault == ""
    cell.step(lambda: times_s.append(cell.data.time))
    assert len(times_s) == 3 + cell.steps_per_tick


def test_memory_that_is_full_is_a_fault(cell: Cell) -> None:
    kind = mujoco.mjtWarning.mjWARN_CONTACTFULL  # pyright: ignore[reportAttributeAccessIssue]
    cell.data.warning[kind].number = 1
    assert cell.fault == "no memory is left for contacts"


def test_the_time_step_must_divide_the_tick() -> None:
    with pytest.raises(ValueError, match="time step must be"):
        Cell(room_spec().compile(), 7)
    with pytest.raises(ValueError, match="whole number"):
        Cell(room_spec().compile(), 0)
