import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.disturbance import FREE_M, NEAR_M, RAD_PER_M, Disturbance, free_share
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import disturbed_ticks, expert_ticks
from cerebella.envs.workcell.moves import pointing_down
from cerebella.envs.workcell.task import ArmTarget, SceneObject
from cerebella.geometry import so3_log

from .cube_task import CubeTask

STD_M = 0.01
CUBE = SceneObject("cube", "cube", "red", np.array([0.3, 0.0, 0.1]), np.full(3, 0.04))


def test_errors_are_as_large_as_asked_and_drift() -> None:
    disturbance = Disturbance(STD_M, np.random.default_rng(0))
    targets = [ArmTarget(pointing_down([0.3, y, 0.5]), 0.4) for y in (0.2, -0.2)]
    missed = [disturbance.missed(targets, [CUBE]) for _ in range(3000)]
    assert {arm.opening for both in missed for arm in both} == {0.4}
    errors_m = np.array(
        [
            [sent.T_world_tool[:3, 3] - t.T_world_tool[:3, 3] for sent, t in zip(both, targets, strict=True)]
            for both in missed
        ]
    )
    turns = [
        sent.T_world_tool[:3, :3] @ t.T_world_tool[:3, :3].T
        for both in missed
        for sent, t in zip(both, targets, strict=True)
    ]
    np.testing.assert_array_equal(errors_m[0], np.zeros((2, 3)))
    np.testing.assert_allclose(errors_m.std(axis=0), STD_M, rtol=0.3)
    assert errors_m.std() == pytest.approx(STD_M, rel=0.1)
    assert np.std([so3_log(turn) for turn in turns]) == pytest.approx(RAD_PER_M * STD_M, rel=0.1)
    steps_m = np.diff(errors_m, axis=0)
    assert np.abs(steps_m).max() < 0.7 * STD_M
    assert steps_m.std() == pytest.approx(0.0013, rel=0.15)
    series = errors_m.reshape(len(errors_m), -1)
    correlation = np.corrcoef(np.concatenate([series, np.roll(series, -15, axis=0)], axis=1).T)
    assert np.diag(correlation, 6) == pytest.approx(3 * np.exp(-2), abs=0.15)  # (1 + lag / t) exp(-lag / t), t = 0.25 s


def test_nothing_is_missed_where_things_are_near() -> None:
    x, y, z = CUBE.position_m
    assert free_share(np.array([x, y, z]), [CUBE]) == 0.0  # in the hand
    shares = [
        free_share(np.array([x, y, z + 0.02 + gap]), [CUBE]) for gap in (NEAR_M, (NEAR_M + FREE_M) / 2, FREE_M, 1.0)
    ]
    np.testing.assert_allclose(shares, [0.0, 0.5, 1.0, 1.0], atol=1e-9)
    assert free_share(np.array([1.0, 1.0, NEAR_M]), [CUBE]) == 0.0  # at the table
    assert free_share(np.array([1.0, 1.0, 0.5]), []) == 1.0


@pytest.mark.parametrize("control_mode", ["end_effector", "joint"])
def test_what_is_recorded_is_the_clean_path_and_what_is_sent_is_beside_it(control_mode) -> None:
    environment = WorkcellEnvironment(CubeTask(), control_mode, with_images=False)
    undisturbed = [action.values for action in expert_ticks(environment, 1)]
    undisturbed_end = environment.cell.position_m("cube")
    clean, sent, tools, has_cube = [], [], [], []
    for action, applied in disturbed_ticks(environment, 1, 0, Disturbance(STD_M, np.random.default_rng(1))):
        clean.append(action.values)
        sent.append(applied.values)
        tools.append(environment.cell.left.T_world_tool[:3, 3])
        has_cube.append(environment.cell.left.grip_force_n > 1.0)
    assert environment.status().is_success
    num_same = min(len(clean), len(undisturbed))
    assert abs(len(clean) - len(undisturbed)) < 5  # the cube stands where it is, so that the same path is planned
    np.testing.assert_allclose(clean[: num_same - 60], undisturbed[: num_same - 60], atol=2e-3)
    off = np.abs(np.array(sent) - clean)[:, :7].max(axis=1)
    assert off[:60].max() > 0.5 * STD_M
    assert off[has_cube].max() < 1e-6
    assert np.linalg.norm(environment.cell.position_m("cube") - undisturbed_end) < 0.003


def test_a_seed_decides_what_is_sent() -> None:
    environment = WorkcellEnvironment(CubeTask(), with_images=False)

    def sent(seed: int) -> np.ndarray:
        ticks = disturbed_ticks(environment, 1, 0, Disturbance(STD_M, np.random.default_rng(seed)))
        return np.stack([applied.values for _, (_, applied) in zip(range(40), ticks, strict=False)])

    np.testing.assert_array_equal(sent(3), sent(3))
    assert np.abs(sent(3) - sent(4)).max() > 1e-3


@pytest.mark.parametrize("wrong", [0.0, -0.01, float("nan"), float("inf")])
def test_an_error_of_no_size_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="above 0 m"):
        Disturbance(wrong, np.random.default_rng(0))
