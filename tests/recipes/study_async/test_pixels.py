"""The study with pictures: the same cells, with policies of the shipped size."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cerebella.recipes.pixel_training import PixelTraining
from cerebella.recipes.study_async import plan
from cerebella.recipes.study_async.cells import FORMAT, PolicyName, RolloutName, path_of
from cerebella.recipes.study_async.measuring import make_bench
from cerebella.recipes.study_async.recipe import PIXELS, StudyAsyncRecipe
from cerebella.recipes.study_async.run import run


def test_a_study_with_pictures_from_training_to_page(tmp_path: Path) -> None:
    recipe = replace(
        PIXELS,
        out=tmp_path / "out",
        page=tmp_path / "docs" / "pixels.md",
        tasks=("jammed_drawer",),
        horizons=(8,),
        methods=("naive", "clean"),
        other_horizons=(),
        delays=(2,),
        num_episodes=2,
        num_stale_windows=3,
        trap_delays=(2,),
        num_windows=100,
        warmup_steps=1,
        base_steps=1,
        variant_steps=1,
        batch_size=4,
        show_progress=False,
    )
    assert len(run(recipe)) == 7
    assert run(recipe) == [], "what is there is not run again"
    training = json.loads(path_of(recipe.cells, PolicyName("jammed_drawer", 8, "clean", 0)).read_text())
    assert 3.0e6 < training["numbers"]["num_parameters"] < 3.4e6
    assert (training["settings"]["training"]["preset"], training["settings"]["training"]["max_prefix"]) == ("micro", 4)
    rollout = json.loads(path_of(recipe.cells, RolloutName("jammed_drawer", 8, 4, "clean", 2, True, 0)).read_text())
    assert len(rollout["numbers"]["success"]) == 2
    assert {cell["kind"] for cell in FORMAT.gather(recipe.cells)} == {"training", "rollout", "trap"}
    run(replace(recipe, do="page"))
    assert "act from pictures" in recipe.page.read_text()


def test_the_planned_study_is_what_was_asked_for() -> None:
    assert {(name.task, name.variant) for name in plan.policies(PIXELS)} == {
        (task, variant) for task in ("jammed_drawer", "conveyor") for variant in ("sync", "clean", "band_stale")
    }
    bench = make_bench(PIXELS)
    training = bench.training(PolicyName("conveyor", 16, "band_stale", 0))
    assert isinstance(training, PixelTraining)
    assert training.max_prefix == 8
    assert bench.robot("conveyor").views == ("base",)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="width is no size of a policy that acts from pixels"):
        replace(PIXELS, width=32)
    with pytest.raises(ValueError, match="warmup_steps is no size of a policy that acts from state"):
        StudyAsyncRecipe(warmup_steps=3)
    with pytest.raises(ValueError, match="roll_forward moves a state vector"):
        replace(PIXELS, methods=("naive", "roll_forward"))
