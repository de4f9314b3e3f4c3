from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cerebella.processing.statistics import Statistics, measure_statistics, statistics_from_released
from cerebella.released_robots import released_embodiment

ROBOT = released_embodiment("bridge_delta")
RANDOM = np.random.default_rng(0)
MEAN = RANDOM.normal(0, 1, (4, 32))
STD = np.where(np.arange(32) < 7, RANDOM.uniform(0.1, 1, (4, 32)), 1e-6)


def test_statistics_are_per_row_survive_a_file_and_share_absolute_dimensions(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    relative = random.normal(0, [[0.1, 1.0], [3.0, 2.0]], (4000, 2, 2)).astype(np.float32)
    states = random.normal(0, 1, (4000, 2)).astype(np.float32)
    measured = measure_statistics(relative, states, "toy", "end_effector", fixed_dimensions=[False, True])
    np.testing.assert_allclose(measured.action_std[:, 0], [0.1, 3.0], rtol=0.1)
    assert measured.action_std[0, 1] == measured.action_std[1, 1]
    measured.save(tmp_path / "statistics.json")
    loaded = Statistics.load(tmp_path / "statistics.json", "toy", "end_effector")
    assert loaded.hash == measured.hash
    with pytest.raises(ValueError, match=r"no statistics for 'other/joint'.*toy/end_effector"):
        Statistics.load(tmp_path / "statistics.json", "other", "joint")


def test_released_arrays_become_statistics_of_the_slots_in_use() -> None:
    """Decoded as the released simulation code does: a * std + mean, nothing added; the state stays what it is."""
    std = STD.copy()
    std[2, 3] = 0.0
    statistics = statistics_from_released(MEAN.tolist(), std.tolist(), ROBOT)
    assert statistics.robot_type == "bridge_delta"
    assert statistics.is_active.sum() == 4 * 7 - 1
    normalized = RANDOM.normal(0, 1, (5, 4, 7)).astype(np.float32)
    np.testing.assert_allclose(
        statistics.denormalize_actions(normalized), normalized * std[:, :7] + MEAN[:, :7], rtol=1e-6, atol=1e-6
    )
    back = statistics.normalize_actions(statistics.denormalize_actions(normalized))
    np.testing.assert_allclose(back[:, statistics.is_active], normalized[:, statistics.is_active], atol=1e-5)
    assert not back[:, 2, 3].any()
    states = RANDOM.normal(0, 1, (5, ROBOT.state_dim)).astype(np.float32)
    np.testing.assert_array_equal(statistics.normalize_states(states), states)


def test_released_statistics_survive_a_file_bit_for_bit(tmp_path: Path) -> None:
    statistics = statistics_from_released(MEAN / 7, STD / 7, ROBOT)
    statistics.save(tmp_path / "statistics.json")
    loaded = Statistics.load(tmp_path / "statistics.json", "bridge_delta", "end_effector")
    np.testing.assert_array_equal(loaded.action_mean, statistics.action_mean)
    np.testing.assert_array_equal(loaded.action_std, statistics.action_std)
    assert loaded.epsilon == 0.0
    assert loaded.hash == statistics.hash != replace(statistics, epsilon=1e-6).hash


def test_released_arrays_that_do_not_fit_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"two arrays \[H, A\] with A above the slot 6; got mean \[4, 32\] and std \[5, 32\]"
    ):
        statistics_from_released(MEAN, np.ones((5, 32)), ROBOT)
    with pytest.raises(ValueError, match=r"above the slot 6; got mean \[4, 5\]"):
        statistics_from_released(MEAN[:, :5], STD[:, :5], ROBOT)
    with pytest.raises(ValueError, match="must be arrays of numbers"):
        statistics_from_released([[1.0, 2.0], [1.0]], STD, ROBOT)
    with pytest.raises(
        ValueError, match=r"active in the slots \[9, 31\], which the embodiment 'bridge_delta' does not"
    ):
        statistics_from_released(MEAN, np.where(np.isin(np.arange(32), [9, 31]), 0.1, STD), ROBOT)
    with pytest.raises(ValueError, match="epsilon must be finite and 0 or more; got -1"):
        statistics_from_released(MEAN, STD, ROBOT, epsilon=-1.0)


def test_a_slot_that_was_never_trained_drives_nothing() -> None:
    """Mean and spread 0 is padding: harmless for a change, but an absolute target would go to 0."""
    gripper = ROBOT.actions[6]
    assert (gripper.kind, gripper.relative) == ("gripper", False)
    mean, std = MEAN.copy(), STD.copy()
    mean[:, 6] = std[:, 6] = 0
    with pytest.raises(ValueError, match=rf"never trained slot 6, and '{gripper.name}' is an absolute target there"):
        statistics_from_released(mean, std, ROBOT)
    mean, std = MEAN.copy(), STD.copy()
    mean[:, 2] = std[:, 2] = 0
    assert not statistics_from_released(mean, std, ROBOT).is_active[:, 2].any()
    with pytest.raises(ValueError, match="no active slot"):
        statistics_from_released(np.zeros((4, 32)), np.zeros((4, 32)), ROBOT)
