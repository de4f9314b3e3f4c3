"""Two processes with sharded weights follow the curve of one process that sees the whole batch.

In every step one rank samples from the cerebellum and the other does not, and in `words` one rank has pictures and the
other does not: neither may wait for the other.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from cerebella.training.parallel import World, shard

from . import micro
from .ranks import run_ranks

NUM_STEPS = 3
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "flow": ("flow", {}, 1),
    "frozen": ("frozen", {}, 1),
    "words": ("words", {}, 1),
    "whole copies": ("words", {"hybrid": 1}, 1),
    "frozen brain whole": ("frozen", {"replicate_frozen": True}, 1),
    "recomputed": ("words", {"recompute_language": True}, 1),
    "micro-batches": ("flow", {}, 2),
    "bfloat16": ("flow", {"compute_dtype": torch.bfloat16}, 1),
}
KINDS = ("flow", "frozen", "words")


def short_curves(world: World, directory: Path) -> dict[str, list[float]]:
    given = {}
    for name, (kind, options, num_micro_batches) in CASES.items():
        trained = micro.modules(trains_brain=kind != "frozen")
        if name == "recomputed":
            micro.vla(trained).brain.model.visual.activation_checkpointing_enable()
        shard(trained, world, **options)
        given[name] = micro.train(trained, world, kind, range(NUM_STEPS), num_micro_batches=num_micro_batches)
    return given


def long_curves(world: World, directory: Path) -> dict[str, list[float]]:
    given = {}
    for kind in KINDS:
        trained = micro.modules(trains_brain=kind != "frozen")
        shard(trained, world)
        given[kind] = micro.train(trained, world, kind, range(20))
    return given


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[float]]]:
    return run_ranks(short_curves, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_follow_the_curve_of_one(name: str, given: list[dict[str, list[float]]]) -> None:
    curve, kind = given[0][name], CASES[name][0]
    assert curve == given[1][name]
    assert curve == pytest.approx(micro.alone(kind, NUM_STEPS), rel=2e-2 if name == "bfloat16" else 1e-5)


@pytest.mark.slow
def test_twenty_steps_stay_within_one_in_ten_thousand(tmp_path: Path) -> None:
    given = run_ranks(long_curves, 2, tmp_path)[0]
    for kind in KINDS:
        alone = micro.alone(kind, 20)
        assert given[kind] == pytest.approx(alone, rel=1e-4), kind
        assert sum(alone[-2:]) < 0.97 * sum(alone[:2]), "a curve that does not fall proves little"


def test_recomputing_alone_changes_nothing() -> None:
    def recompute(trained: Any) -> None:
        shard(trained, micro.ALONE, recompute_language=True)

    assert micro.alone("words", 2, recompute) == micro.alone("words", 2)
