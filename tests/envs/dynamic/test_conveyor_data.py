import numpy as np
import pytest

from cerebella.envs.dynamic.conveyor import COLOURS, ConveyorState
from cerebella.envs.dynamic.conveyor_data import expert_windows
from cerebella.envs.dynamic.conveyor_render import COLOUR_RGB
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.windows import Windows


@pytest.fixture(scope="module")
def windows() -> Windows[ConveyorState]:
    return expert_windows(3000, horizon=12, seed=0)


@pytest.fixture(scope="module")
def committed() -> Windows[ConveyorState]:
    return expert_windows(1000, horizon=12, seed=0, committed_share=0.5, max_delay=4)


def test_the_seed_decides_the_windows(windows: Windows[ConveyorState]) -> None:
    again = expert_windows(3000, horizon=12, seed=0)
    np.testing.assert_array_equal(windows.actions, again.actions)
    np.testing.assert_array_equal(windows.observed(True), again.observed(True))
    other = expert_windows(3000, horizon=12, seed=1)
    assert (windows.actions != other.actions).any()


def test_labels_are_the_law_rolled_forward(windows: Windows[ConveyorState]) -> None:
    state = windows.state
    for i in range(windows.horizon):
        np.testing.assert_array_equal(windows.actions[:, i], windows.task.expert_command(state, windows.style))
        state = windows.task.step(state, windows.actions[:, i], with_events=False)


def test_windows_cover_every_phase_and_mistakes(windows: Windows[ConveyorState]) -> None:
    state = windows.state
    distance = np.linalg.norm(state.target_position - state.gripper, axis=1)
    shares = {
        "far": (distance > 0.08).mean(),
        "near": ((distance > 0.02) & (distance < 0.08)).mean(),
        "over the part": (distance < 0.014).mean(),
        "held": (state.grasped >= 0).mean(),
        "closed and empty": ((state.opening < 0.4) & (state.grasped < 0)).mean(),
        "after a failed grasp": ((state.num_attempts > 0) & (state.grasped < 0)).mean(),
        "after a perturbation": ((state.perturbation_tick >= 0) & (state.tick >= state.perturbation_tick)).mean(),
    }
    assert all(share > 0.03 for share in shares.values()), shares
    assert state.is_running.all()


def test_committed_rows_come_first_and_the_plan_continues_them(committed: Windows[ConveyorState]) -> None:
    is_committed = committed.committed_length > 0
    assert 0.3 < is_committed.mean() < 0.6
    assert committed.committed_length.max() == 4
    plan = committed.task.expert_plan(
        committed.state, committed.style, 12, committed.actions[:, :4], committed.committed_length
    )
    np.testing.assert_array_equal(committed.actions, plan)
    clean = committed.task.expert_plan(committed.state, committed.style, 12)
    np.testing.assert_array_equal(committed.actions[~is_committed], clean[~is_committed])
    assert (committed.actions[is_committed] != clean[is_committed]).any(axis=(1, 2)).mean() > 0.9
    lengths = [sample.num_committed for sample in committed.samples(range(50), with_images=False)]
    np.testing.assert_array_equal(lengths, committed.committed_length[:50])


def test_samples_and_truth_agree_with_the_pictures(windows: Windows[ConveyorState]) -> None:
    indices = np.arange(0, 3000, 50)
    samples = windows.samples(indices, with_images=True)
    truth = ConveyorTask().landmarks(windows.state.take(indices)).in_picture(len(ConveyorTask.landmark_names))
    num_checked = 0
    for i, sample in enumerate(samples):
        assert sample.images["base"].shape == (64, 96, 3)
        assert COLOURS[truth.class_index[i, truth.target_index[i]]] in sample.prompt.split()
        assert sample.is_valid.all()
        gripper = truth.pixel[i, -1]
        assert ConveyorTask.landmark_names[truth.class_index[i, -1]] == "gripper"
        for place in np.flatnonzero(truth.is_present[i, :-1]):
            u, v = np.floor(truth.pixel[i, place]).astype(int)
            if np.linalg.norm(truth.pixel[i, place] - gripper) < 12:
                continue
            pixel = sample.images["base"][v, u] / windows.state.light[indices[i]]
            assert np.linalg.norm(pixel - COLOUR_RGB, axis=-1).argmin() == truth.class_index[i, place]
            num_checked += 1
    assert num_checked > 60


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_windows": 0}, "num_windows"),
        ({"horizon": 0}, "horizon"),
        ({"committed_share": 1.5}, "committed_share"),
        ({"max_delay": 12}, r"1\.\.11"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, float], words: str) -> None:
    arguments = {"num_windows": 10, "horizon": 12, "seed": 0, "max_delay": 4, **options}
    with pytest.raises(ValueError, match=words):
        expert_windows(**arguments)  # pyright: ignore[reportArgumentType]
