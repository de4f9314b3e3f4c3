"""Two steps of every stage on real, small data; every switch of the loop."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cerebella.training.loop import ALONE, run_stages
from cerebella.training.objectives import model_of, step_losses, trained_modules
from cerebella.training.optimizer import make_optimizer, part_of
from cerebella.training.parallel import TrainedModules
from cerebella.training.sources import StepRequest, TrainingBatch
from cerebella.training.stages import Stage
from tests.training.tiny import ALL_STAGES, COMMON, SOURCES, TALK, WINDOWS, Colours, fresh, loop, source

ALONE_SETTINGS: dict[str, Any] = COMMON | {"batch_size": 0, "num_conversations": 6, "language_weight": 1.0}
NEXT_TOKEN = Stage("pretrain_brain", "next_token", ("vision", "language", "embeddings"), **ALONE_SETTINGS)


def weights(modules: TrainedModules) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in modules.state_dict().items()}


def rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def draw(stage: Stage, num_micro_batches: int = 1) -> list[TrainingBatch]:
    return source().draw(StepRequest(stage, 0, (0, 0), ALONE, num_micro_batches))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    directory = tmp_path_factory.mktemp("whole")
    modules = fresh()
    assert run_stages(modules, SOURCES, ALL_STAGES, loop(directory))
    return directory, weights(modules)


def test_every_stage_runs_and_logs_what_it_learns_from(whole: tuple[Path, dict[str, Tensor]]) -> None:
    seen = rows(whole[0] / "curves.jsonl")
    assert [(row["stage"], row["train_step"]) for row in seen] == [(s.name, k) for s in ALL_STAGES for k in (1, 2)]
    assert all(np.isfinite([v for v in row.values() if isinstance(v, float)]).all() for row in seen)
    parts = {row["stage"]: set(row) for row in seen}
    assert {"presence", "target_error_px"} <= parts["warmup_vision"]  # pyright: ignore[reportArgumentType]
    assert {"choice", "score", "best_error", "win_0", "win_2", "next_token"} <= parts["pretrain_brain"]  # pyright: ignore[reportArgumentType]
    assert {"mse", "frequency"} <= parts["pretrain_cerebellum"]  # pyright: ignore[reportArgumentType]
    assert {"prefix_length", "next_token"} <= parts["posttrain_async"]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("first", [3, 9])
def test_a_stopped_run_continues_to_the_same_bits(
    first: int, whole: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    assert not run_stages(fresh(), SOURCES, ALL_STAGES, loop(tmp_path, stop_after=first))
    modules = fresh()
    assert run_stages(modules, SOURCES, ALL_STAGES, loop(tmp_path))
    for name, ours in modules.state_dict().items():
        assert torch.equal(ours, whole[1][name]), name
    assert (tmp_path / "curves.jsonl").read_text() == (whole[0] / "curves.jsonl").read_text()


def test_a_finished_run_only_gives_back_its_weights(whole: tuple[Path, dict[str, Tensor]]) -> None:
    modules = fresh()
    assert run_stages(modules, SOURCES, ALL_STAGES, loop(whole[0]))
    assert all(torch.equal(value, whole[1][name]) for name, value in modules.state_dict().items())


@pytest.mark.parametrize("index", range(5))
def test_micro_batches_add_up_to_the_whole_batch(index: int, tmp_path: Path) -> None:
    """Conversations of different lengths: a mean of means would be wrong."""
    stage = replace(ALL_STAGES[index], reweight_errors=False, num_conversations=4, language_weight=0.5)
    stage = replace(stage, prefix_draw="batch")  # prefixes of different lengths make means over active entries differ
    gradients = []
    for num in (1, 2):
        modules = fresh()
        make_optimizer(modules, stage)
        batches = [batch.to(torch.device("cpu")) for batch in draw(stage, num)]
        tokens = torch.tensor(float(sum(b.language.num_counted for b in batches if b.language is not None)))
        for batch in batches:
            assert batch.robot is not None
            step_losses(modules, batch, stage, (0, 0, 0), len(batch.robot) / 4, tokens)["loss"].backward()
        gradients.append({name: p.grad for name, p in modules.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    if stage.objective == "vision":
        return  # its loss is a mean over the objects in a batch, which micro-batches hold different numbers of
    for name, whole_gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole_gradient, atol=2e-5, rtol=1e-4, msg=name)


def test_the_loop_cuts_steps_into_micro_batches(tmp_path: Path) -> None:
    stage = replace(ALL_STAGES[2], num_steps=3)
    curves = []
    for num in (1, 2):
        config = loop(tmp_path / str(num), num_micro_batches=num)
        run_stages(fresh(), [source()], [stage], config)
        curves.append([row["loss"] for row in rows(tmp_path / str(num) / "curves.jsonl")])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    with pytest.raises(ValueError, match=r"batch_size 4 must be a multiple of 3 \(1 processes, 3 micro-batches"):
        run_stages(fresh(), [source()], [stage], loop(tmp_path / "3", num_micro_batches=3))


def test_language_alone_can_be_learnt_by_heart(tmp_path: Path) -> None:
    stage = replace(NEXT_TOKEN, num_steps=40, learning_rate=5e-3, num_warmup_steps=5)
    run_stages(fresh(), [source()], [stage], loop(tmp_path))
    losses = [row["next_token"] for row in rows(tmp_path / "curves.jsonl")]
    assert losses[-1] < 0.3 * losses[0]


def test_choice_policies_learn_a_few_windows_by_heart(tmp_path: Path) -> None:
    stage = replace(ALL_STAGES[1], num_steps=40, num_conversations=0, language_weight=0.0, learning_rate=3e-3)
    few = replace(source(), windows=type(SOURCES[0].windows)(WINDOWS.take(slice(0, 4))))  # pyright: ignore
    run_stages(fresh(), [few], [stage], loop(tmp_path))
    seen = rows(tmp_path / "curves.jsonl")
    assert seen[-1]["best_error"] < 0.5 * seen[0]["best_error"]
    assert sum(value for name, value in seen[-1].items() if name.startswith("win_")) == pytest.approx(1, abs=1e-4)


def test_heads_learn_with_their_objective_and_freeze_otherwise(tmp_path: Path) -> None:
    for stage, head in ((ALL_STAGES[0], "vision"), (ALL_STAGES[1], "choice"), (ALL_STAGES[3], None)):
        modules = fresh()
        before = weights(modules)
        run_stages(modules, [source()], [stage], loop(tmp_path / stage.name))
        moved = {name for name, value in modules.state_dict().items() if not torch.equal(value, before[name])}
        assert {name.split(".")[1] for name in moved if name.startswith("heads.")} == ({head} if head else set())
        assert {part_of(name) for name in moved if not name.startswith("heads.")} == set(stage.trains)


def test_a_running_mean_replaces_the_weights_at_the_end(tmp_path: Path) -> None:
    """At decay 0.9 the first weights enter with 1 - 0.1, the next with 1 - 2/11."""
    stage = replace(ALL_STAGES[2], ema_decay=0.9)
    snapshots: list[Tensor] = []

    def last(stage: Stage, name: str) -> Tensor:
        modules = fresh()
        run_stages(modules, [source()], [stage], loop(tmp_path / name))
        return model_of(modules).cerebellum.layers[0].get_parameter("attn.qkv_proj.weight").detach()

    start = model_of(fresh()).cerebellum.layers[0].get_parameter("attn.qkv_proj.weight").detach()
    modules = fresh()
    run_stages(modules, [source()], [replace(stage, ema_decay=0.0)], loop(tmp_path / "one", stop_after=1))
    snapshots.append(model_of(modules).cerebellum.layers[0].get_parameter("attn.qkv_proj.weight").detach())
    snapshots.append(last(replace(stage, ema_decay=0.0), "plain"))
    mean = 0.1 * start + 0.9 * snapshots[0]
    mean = 2 / 11 * mean + 9 / 11 * snapshots[1]
    torch.testing.assert_close(last(stage, "mean"), mean, atol=1e-6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # autocast leaves norm weights float32
@pytest.mark.parametrize("precision", ["bfloat16", "pure_bfloat16"])
def test_other_number_types_train_every_stage(precision: str, tmp_path: Path) -> None:
    modules = fresh()
    assert run_stages(modules, SOURCES, ALL_STAGES, loop(tmp_path, precision=precision))
    kind = torch.bfloat16 if precision == "pure_bfloat16" else torch.float32
    assert {value.dtype for value in modules.parameters()} == {kind}
    assert all(value.isfinite().all() for value in modules.parameters())


def test_recomputed_activations_give_the_same_numbers(whole: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    modules = fresh()
    config = loop(tmp_path, recompute=("vision", "language"))
    assert run_stages(modules, SOURCES, ALL_STAGES, config)
    for ours, theirs in zip(rows(tmp_path / "curves.jsonl"), rows(whole[0] / "curves.jsonl"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


def test_a_stage_without_its_data_or_heads_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs its heads: pass choice= to trained_modules"):
        run_stages(trained_modules(model_of(fresh())), [source()], [ALL_STAGES[1]], loop(tmp_path / "a"))
    robot_only = replace(source(), conversations=None)
    with pytest.raises(ValueError, match="has num_conversations 4, but its source has no such data"):
        run_stages(fresh(), [robot_only], [ALL_STAGES[1]], loop(tmp_path / "b"))
    with pytest.raises(ValueError, match="one source for each stage; got 1 for 5"):
        run_stages(fresh(), [source()], ALL_STAGES, loop(tmp_path / "c"))


def test_a_winner_that_takes_everything_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = replace(ALL_STAGES[1], learning_rate=0.0, num_conversations=0, language_weight=0.0, ema_decay=0.0)
    modules = fresh()
    heads = modules["heads"]["choice"]  # pyright: ignore[reportIndexIssue]
    with torch.no_grad():
        heads.action_head[-1].bias.view(3, -1)[1:] += 100.0
    with caplog.at_level(logging.WARNING):
        run_stages(modules, [source()], [stage], loop(tmp_path))
    assert "one of 3 candidates wins nearly always (shares 100%, 0%, 0%)" in caplog.text


def test_held_out_chunks_are_compared_row_by_row(tmp_path: Path) -> None:
    held_out = draw(replace(ALL_STAGES[4], batch_size=6))
    config = loop(tmp_path, validate_every=2)
    stages = (ALL_STAGES[1], ALL_STAGES[3])
    plain, looked = fresh(), fresh()
    run_stages(looked, [source(), source()], stages, config, held_out)
    run_stages(plain, [source(), source()], stages, loop(tmp_path / "plain"))
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in looked.state_dict().items())
    seen = rows(tmp_path / "validation.jsonl")
    assert [(row["stage"], row["train_step"]) for row in seen] == [("pretrain_brain", 2), ("posttrain_sync", 2)]
    for row in seen:
        assert len(row["row_errors"]) == 8  # pyright: ignore[reportArgumentType]
        assert row["error"] == pytest.approx(np.mean(row["row_errors"]), rel=1e-3)
        assert row["next_token"] > 0
    pictures = sorted(path.name for path in (tmp_path / "chunks").iterdir())
    assert pictures == ["posttrain_sync-000002-0.png", "pretrain_brain-000002-0.png"]


def test_adapters_train_in_place_of_the_language_weights_and_are_merged(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    stage = replace(NEXT_TOKEN, trains=("language",), num_steps=3)
    config = loop(tmp_path, lora_rank=2)
    assert not run_stages(fresh(), [source()], [stage], replace(config, stop_after=2))
    resumed, at_once = fresh(), fresh()
    assert run_stages(resumed, [source()], [stage], config)
    assert run_stages(at_once, [source()], [stage], replace(config, directory=tmp_path / "whole"))
    before = fresh().state_dict()
    assert at_once.state_dict().keys() == before.keys()
    for name, value in at_once.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
        change = (value - before[name]).float()
        if part_of(name) == "language":
            assert bool(change.any()) == ("_proj" in name), name
            assert change.ndim < 2 or int(torch.linalg.matrix_rank(change, atol=1e-5)) <= 2, name


def test_conversations_are_drawn_in_epochs_of_their_own() -> None:
    stage = replace(NEXT_TOKEN, num_conversations=4)
    request = StepRequest(stage, 0, (0, 0), ALONE)
    seen = [source().draw(replace(request, step=step))[0].language for step in range(3)]
    lengths = sorted(int(n) for batch in seen if batch is not None for n in batch.attention_mask.sum(dim=1))
    everything = TALK.encode(Colours().conversations(np.arange(12)))
    assert lengths == sorted(everything.attention_mask.sum(dim=1).tolist())
