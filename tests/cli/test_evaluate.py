"""`cerebella eval`."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from cerebella import cli
from cerebella.cli.evaluate import Eval
from cerebella.envs.registry import make_environment
from cerebella.evaluation.suites import EvalConfig, open_policy
from cerebella.policies import VLAPolicy

from .person import error_of

SHIPPED = Path(__file__).parents[2] / "policies" / "conveyor-micro"
EVAL = ("eval", "dynamic/conveyor", "--policy", "zero", "--episodes")


def test_eval_ends_with_one_json_line_after_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "result.json"
    assert cli.main([*EVAL, "2", "--delay", "1", "--json", str(target)]) == 0
    *_, path_line, last = capsys.readouterr().out.splitlines()
    assert path_line == f"wrote {target}"
    assert json.loads(last)["summary"][0]["episodes"] == 2
    assert len(json.loads(target.read_text())["episodes"]) == 2


def test_eval_says_when_the_delay_does_not_fit_the_horizon(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*EVAL, "1", "--delay", "9", "--mode"]
    assert cli.main([*words, "naive"]) == 0
    assert "delay 9 ticks is more than half of horizon 16 ticks" in capsys.readouterr().err
    assert cli.main([*words, "sync"]) == 0
    assert "more than half" not in capsys.readouterr().err


def test_eval_knows_latency_with_bursts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*EVAL, "1", "--delay", "burst", "--mode", "naive"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["summary"][0]["cell"] == "naive/burst"


def test_eval_plays_the_expert_of_a_workcell_task(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco")
    words = ("eval", "workcell/insert", "--policy", "expert")
    assert cli.main([*words, "--episodes", "1", "--randomisation", "mild"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert (result["summary"][0]["rate"], result["conditions"]["randomisation"]) == (1.0, "mild")
    assert "note:" not in printed.err
    assert "delay 4 means nothing here" in error_of(capsys, *words, "--delay", "4")
    assert "Did you mean 'workcell/insert'?" in error_of(capsys, "eval", "workcell/insrt", "--policy", "zero")
    assert "has no perturbation" in error_of(capsys, *words, "--perturbation")
    assert "'expert' looks at no pictures" in error_of(capsys, *words, "--render-px", "96")


def test_eval_refuses_what_only_the_workcell_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no randomisation 'wide'" in error_of(capsys, *EVAL, "1", "--randomisation", "wide")
    assert "has pictures of one size" in error_of(capsys, *EVAL, "1", "--render-px", "96")


def test_eval_offers_every_field_of_an_evaluation() -> None:
    """The command's fields are the config's, with the same defaults; only their help is its own."""
    ours = {field.name: field.default for field in fields(Eval)}
    assert ours == {field.name: field.default for field in fields(EvalConfig)}


def test_eval_finds_out_before_the_run_that_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    words = (*EVAL, "1000000", "--json")
    assert "taken is a file, not a folder" in error_of(capsys, *words, str(tmp_path / "taken" / "x.json"))
    assert "cannot write" in error_of(capsys, *words, str(tmp_path))


def test_the_number_of_flow_steps_reaches_the_policy_and_the_result(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    words = ["eval", "dynamic/conveyor", "--policy", str(SHIPPED), "--episodes", "1", "--mode", "sync", "--json"]
    assert cli.main([*words, str(target), "--flow-steps", "1"]) == 0
    assert json.loads(target.read_text())["conditions"]["num_flow_steps"] == 1
    policy, _ = open_policy(str(SHIPPED), make_environment("dynamic/conveyor"), num_flow_steps=1)
    assert isinstance(policy, VLAPolicy)
    assert policy.num_flow_steps == 1
