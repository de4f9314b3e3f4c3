"""A checkpoint does not care how many processes wrote it, or how many read it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cerebella.training.checkpoint import CheckpointStore, export_full
from cerebella.training.parallel import TrainedModules, World, shard

from . import micro
from .ranks import run_ranks

KIND = "words"


def state_of(trained: TrainedModules) -> nn.ModuleDict:
    """As the loop stores it: below a module that is not sharded itself."""
    return nn.ModuleDict({"trained": trained})


def two_steps(world: World, directory: Path) -> tuple[TrainedModules, torch.optim.Optimizer]:
    """Trained for two steps, and saved."""
    trained = micro.modules()
    shard(trained, world)
    optimizer = micro.adamw(trained)
    micro.train(trained, world, KIND, range(2), optimizer)
    store = CheckpointStore(directory, asynchronous=True)
    store.save({"step": 2}, state_of(trained), optimizer, {"cursor": 8})
    store.wait()
    return trained, optimizer


def resumed(world: World, directory: Path) -> tuple[TrainedModules, torch.optim.Optimizer]:
    torch.manual_seed(9)
    trained = micro.modules()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1.0)
    shard(trained, world)
    optimizer = micro.adamw(trained)
    store = CheckpointStore(directory)
    found = store.newest()
    assert found is not None
    assert (found["position"], found["extra"]) == ({"step": 2}, {"cursor": 8})
    store.load(state_of(trained), optimizer)
    return trained, optimizer


def on_two_ranks(world: World, directory: Path) -> dict[str, Any]:
    written, optimizer = two_steps(world, directory / "by-two")
    given: dict[str, Any] = {"written": export_full(written)}
    given["went on"] = micro.train(written, world, KIND, range(2, 4), optimizer)
    read, optimizer = resumed(world, directory / "by-two")
    given["read again"] = export_full(read)
    given["resumed"] = micro.train(read, world, KIND, range(2, 4), optimizer)
    read, optimizer = resumed(world, directory / "by-one")
    given["read from one"] = export_full(read)
    given["resumed from one"] = micro.train(read, world, KIND, range(2, 4), optimizer)
    return given


def same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_any_number_of_ranks_resumes_from_any_other(tmp_path: Path) -> None:
    written, optimizer = two_steps(micro.ALONE, tmp_path / "by-one")
    whole = export_full(written)
    curve = micro.train(written, micro.ALONE, KIND, range(2, 4), optimizer)

    main, other = run_ranks(on_two_ranks, 2, tmp_path)
    assert other["written"] == {}, "only rank 0 collects"
    assert same_bits(main["read again"], main["written"])
    assert main["resumed"] == main["went on"], "two ranks continue to the same bits"
    assert same_bits(main["read from one"], whole)
    assert main["resumed from one"] == pytest.approx(curve, rel=1e-5)

    read, optimizer = resumed(micro.ALONE, tmp_path / "by-two")
    assert same_bits(export_full(read), main["written"])
    assert micro.train(read, micro.ALONE, KIND, range(2, 4), optimizer) == pytest.approx(main["went on"], rel=1e-5)
    model = read["model"]
    assert isinstance(model, nn.Module)
    word_head, embeddings = (
        model.get_parameter(f"brain.{name}.weight") for name in ("lm_head", "model.language_model.embed_tokens")
    )
    assert word_head is embeddings
