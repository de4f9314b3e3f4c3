"""The same run under torchrun: two processes follow the curve of one and write one policy."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.run import parse_args

from cerebella.policies import load_policy
from cerebella.recipes.fine_tune.run import fine_tune
from tests.recipes.fine_tune.conveyor_set import posttrain, write_set

PROGRAM = """
from pathlib import Path
from cerebella.recipes.fine_tune.run import fine_tune
from tests.recipes.fine_tune.conveyor_set import posttrain
paths = fine_tune(posttrain(Path({root!r}), Path({out!r}), **{options!r}))
print("RANK WROTE", [path.name for path in paths])
"""
ROOT = Path(__file__).parents[3]


def torchrun(root: Path, out: Path, options: dict[str, Any]) -> str:
    program = root / "program.py"
    program.write_text(PROGRAM.format(root=str(root), out=str(out), options=options))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "curves.jsonl").read_text().splitlines()]


def test_torchrun_leaves_our_options_alone() -> None:
    """Without the `--` it takes `--start` for a short form of its own `--start-method`."""
    ours = [
        "train",
        "posttrain_async",
        "--start",
        "policies/conveyor-micro",
        "--data",
        "a",
        "b",
        "--logs",
        "tensorboard",
        "--out",
        "mine",
    ]
    read = parse_args(["--nproc-per-node", "2", "-m", "--", "cerebella", *ours])
    assert (read.module, read.training_script, read.training_script_args) == (True, "cerebella", ours)


@pytest.mark.slow
def test_two_processes_follow_one(tmp_path: Path) -> None:
    """Means over the rows behind a prefix are taken per process, so every window has the same prefix here."""
    write_set(tmp_path / "belt")
    options: dict[str, Any] = {
        "num_steps": 3,
        "prefix_draw": "batch",
        "reweight_errors": False,
        "validate_every": 3,
        "learning_rate": 1e-3,
        "num_warmup_steps": 0,
    }
    alone, together = tmp_path / "alone", tmp_path / "together"
    fine_tune(posttrain(tmp_path, alone, num_micro_batches=2, **options))
    first = torchrun(tmp_path, together, options | {"stop_after": 1})
    assert sorted(line for line in first.splitlines() if "RANK" in line) == [
        "RANK WROTE ['checkpoints', 'curves.jsonl']",
        "RANK WROTE []",
    ]
    said = torchrun(tmp_path, together, options)
    assert said.count("posttrain_async from") == 1
    assert losses(together) == pytest.approx(losses(alone), rel=1e-4)
    ours, theirs = (load_file(out / "model.safetensors") for out in (together, alone))
    for name, value in ours.items():  # stored in bfloat16
        torch.testing.assert_close(value.float(), theirs[name].float(), atol=4e-3, rtol=0.02, msg=name)
    load_policy(together)
    assert not (together / "run").exists()
