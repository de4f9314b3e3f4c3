"""`cerebella plan` as a person meets it."""

import json
from pathlib import Path

import pytest

from cerebella import cli

from .person import error_of


def test_a_plan_that_works(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert cli.main(["plan", "xr0-pretrain", "--gpus", "64", "--memory", "80", "--json", str(path)]) == 0
    said = capsys.readouterr().out
    assert "pretrain_brain: 40,000 steps of 28,096 windows and 4,672 conversations" in said
    assert "rounded so that 64 GPUs share them evenly; the recipe says 28,087 windows, 4,681 conversations" in said
    assert "4.082 of 4.750 billion parameters move (vision, language, heads)" in said
    assert "hsdp" in said
    assert "learning_rate: unknown" in said
    content = json.loads(path.read_text())
    assert content["machine"]["num_gpus"] == 64
    assert [stage["stage"]["name"] for stage in content["stages"]] == ["pretrain_brain", "pretrain_cerebellum"]
    assert content["stages"][0]["layouts"][0]["fits"]


def test_a_plan_that_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "xr0-posttrain-async", "--gpus", "1", "--memory", "24"]) == cli.EXIT_FAILED_CHECK
    said = capsys.readouterr().out
    assert "does not fit" in said
    assert "nothing fits into 24 GB" in said


def test_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'xr0-libero'?" in error_of(capsys, "plan", "xr0-libera", "--gpus", "1", "--memory", "80")
    assert "num_gpus must be 1 or more" in error_of(capsys, "plan", "xr0-lego", "--gpus", "0", "--memory", "80")
    assert "--memory" in error_of(capsys, "plan", "xr0-lego", "--gpus", "1")
