"""The loop on a real, small model: resuming changes nothing, frozen stays frozen, two epochs see every window twice."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cerebella.models.vla import VLA
from cerebella.recipes.conveyor import STAGES, ConveyorSource
from cerebella.training.curves import plot_curves
from cerebella.training.flow_objective import at_least_committed, draw_prefix_lengths
from cerebella.training.loop import LoopConfig, run_stages
from cerebella.training.objectives import model_of
from cerebella.training.optimizer import part_of
from cerebella.training.sources import Shuffled, draw_indices
from tests.training.tiny import COMMITTED, PROCESSOR, WINDOWS, fresh

STEPS = tuple(replace(stage, num_steps=2, batch_size=3, flow_repeats=2) for stage in STAGES)
SOURCES = [Shuffled(ConveyorSource(COMMITTED if stage.max_prefix else WINDOWS), PROCESSOR) for stage in STEPS]


def run(directory: Path, stop_after: int | None = None, stages=STEPS, seed: int = 0) -> tuple[bool, VLA]:
    modules = fresh()
    config = LoopConfig(directory, seed=seed, log_every=1, save_every=1, stop_after=stop_after, show_progress=False)
    return run_stages(modules, SOURCES[: len(stages)], stages, config), model_of(modules)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VLA]:
    directory = tmp_path_factory.mktemp("whole")
    is_finished, model = run(directory)
    assert is_finished
    return directory, model


@pytest.mark.parametrize("first", [1, 4])
def test_a_stopped_run_continues_to_the_same_bits(first: int, whole: tuple[Path, VLA], tmp_path: Path) -> None:
    is_finished, _ = run(tmp_path, stop_after=first)
    assert not is_finished
    is_finished, model = run(tmp_path)
    assert is_finished
    for (name, ours), theirs in zip(model.state_dict().items(), whole[1].state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert (tmp_path / "curves.jsonl").read_text() == (whole[0] / "curves.jsonl").read_text()


def test_each_stage_moves_its_parts_and_nothing_else(tmp_path: Path) -> None:
    before = model_of(fresh())
    for index, stage in enumerate(STEPS):
        modules = fresh()
        config = LoopConfig(tmp_path / str(index), show_progress=False)
        run_stages(modules, [SOURCES[index]], [stage], config)
        moved = {
            part_of(f"model.{name}")
            for (name, old), new in zip(before.named_parameters(), model_of(modules).parameters(), strict=True)
            if not torch.equal(old, new)
        }
        assert moved == set(stage.trains)


def test_another_runs_checkpoint_is_refused(whole: tuple[Path, VLA]) -> None:
    with pytest.raises(ValueError, match="belongs to another run: seed is 0 there and 1 here"):
        run(whole[0], seed=1)


def test_a_diverging_run_stops_with_a_reason(tmp_path: Path) -> None:
    modules = fresh()
    with torch.no_grad():
        model_of(modules).cerebellum.sink.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="step 0: the gradient norm is nan"):
        run_stages(modules, [SOURCES[1]], [STEPS[1]], LoopConfig(directory=tmp_path, show_progress=False))


def test_every_epoch_is_a_permutation_and_any_step_stands_alone() -> None:
    drawn = np.concatenate([draw_indices(10, 4, step, (7, 1)) for step in range(5)])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    np.testing.assert_array_equal(draw_indices(10, 4, 3, (7, 1)), drawn[12:16])
    assert not np.array_equal(draw_indices(10, 4, 0, (7, 2)), drawn[:4])


def test_prefix_lengths_follow_the_declared_law() -> None:
    """Chi-square against 1/2 at zero and 1/12 on each of 1..6; 22.46 is its 99.9 % quantile at 6 degrees of freedom."""
    num = 100_000
    lengths = draw_prefix_lengths(STAGES[2], num, torch.Generator().manual_seed(0))
    seen = torch.bincount(lengths, minlength=7).double()
    expected = torch.tensor([0.5] + [1 / 12] * 6).double() * num
    assert ((seen - expected) ** 2 / expected).sum() < 22.46


def test_a_committed_row_is_never_a_target() -> None:
    committed = torch.tensor([0, 3, 6])
    drawn = torch.tensor([2, 2, 2])
    assert at_least_committed(STAGES[2], drawn, committed).tolist() == [2, 3, 6]
    with pytest.raises(ValueError, match=r"prefixes of at most 0 rows.*6 committed"):
        at_least_committed(STAGES[1], drawn, committed)


def test_a_few_pictures_can_be_learnt_by_heart(tmp_path: Path) -> None:
    """The vision warm-up drives its loss down on eight windows: gradients reach where they should."""
    stage = replace(STAGES[0], num_steps=30, batch_size=8, learning_rate=2e-3, num_warmup_steps=5)
    few = Shuffled(ConveyorSource(WINDOWS.take(slice(0, 8))), PROCESSOR)
    run_stages(fresh(), [few], [stage], LoopConfig(tmp_path, log_every=5, show_progress=False))
    losses = [
        float(line.split('"loss": ')[1].split(",")[0]) for line in (tmp_path / "curves.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < 0.5 * losses[0]


def test_curves_become_a_picture(whole: tuple[Path, VLA], tmp_path: Path) -> None:
    plot_curves(whole[0] / "curves.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no rows"):
        plot_curves(tmp_path / "empty.jsonl", tmp_path / "never.png")


def test_a_killed_run_does_its_lost_steps_again_and_logs_them_once(whole: tuple[Path, VLA], tmp_path: Path) -> None:
    """Killed after step 3, but its last checkpoint is from step 1: the log must not hold steps twice."""
    run(tmp_path, stop_after=1)
    copy = shutil.copytree(tmp_path / "checkpoints", tmp_path / "early")
    run(tmp_path, stop_after=2)
    shutil.rmtree(tmp_path / "checkpoints")
    copy.rename(tmp_path / "checkpoints")
    run(tmp_path)
    assert (tmp_path / "curves.jsonl").read_text() == (whole[0] / "curves.jsonl").read_text()
