"""The real loop through four stages: two processes, one process, and a change from two to one on the way."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cerebella.training.loop import run_stages
from cerebella.training.parallel import World
from tests.training.tiny import ALL_STAGES, fresh, loop, source

from .ranks import run_ranks

NUM_STEPS = 5
# A mean over active entries (present objects, rows behind a prefix) is one over each rank's own entries, as in the
# released code. Here every rank has equally many, so that the mean over ranks is the mean over all.
STAGES = tuple(
    replace(stage, num_steps=NUM_STEPS, prefix_draw="batch", reweight_errors=False, num_warmup_steps=2)
    for stage in ALL_STAGES
    if stage.objective != "vision"
)
SOURCES = [source() for _ in STAGES]


def run(world: World, _: Path, directory: Path, stop_after: int | None = None) -> bool:
    return run_stages(fresh(), SOURCES, STAGES, loop(directory, stop_after=stop_after), world=world)


def losses(directory: Path) -> list[float]:
    rows = [json.loads(line) for line in (directory / "curves.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows]


@pytest.mark.slow
def test_twenty_steps_through_four_stages(tmp_path: Path) -> None:
    alone, together, changing = (tmp_path / name for name in ("alone", "together", "changing"))
    assert run_stages(fresh(), SOURCES, STAGES, loop(alone))
    expected = losses(alone)
    assert len(expected) == NUM_STEPS * len(STAGES) == 20

    assert run_ranks(partial(run, directory=together), 2, tmp_path) == [True, True]
    assert losses(together) == pytest.approx(expected, rel=1e-4)

    assert run_ranks(partial(run, directory=changing, stop_after=10), 2, tmp_path) == [False, False]
    assert run_stages(fresh(), SOURCES, STAGES, loop(changing))
    assert losses(changing) == pytest.approx(expected, rel=1e-4)
