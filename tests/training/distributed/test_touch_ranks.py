"""A touch refiner in two processes learns what one process learns."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cerebella.training.loop import run_stages
from cerebella.training.parallel import World
from cerebella.training.step import ALONE
from tests.training.test_touch_training import HELD_OUT, SOURCE, STAGE, loop, modules, rows

from .ranks import run_ranks


def run(world: World, _: Path, directory: Path) -> bool:
    stage, config = replace(STAGE, num_steps=4, batch_size=8), replace(loop(directory), log_every=1, validate_every=2)
    return run_stages(modules(), [SOURCE], [stage], config, HELD_OUT, world=world)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert run(ALONE, tmp_path, alone)
    assert run_ranks(partial(run, directory=together), 2, tmp_path) == [True, True]
    for name, key in (("curves.jsonl", "loss"), ("validation.jsonl", "error_mm")):
        ours, theirs = ([row[key] for row in rows(directory / name)] for directory in (alone, together))
        assert theirs == pytest.approx(ours, rel=1e-4)
