"""A tiny study from end to end, with real trainings on a real task."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cerebella.recipes.study_async import plan
from cerebella.recipes.study_async.cells import FORMAT, PolicyName, RolloutName, TrapName, find_cell, path_of
from cerebella.recipes.study_async.measuring import make_bench
from cerebella.recipes.study_async.recipe import StudyAsyncRecipe
from cerebella.recipes.study_async.run import run
from cerebella.recipes.study_async.video import write_videos

TINY = StudyAsyncRecipe(
    tasks=("jammed_drawer",),
    horizons=(8,),
    methods=("naive", "clean"),
    delays=(2,),
    with_burst=False,
    other_horizons=(),
    seeds=(0,),
    num_episodes=4,
    num_stale_windows=6,
    trap_delays=(2,),
    num_windows=300,
    base_steps=4,
    variant_steps=2,
    batch_size=8,
    width=32,
    save_every=2,
    show_progress=False,
)


def numbers_in(out: Path) -> dict[str, dict[str, Any]]:
    """All cells without where, when and how long."""
    cells = {path.stem: json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json"))}
    return {name: {k: v for k, v in cell.items() if k not in ("run", "cpu_s")} for name, cell in cells.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyAsyncRecipe:
    folder = tmp_path_factory.mktemp("whole")
    recipe = replace(TINY, out=folder / "out", page=folder / "docs" / "study.md")
    paths = run(recipe)
    assert [path.name for path in paths] == [
        "jammed_drawer-h8-sync-seed0-training.json",
        "jammed_drawer-h8-s4-naive-d2-calm-seed0.json",
        "jammed_drawer-h8-s4-naive-d2-event-seed0.json",
        "jammed_drawer-h8-clean-seed0-training.json",
        "jammed_drawer-h8-s4-clean-d2-calm-seed0.json",
        "jammed_drawer-h8-s4-clean-d2-event-seed0.json",
        "jammed_drawer-h8-clean-d2-trap-seed0.json",
    ]
    assert all(path.stat().st_size < 8_000 for path in paths)
    return recipe


def test_a_study_that_was_stopped_goes_on_and_ends_with_the_same_numbers(
    whole: StudyAsyncRecipe, tmp_path: Path
) -> None:
    recipe = replace(TINY, out=tmp_path / "out")
    first = run(replace(recipe, stop_after=1))
    assert [path.name for path in first] == ["jammed_drawer-h8-sync-seed0-training.json"]
    untouched = first[0].stat().st_mtime_ns
    run(replace(recipe, stop_after=2))  # a pair of twins is never cut
    assert len(FORMAT.gather(recipe.cells)) == 3
    run(replace(recipe, stop_after=1))
    path_of(recipe.cells, plan.cells(recipe, plan.policies(recipe)[0])[2]).unlink()  # half a pair is made again
    run(recipe)
    assert first[0].stat().st_mtime_ns == untouched
    assert numbers_in(recipe.out) == numbers_in(whole.out)
    assert run(recipe) == []


def test_nothing_new_begins_beyond_the_budget(tmp_path: Path) -> None:
    assert run(replace(TINY, out=tmp_path, max_cpu_s=0.0)) == []


def test_other_settings_are_refused_before_anything_runs(whole: StudyAsyncRecipe) -> None:
    before = numbers_in(whole.out)
    with pytest.raises(ValueError, match=r"variant_steps: 2 there, 3 now\).*another out"):
        run(replace(whole, variant_steps=3))
    with pytest.raises(ValueError, match="num_episodes: 4 there, 5 now"):
        run(replace(whole, num_episodes=5))
    assert numbers_in(whole.out) == before


def test_the_numbers_of_a_cell(whole: StudyAsyncRecipe) -> None:
    name = RolloutName("jammed_drawer", 8, 4, "clean", 2, True, 0)
    cell = find_cell(whole.cells, name, make_bench(whole).settings(name))
    assert cell is not None
    numbers = cell["numbers"]
    assert len(numbers["success"]) == len(numbers["ticks"]) == len(numbers["reaction_ticks"]) == 4
    assert sum(numbers["seam_counts"]) == numbers["num_seams"]
    assert numbers["requests"]["asked"] >= 4
    trap = json.loads(path_of(whole.cells, TrapName("jammed_drawer", 8, "clean", 2, 0)).read_text())["numbers"]
    assert len(trap["error_tenth_mm"]) == len(trap["copied_percent"]) == len(trap["control_tenth_mm"])
    assert 1 <= len(trap["error_tenth_mm"]) <= 6
    training = json.loads(path_of(whole.cells, PolicyName("jammed_drawer", 8, "clean", 0)).read_text())["numbers"]
    assert training["num_parameters"] > 1000
    assert training["last_loss"] > 0


def test_the_page_from_cells_and_from_the_bundle_are_the_same(whole: StudyAsyncRecipe) -> None:
    whole.media.mkdir(parents=True)
    (whole.media / "conclusions.md").write_text("Buy *clean* prefixes.\n\nWords of a person stay.\n")
    paths = run(replace(whole, do="page"))
    written = {path: path.read_bytes() for path in paths}
    page = whole.page.read_text()
    assert "Buy *clean* prefixes.\n\nWords of a person stay." in page
    assert "| 8 | 0 | policies | 2 |" in page
    assert "not reached within the budget" not in page
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert min(picture.size) > 100
    for path in paths:
        if path != whole.bundle:
            path.unlink()
    elsewhere = StudyAsyncRecipe(do="rebuild", page=whole.page)  # the plan is in the bundle
    assert {path: path.read_bytes() for path in [whole.bundle, *run(elsewhere)]} == written


def test_what_was_not_reached_is_said(whole: StudyAsyncRecipe, tmp_path: Path) -> None:
    run(replace(whole, do="page", seeds=(0, 1), tasks=("jammed_drawer", "balance"), page=tmp_path / "study.md"))
    page = (tmp_path / "study.md").read_text()
    assert "| H = 8, seed 0: all policies on balance | not reached within the budget |" in page
    assert "| H = 8, seed 1: all policies on jammed_drawer, balance | not reached within the budget |" in page
    assert "| 8 | 1 | policies | 4 |" in page


def test_a_missing_bundle_or_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cells\.jsonl\.gz"):
        run(StudyAsyncRecipe(do="rebuild", page=tmp_path / "study.md"))
    with pytest.raises(FileNotFoundError, match="there are no cells"):
        run(StudyAsyncRecipe(do="page", out=tmp_path, page=tmp_path / "study.md"))
    with pytest.raises(FileNotFoundError, match="holds no finished policy"):
        run(replace(TINY, do="videos", out=tmp_path))


def test_a_film_of_the_trap(whole: StudyAsyncRecipe) -> None:
    paths = write_videos(replace(whole, num_episodes=16))
    assert [path.suffix for path in paths] == [".mp4", ".gif"]
    with Image.open(paths[1]) as film:
        assert getattr(film, "n_frames", 1) > 10
        assert film.size[0] > 400
    assert all(0 < path.stat().st_size < 1_000_000 for path in paths)


def test_an_unknown_task_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown task 'jammed'; tasks of the dynamic suite: .*jammed_drawer"):
        run(replace(TINY, tasks=("jammed",), out=tmp_path))
