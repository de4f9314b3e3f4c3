"""A tiny study from end to end: real grasps, real trainings, stopped and continued, and its page."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cerebella.recipes.touch_study.cells import FORMAT
from cerebella.recipes.touch_study.page_parts import Study
from cerebella.recipes.touch_study.run import run
from cerebella.recipes.touch_study.study import TouchStudy

from .tiny_study import OBJECTS, TINY, make_data, study_in

pytest.importorskip("mujoco")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> TouchStudy:
    study = study_in(tmp_path_factory.mktemp("whole"), data)
    run(study)
    return study


def numbers_in(study: TouchStudy) -> dict[str, dict[str, Any]]:
    """All cells without where, when and how long."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(study.cells.glob("*.json"))}
    for cell in found.values():
        for row in cell["rows"]:
            row.pop("training_cpu_s", None)
    return {name: {k: v for k, v in cell.items() if k not in ("run", "cpu_s")} for name, cell in found.items()}


def test_a_study_that_was_stopped_goes_on_and_ends_with_the_same_numbers(
    whole: TouchStudy, data: Path, tmp_path: Path
) -> None:
    fewer = {"refiners": ("main", "neighbours"), "fault_trials": 0, "tuned_sizes": ()}
    study = replace(study_in(tmp_path, data), **fewer)
    first = run(replace(study, stop_after=4))
    assert [path.stem for path in first] == ["main-training", "main-skin-fixed-seen-5steps"]
    assert len(FORMAT.read(first[1])["rows"]) == 3, "in the middle of a cell"
    untouched = first[0].stat().st_mtime_ns
    run(replace(study, num_parts=2, part=1))
    run(replace(study, num_parts=2, part=0, stop_after=10))
    run(study)
    assert first[0].stat().st_mtime_ns == untouched
    numbers, wanted = numbers_in(study), numbers_in(whole)
    assert len(numbers) > 10
    assert numbers == {name: wanted[name] for name in numbers}
    assert run(study) == []


def test_more_trials_are_added_to_those_that_are_there(whole: TouchStudy, tmp_path: Path) -> None:
    study = replace(whole, out=tmp_path / "out", trials=3, tuned_sizes=())
    shutil.copytree(whole.out, study.out)
    name = "main-skin-fixed-seen-5steps"
    before = FORMAT.read(study.cells / f"{name}.json")["rows"]
    grown = run(study)
    assert [path.stem for path in grown] == [name, "main-skin-random-seen-5steps"]
    after = FORMAT.read(study.cells / f"{name}.json")["rows"]
    assert after[: len(before)] == before
    assert [(row["object"], row["number"]) for row in after[len(before) :]] == [(name, 2) for name in OBJECTS]


def test_other_settings_are_refused_before_anything_runs(whole: TouchStudy) -> None:
    before = numbers_in(whole)
    with pytest.raises(ValueError, match=r"refiner.num_steps: 4 there, 5 now\).*another out"):
        run(replace(whole, num_steps=5))
    with pytest.raises(ValueError, match=r"refiner\.seed: 0 there, 1 now"):
        run(replace(whole, seed=1))
    with pytest.raises(ValueError, match="num_disturbances: 2 there, 3 now"):
        run(replace(whole, num_disturbances=3))
    assert numbers_in(whole) == before


def test_another_refiner_of_the_same_name_is_refused(whole: TouchStudy, tmp_path: Path) -> None:
    study = replace(whole, out=tmp_path / "out", trials=3, tuned_sizes=())
    shutil.copytree(whole.out, study.out)
    path = study.cells / "main-skin-fixed-seen-5steps.json"
    cell = FORMAT.read(path)
    path.write_text(json.dumps({**cell, "policy_id": "main@0123456789ab"}))
    with pytest.raises(ValueError, match="was begun with the refiner main@0123456789ab, which now is main@"):
        run(study)


def test_a_directory_that_is_given_is_not_trained(whole: TouchStudy, tmp_path: Path) -> None:
    study = replace(
        whole,
        out=tmp_path,
        refiner=whole.out / "policies" / "main",
        refiners=("main",),
        fault_trials=0,
        num_disturbances=0,
        unseen_trials=0,
    )
    run(replace(study, stop_after=6))
    assert not (tmp_path / "policies").exists()
    rows = {path.stem: FORMAT.read(path)["rows"] for path in study.cells.glob("*.json")}
    assert rows["main-skin-fixed-seen-5steps"] == FORMAT.read(whole.cells / "main-skin-fixed-seen-5steps.json")["rows"]


def test_nothing_new_begins_beyond_the_budget(data: Path, tmp_path: Path) -> None:
    assert run(replace(study_in(tmp_path, data), max_cpu_s=0.0)) == []


BY_HAND = "Feel *first*.\n\n![a picture of a person](elsewhere.png)\n"


def test_what_the_page_says(whole: TouchStudy) -> None:
    cells = FORMAT.gather(whole.cells)
    planned = {path.stem: len(FORMAT.read(path)["rows"]) for path in whole.cells.glob("*.json")}
    page = Study(planned, cells, "media").text(BY_HAND, ["a.mp4"])
    assert BY_HAND in page
    assert "| skin | fixed | at the end | 4 | " in page
    assert "| the paper, hardware | fixed | at any step | 150 | 80.7 (73.6..86.2) |" in page
    assert "| `neighbours` |" in page
    assert "| dead_thumb | strict | 2 | 100.0 (34.2..100.0) |" in page
    assert "](media/grades.png)" in page
    assert "- [a](media/a.mp4)" in page
    assert "All that was planned has been run." in page
    half = Study({**planned, "main-skin-fixed-seen-5steps": 10}, [], "media").text("", [])
    assert "| `main-skin-fixed-seen-5steps` | 10 | 0 |" in half
    assert "](media/grades.png)" not in half


@pytest.mark.slow
def test_the_page_is_written_with_its_pictures_and_again_from_the_bundle(whole: TouchStudy) -> None:
    whole.media.mkdir(parents=True)
    (whole.media / "conclusions.md").write_text(BY_HAND)
    paths = run(replace(whole, do="page"))
    written = {path: path.read_bytes() for path in paths}
    links = re.findall(r"^!\[.*\]\((touch/.*)\)$", whole.page.read_text(), flags=re.MULTILINE)
    assert len(links) == 7
    for link in links:
        with Image.open(whole.page.parent / link) as picture:
            assert min(picture.size) > 100
    planned, cells = FORMAT.read_bundle(whole.bundle)
    assert len(cells) == len(FORMAT.gather(whole.cells)) == len(planned)
    for path in paths:
        if path != whole.bundle:
            path.unlink()
    elsewhere = TouchStudy(do="rebuild", page=whole.page)  # the plan is in the bundle
    assert {path: path.read_bytes() for path in [whole.bundle, *run(elsewhere)]} == written


def test_missing_cells_and_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there are no cells"):
        run(replace(TINY, do="page", out=tmp_path, page=tmp_path / "touch.md"))
    with pytest.raises(FileNotFoundError, match=r"cells\.jsonl\.gz"):
        run(replace(TINY, do="rebuild", page=tmp_path / "touch.md"))
    with pytest.raises(FileNotFoundError, match="there are no examples"):
        run(replace(TINY, do="video", out=tmp_path))
    with pytest.raises(ValueError, match="holds no grasps"):
        run(replace(TINY, data=tmp_path / "nothing", out=tmp_path))
