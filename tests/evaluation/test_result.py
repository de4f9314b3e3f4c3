import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cerebella.evaluation import fingerprint
from cerebella.evaluation.result import (
    SCHEMA_PATH,
    episode_row,
    make_result,
    read_result,
    success_summary,
    validate_result,
    write_result,
)
from cerebella.evaluation.suites import EvalConfig, evaluate


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("eval") / "deep" / "result.json"
    made = evaluate(EvalConfig("dynamic/conveyor", "expert", "prefix", delay=3, episodes=4, json=path), False)
    assert read_result(path) == json.loads(json.dumps(made))
    return made


def test_an_evaluation_fits_the_schema(result: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA_PATH.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json.dumps(result)), schema)


@pytest.mark.parametrize("path", [("policy",), ("run", "commit"), ("conditions", "cells"), ("summary", 0, "low")])
def test_the_schema_refuses_a_result_without_a_field(result: dict[str, Any], path: tuple[Any, ...]) -> None:
    broken = json.loads(json.dumps(result))
    block = broken
    for key in path[:-1]:
        block = block[key]
    del block[path[-1]]
    with pytest.raises(jsonschema.ValidationError, match=path[-1]):
        jsonschema.validate(broken, json.loads(SCHEMA_PATH.read_text()))


def test_the_light_check_finds_missing_fields_and_counts_that_disagree(result: dict[str, Any]) -> None:
    validate_result(result)
    for edit, message in (
        (lambda r: r.pop("timing"), "'timing' is missing"),
        (lambda r: r["episodes"][1].pop("seed"), r"episodes\[1\] lacks seed"),
        (lambda r: r["episodes"][0].update(cell="x"), "names the cell 'x'"),
        (lambda r: r["summary"][0].update(successes=99), "says 99 of 4"),
        (lambda r: r["summary"][0].update(high=0.0, low=0.0), "outside"),
        (lambda r: r.update(schema_version="0.1"), "schema_version '0.1'"),
    ):
        broken = copy.deepcopy(result)
        edit(broken)
        with pytest.raises(ValueError, match=message):
            validate_result(broken)


def test_nan_never_reaches_a_file(result: dict[str, Any], tmp_path: Path) -> None:
    broken = copy.deepcopy(result)
    broken["timing"]["total_s"] = float("nan")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_result(tmp_path / "result.json", broken)


def test_throughput_counts_all_robot_time() -> None:
    rows = [
        episode_row(
            cell="c", seed=i, task="t", prompt="p", is_success=i < 3, num_ticks=450, reason="", metrics={"idle": 0.5}
        )
        for i in range(4)
    ]
    summary = success_summary(rows, control_hz=30.0)
    assert (summary["successes"], summary["episodes"], summary["rate"]) == (3, 4, 0.75)
    assert summary["throughput_per_min"] == pytest.approx(3.0)  # 3 solved in 4 * 15 s
    assert success_summary([], 30.0)["rate"] is None


def test_a_summary_must_name_its_episodes() -> None:
    with pytest.raises(ValueError, match="says 1 of 1"):
        make_result(
            suite="s",
            policy={},
            run={},
            conditions={"cells": [{"name": "c"}]},
            episodes=[],
            summary=[{"cell": "c", "task": "t", "episodes": 1, "successes": 1}],
            timing={},
        )


def test_fingerprint_works_outside_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "__file__", str(tmp_path / "fingerprint.py"))
    run = fingerprint.run_fingerprint(seed=5)
    assert (run["commit"], run["dirty"], run["seed"]) == (None, None, 5)
    assert run["versions"]["numpy"]
    assert run["hardware"]["num_cores"] >= 1


def test_fingerprint_works_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert fingerprint.run_fingerprint(0)["commit"] is None
