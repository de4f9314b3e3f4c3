"""From a brain that sees to a policy that acts, and the retention study, at the smallest size."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cerebella.evaluation.suites import EvalConfig, evaluate
from cerebella.evaluation.vision_language import VisionLanguageResult
from cerebella.models.config import preset
from cerebella.policies.brain import is_brain, read_brain
from cerebella.policies.directory import load_policy
from cerebella.recipes import nano, scene_brain, study_retention
from cerebella.training.stages import Stage

FAMILIES = ("colour", "point")


def short(stage: Stage, **changes: int) -> Stage:
    talk = {"num_conversations": 2} if stage.num_conversations else {}
    return replace(stage, **{"num_steps": 2, "batch_size": 4, "num_warmup_steps": 1, **talk, **changes})


def brain_recipe(out: Path) -> scene_brain.SceneBrainRecipe:
    return scene_brain.SceneBrainRecipe(
        preset="micro",
        out=out,
        families=FAMILIES,
        num_questions=12,
        num_windows=8,
        num_held_out=3,
        device="cpu",
        precision="float32",
        num_workers=1,
        num_threads=1,
        stage=short(scene_brain.STAGE, num_steps=3),
        show_progress=False,
    )


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("brains") / "scenes-micro"
    paths = scene_brain.train(brain_recipe(out))
    assert all(path.exists() for path in paths)
    return out


def test_the_brain_is_a_directory_that_says_how_it_was_made(brain: Path) -> None:
    assert is_brain(brain)
    read_brain(brain, preset("micro"))
    recipe = json.loads((brain / "recipe.json").read_text())
    assert recipe["families"] == list(FAMILIES)
    assert not {"out", "num_workers", "stop_after"} & recipe.keys()
    record = json.loads((brain / "examination.json").read_text())
    assert [row["items"] for row in record["results"]["scenes-micro"]["summary"]] == [3, 3]
    assert not (brain / "run").exists()
    assert not [name for name in ("train_step", "loss") if name not in (brain / "curves.jsonl").read_text()]


def test_a_stopped_run_continues_to_the_same_brain(brain: Path, tmp_path: Path) -> None:
    recipe = brain_recipe(tmp_path / "scenes-micro")
    assert not is_brain(recipe.out)
    assert scene_brain.train(replace(recipe, stop_after=1))[0] == recipe.out / "run" / "checkpoints"
    scene_brain.train(recipe)
    assert (recipe.out / "model.safetensors").read_bytes() == (brain / "model.safetensors").read_bytes()


def test_a_second_lesson_starts_from_the_first_and_remembers_it(brain: Path, tmp_path: Path) -> None:
    stage = replace(short(scene_brain.STAGE), objective="next_token", batch_size=0)
    scene_brain.train(replace(brain_recipe(tmp_path / "more"), start=brain, stage=stage))
    first = json.loads((brain / "recipe.json").read_text())
    assert json.loads((tmp_path / "more" / "recipe.json").read_text())["start"]["recipe"] == first
    assert (tmp_path / "more" / "tokenizer.json").read_bytes() == (brain / "tokenizer.json").read_bytes()
    assert (tmp_path / "more" / "model.safetensors").read_bytes() != (brain / "model.safetensors").read_bytes()


def nano_recipe(brain: Path, out: Path) -> nano.NanoRecipe:
    return nano.NanoRecipe(
        brain=brain,
        out=out,
        preset="micro",
        num_windows=60,
        num_questions=8,
        families=FAMILIES,
        num_held_out=3,
        episodes=2,
        precision="float32",
        num_threads=1,
        show_progress=False,
        stages=tuple(short(stage) for stage in nano.NanoRecipe().stages),
    )


def test_three_stages_leave_one_policy_with_their_history(brain: Path, tmp_path: Path) -> None:
    recipe = nano_recipe(brain, tmp_path / "policy")
    paths = nano.train(recipe)
    assert all(path.exists() for path in paths)
    config = json.loads((recipe.out / "config.json").read_text())
    assert [(stage["name"], stage["fingerprint"]) for stage in config["stages"]] == [
        (stage.name, stage.fingerprint) for stage in recipe.stages
    ]
    assert [stage.name for stage in recipe.stages] == ["pretrain_brain", "pretrain_cerebellum", "posttrain_async"]
    exams = json.loads((recipe.out / "examination.json").read_text())["results"]
    assert list(exams) == ["before", "after pretrain_brain", "after posttrain_async"]
    policy = load_policy(recipe.out)
    assert policy.metadata.max_trained_prefix == 6
    result = evaluate(EvalConfig("dynamic/conveyor", str(recipe.out), "prefix", 4, 2), show_progress=False)
    assert result["summary"][0] == json.loads((recipe.out / "eval-prefix-4.json").read_text())["summary"][0]


def test_a_killed_run_of_three_stages_ends_with_the_same_weights(
    brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again = (replace(nano_recipe(brain, tmp_path / name), episodes=0) for name in ("whole", "again"))
    nano.train(whole)
    ordinary, num_calls = nano.run_stages, 0

    def dies_in_the_second_stage(*arguments: object, **named: object) -> bool:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 2:
            raise KeyboardInterrupt
        return ordinary(*arguments, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(nano, "run_stages", dies_in_the_second_stage)
    with pytest.raises(KeyboardInterrupt):
        nano.train(again)
    monkeypatch.setattr(nano, "run_stages", ordinary)
    nano.train(again)
    assert (again.out / "model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()


def test_a_study_asks_the_same_questions_and_resumes_by_cell(brain: Path, tmp_path: Path) -> None:
    recipe = study_retention.RetentionRecipe(
        brain=brain,
        preset="micro",
        out=tmp_path,
        seeds=(0, 1),
        num_steps=1,
        families=FAMILIES,
        num_windows=60,
        num_questions=8,
        num_held_out=2,
        num_held_out_windows=8,
        device="cpu",
        num_threads=1,
        show_progress=False,
    )
    study_retention.run(recipe)
    cells = sorted(path.name for path in (tmp_path / "cells").glob("*.json"))
    assert cells == [
        "before.json",
        *(f"{arm}-seed-{seed}.json" for arm in ("with-vl-data", "without-vl-data") for seed in (0, 1)),
    ]
    study = json.loads((tmp_path / "study.json").read_text())
    assert [row["family"] for row in study["families"]] == list(FAMILIES)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*.json")}
    (tmp_path / "cells" / "with-vl-data-seed-1.json").unlink()
    study_retention.run(recipe)
    changed = [path.name for path in (tmp_path / "cells").glob("*.json") if kept[path.name] != path.stat().st_mtime_ns]
    assert changed == ["with-vl-data-seed-1.json"]
    assert json.loads((tmp_path / "study.json").read_text()) == study
    record = json.loads((tmp_path / "cells" / "before.json").read_text())
    assert json.loads(json.dumps(VisionLanguageResult.from_dict(record["result"]).as_dict())) == record["result"]


def test_the_arms_differ_in_the_conversations_only() -> None:
    with_data, without = study_retention.ARMS.values()
    assert with_data.num_conversations * 6 == with_data.batch_size
    assert replace(with_data, num_conversations=0, language_weight=0.0) == without
