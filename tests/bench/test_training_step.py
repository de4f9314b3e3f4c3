"""The two sides of the training bench learn the same from the same batches, and the script says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.measure.train_cases import CASES, NUM_BATCHES, make_case, make_source, our_step, peer_step
from cerebella.models.config import preset

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.parametrize("name", CASES)
def test_both_sides_have_the_same_losses_over_several_steps(name: str) -> None:
    config = preset("micro")
    case = make_case(name, make_source(config), num_samples=3)
    assert 0.3 < case.real_share <= 1.0
    ours, peers = (make(config, case, "float32") for make in (our_step, peer_step))
    expected = torch.tensor([peers(number) for number in range(NUM_BATCHES + 2)])
    found = torch.tensor([ours(number) for number in range(NUM_BATCHES + 2)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert len(expected.unique()) == len(expected)


@pytest.mark.slow
def test_the_script() -> None:
    sizes = ("--preset", "micro", "--samples", "2", "--rounds", "3", "--case", "next_token", "--precision", "float32")
    done = subprocess.run(
        [sys.executable, "training_step.py", *sizes], cwd=BENCH, capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout.splitlines()[-1])
    [row] = report["rows"]
    assert row["largest_loss_difference"] < 1e-3
    assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
