"""`cerebella touch train`, `eval`, `refine` and `study` as a person types them, with a refiner of a few steps."""

import json
from pathlib import Path

import pytest
from PIL import Image

from cerebella import cli
from cerebella.evaluation.statistics import wilson_interval
from cerebella.touch.goal import Goal
from cerebella.touch.refinement import Refinement
from tests.cli.person import error_of
from tests.recipes.touch_study.tiny_study import OBJECTS, make_data

pytest.importorskip("mujoco")
PLATE, ROD = OBJECTS
TINY = ["--width", "32", "--num-steps", "4", "--batch-size", "8", "--validate-every", "4", "--num-held-out", "16"]
TINY += ["--num-calibration", "64", "--encoder", "mlp", "--no-show-progress"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    out = tmp_path_factory.mktemp("policy") / "refiner"
    assert cli.main(["touch", "train", "--data", str(data), "--out", str(out), *TINY]) == 0
    return out


def test_train_stops_and_goes_on(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["touch", "train", "--data", str(data), "--out", str(tmp_path / "a"), *TINY]
    assert cli.main([*words, "--stop-after", "2"]) == 0
    assert capsys.readouterr().out == "stopped after 2 steps; the same command goes on\n"
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "held-out pairs: " in said
    assert said.endswith(f"wrote {tmp_path / 'a'}\n")
    assert "seed: 0 there, 1 wanted" in error_of(capsys, *words, "--seed", "1")


def test_eval_prints_a_table_and_writes_every_trial(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    words = [
        "touch",
        "eval",
        str(policy),
        "--goal",
        "random",
        "--trials",
        "3",
        "--objects",
        PLATE,
        ROD,
        "--no-progress",
    ]
    assert cli.main([*words, "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["all", "plate", "rod"]
    assert [line.split()[1] for line in lines[1:4]] == ["3", "2", "1"]
    assert f"wrote {file}" in lines
    last, result = json.loads(lines[-1]), json.loads(file.read_text())
    assert {key: value for key, value in result.items() if key != "trials"} == last
    assert (result["schema"], result["schema_version"]) == ("cerebella.touch.eval", 1)
    assert [(row["object"], row["number"]) for row in result["trials"]] == [(PLATE, 0), (ROD, 0), (PLATE, 1)]
    rate = result["summary"]["all"]["at_end"]["10 deg / 10 mm"]
    assert rate["trials"] == 3
    assert (rate["low"], rate["high"]) == wilson_interval(rate["successes"], 3)
    assert result["policy"]["policy_id"].startswith("refiner@")
    assert (result["protocol"]["world"], result["protocol"]["goal"]) == ("skin", "random")
    assert cli.main([*words, "--fault", "no_object"]) == 0
    assert "refused because of: contact 3" in capsys.readouterr().out


def test_refine_leaves_record_goal_and_picture_and_takes_the_goal_again(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    words = ["touch", "refine", str(policy), "--object", ROD, "--no-video"]
    assert cli.main([*words, "--out", str(first), "--seed", "2"]) == 0
    said = capsys.readouterr().out
    assert "step 0: " in said
    assert "true error" in said
    record = Refinement.load(first / "refinement.json")
    assert record.goal_name == ROD
    assert record.policy_id.startswith("refiner@")
    with Image.open(first / "refinement.png") as picture:
        assert min(picture.size) > 300
    goal = first / "goal.json"
    assert cli.main([*words, "--out", str(again), "--seed", "3", "--goal", str(goal)]) == 0
    capsys.readouterr()
    assert Goal.load(again / "goal.json").to_dict() == Goal.load(goal).to_dict()
    other = Refinement.load(again / "refinement.json")
    assert other.steps[0].true_error != record.steps[0].true_error, "another start"
    plate = ["touch", "refine", str(policy), "--object", PLATE, "--out", str(again), "--goal", str(goal)]
    assert f"{goal} is a goal of {ROD}, not of {PLATE}" in error_of(capsys, *plate)


def test_study_says_its_plan(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["touch", "study", "--data", str(data), "--out", str(tmp_path), "--objects", ROD, "--trials", "7"]
    assert cli.main([*words, "--do", "plan"]) == 0
    assert "| 2 | `main-skin-fixed-seen-5steps` | 0 | 7 | 0 |" in capsys.readouterr().out
    assert "there are no cells" in error_of(capsys, *words, "--do", "page")


def test_mistakes_are_one_line(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none"
    assert "config.json is missing" in error_of(capsys, "touch", "eval", str(missing))
    assert "unknown object 'ball'" in error_of(
        capsys, "touch", "eval", str(policy), "--objects", "ball", "--no-progress"
    )
    assert "unknown fault 'rain'" in error_of(capsys, "touch", "eval", str(policy), "--fault", "rain")
    assert "1 trial or more" in error_of(capsys, "touch", "eval", str(policy), "--trials", "0")
    words = ["touch", "refine", str(policy), "--object", ROD, "--out", str(tmp_path), "--goal", str(missing)]
    assert str(missing) in error_of(capsys, *words)
    assert "holds no grasps" in error_of(capsys, "touch", "train", "--data", str(missing), "--out", str(tmp_path / "a"))


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["touch", "--help"]) == 0
    said = capsys.readouterr().out
    for name in ("data", "train", "eval", "refine", "study"):
        assert f"\n  {name} " in said
