import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.environment import GRIPPER, WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import expert_ticks, run_expert
from cerebella.types import Action

from .cube_task import CubeTask


def blind(**options) -> WorkcellEnvironment:
    return WorkcellEnvironment(CubeTask(), with_images=False, **options)


def trajectory(environment: WorkcellEnvironment, seed: int) -> np.ndarray:
    """Everything that moves, float64[ticks, nq + nv], under the expert."""
    rows = []
    for _ in expert_ticks(environment, seed):
        rows.append(np.concatenate([environment.cell.data.qpos, environment.cell.data.qvel]))
    return np.array(rows)


def test_a_cube_is_gripped_by_friction_lifted_and_held() -> None:
    """By 10 cm, for 3 seconds; no equality but the coupling of the fingers is in the model."""
    environment = blind()
    assert environment.cell.model.neq == 2
    status = run_expert(environment, seed=0)
    assert status.is_success
    assert status.metrics["height_m"] > 0.11
    assert 20.0 < environment.cell.left.grip_force_n < 26.0


def test_joint_commands_do_the_same_as_poses() -> None:
    by_pose, by_joints = blind(), blind(control_mode="joint")
    assert run_expert(by_pose, seed=1).is_success
    assert run_expert(by_joints, seed=1).is_success
    np.testing.assert_allclose(by_pose.observe().state, by_joints.observe().state, atol=1e-4)


@pytest.mark.parametrize("randomisation", ["none", "wide"])
def test_after_a_reset_everything_is_as_in_a_fresh_cell(randomisation: str) -> None:
    used = blind(randomisation=randomisation)
    first = trajectory(used, seed=3)
    other = trajectory(used, seed=4)
    np.testing.assert_array_equal(trajectory(used, seed=3), first)
    np.testing.assert_array_equal(trajectory(blind(randomisation=randomisation), seed=3), first)
    assert not np.array_equal(other[0], first[0])


def test_randomisation_does_not_move_what_the_task_places() -> None:
    plain, wide = blind(), blind(randomisation="wide")
    colours = set()
    for seed in range(4):
        plain.reset(seed)
        wide.reset(seed)
        np.testing.assert_array_equal(plain.cell.position_m("cube"), wide.cell.position_m("cube"))
        assert plain.observe().prompt == wide.observe().prompt
        colours.add(tuple(wide.cell.model.geom("table").rgba))
    assert len(colours) == 4
    assert plain.cell.delay_ticks == 0


@pytest.mark.parametrize("control_mode", ["end_effector", "joint"])
def test_random_commands_leave_every_number_finite(control_mode) -> None:
    environment = blind(control_mode=control_mode)
    environment.task.max_ticks = 10_000
    low, high = (np.array([getattr(d, end) for d in environment.embodiment.actions]) for end in ("low", "high"))
    rng = np.random.default_rng(0)
    environment.reset(0)
    targets = rng.uniform(low, high, (100, len(low))).astype(np.float32)
    for tick in range(1000):
        environment.apply(Action(values=targets[tick // 10], tick=tick))
    assert environment.status().reason == ""
    assert np.isfinite(environment.observe().state).all()
    assert (environment.status().metrics["unreachable"] > 0) == (control_mode == "end_effector")


def test_a_pose_out_of_reach_is_approached() -> None:
    environment = blind()
    environment.reset(0)
    command = environment.embodiment.hold(environment.observe(), None).values
    command[:3] = [2.0, 0.0, 0.18]
    for tick in range(40):
        environment.apply(Action(values=command, tick=tick))
    x, y, _ = environment.observe().state[:3]
    assert x > 0.6  # pointing down, the wrist stretched out
    assert abs(y) < 0.01
    assert environment.status().metrics["unreachable"] == 40


def test_holding_still_does_not_move() -> None:
    environment = blind()
    environment.reset(0)
    start = environment.observe()
    last = None
    for _ in range(30):
        last = environment.embodiment.hold(environment.observe(), last)
        environment.apply(last)
    np.testing.assert_allclose(environment.observe().state, start.state, atol=1e-5)


def test_broken_physics_ends_the_episode_with_a_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file
    environment = blind()
    environment.reset(0)
    environment.cell.data.qvel[:] = 1e30
    environment.apply(environment.embodiment.hold(environment.observe(), None))
    status = environment.status()
    assert status.is_done
    assert not status.is_success
    assert status.reason.startswith("simulation failed: velocities")
    with pytest.raises(ValueError, match="the episode is over"):
        environment.apply(environment.embodiment.hold(environment.observe(), None))
    after = trajectory(environment, seed=3)
    assert environment.status().is_success
    np.testing.assert_array_equal(after, trajectory(blind(), seed=3))


def test_an_episode_runs_out_of_time() -> None:
    environment = blind()
    environment.task.max_ticks = 2
    environment.reset(0)
    for _ in range(2):
        environment.apply(environment.embodiment.hold(environment.observe(), None))
    assert environment.status().reason == "time"


def test_views_have_the_asked_size_and_show_the_cube() -> None:
    environment = WorkcellEnvironment(CubeTask(), render_size=(64, 80))
    environment.reset(0)
    images = environment.observe().images
    assert set(images) == {"base", "left_wrist", "right_wrist"}
    assert all(image.shape == (64, 80, 3) for image in images.values())
    is_red = (images["base"][..., 0] > 90) & (images["base"][..., 1:] < 60).all(axis=-1)
    assert is_red.any()
    np.testing.assert_array_equal(environment.observe().images["base"], images["base"])
    environment.close()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="control_mode must be one of end_effector, joint"):
        blind(control_mode="torque")
    with pytest.raises(ValueError, match="unknown randomisation 'wild'; known: none, mild, wide"):
        blind(randomisation="wild")
    environment = blind()
    with pytest.raises(ValueError, match="call reset"):
        environment.observe()
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        environment.reset(-1)
    environment.reset(0)
    command = environment.embodiment.hold(environment.observe(), None)
    with pytest.raises(ValueError, match="current tick is 0"):
        environment.apply(Action(values=command.values, tick=1))
    with pytest.raises(ValueError, match="actions must be"):
        environment.apply(Action(values=command.values[:7], tick=0))
    assert environment.observe().state[GRIPPER] == pytest.approx(1.0)
