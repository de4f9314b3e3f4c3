"""A tiny study from end to end, with real trainings on real demonstrations."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("mujoco")

from cerebella.recipes.fine_tune.run import fine_tune
from cerebella.recipes.fine_tune.start_reading import read_start
from cerebella.recipes.workcell_data import read_attempts
from cerebella.recipes.workcell_study.asking import ask
from cerebella.recipes.workcell_study.cells import FORMAT, StreamName
from cerebella.recipes.workcell_study.driving import Bench
from cerebella.recipes.workcell_study.run import run
from cerebella.recipes.workcell_study.streaming import stream_numbers
from cerebella.recipes.workcell_study.study import StudyWorkcell
from cerebella.recipes.workcell_study.trainings import BRAIN, final, variation
from tests.recipes.workcell_study.made_up_cells import retention, rollout, stream
from tests.recipes.workcell_study.tiny_study import study_in


def numbers_in(study: StudyWorkcell) -> dict[str, dict[str, Any]]:
    """All cells without where, when and how long."""
    cells = {path.stem: json.loads(path.read_text()) for path in sorted(study.cells.glob("*.json"))}
    return {name: {k: v for k, v in cell.items() if k not in ("run", "cpu_s")} for name, cell in cells.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyWorkcell:
    study = study_in(tmp_path_factory.mktemp("whole"))
    assert [path.stem for path in run(study)] == [
        "training-default",
        *(f"rollout-default-{mode}-d2-e0000" for mode in ("prefix", "sync")),
        "rollout-expert-expert-d0-e0000",
        *(f"rollout-default-{mode}-d2-e0001" for mode in ("prefix", "sync")),
        "rollout-expert-expert-d0-e0001",
    ]
    return study


def test_a_study_that_was_stopped_goes_on_and_ends_with_the_same_numbers(whole: StudyWorkcell, tmp_path: Path) -> None:
    study = replace(whole, runs=tmp_path / "runs", modes=("prefix",))
    wanted = {name: cell for name, cell in numbers_in(whole).items() if "prefix" in name or "expert" in name}
    first = run(replace(study, stop_after=2))
    assert [path.stem for path in first] == ["training-default", "rollout-default-prefix-d2-e0000"]
    untouched = [path.stat().st_mtime_ns for path in first]
    run(replace(study, stop_after=3))  # the policy is another study's, too, and is not trained again
    assert [path.stat().st_mtime_ns for path in first] == untouched
    found = numbers_in(study)
    assert len(wanted) == 4
    assert wanted.items() <= found.items()
    assert run(replace(study, budget_cpu_h=0.0)) == []


def test_what_a_cell_holds(whole: StudyWorkcell) -> None:
    cells = numbers_in(whole)
    numbers = cells["rollout-default-sync-d2-e0001"]["numbers"]
    assert numbers["ticks"] == [7]
    assert numbers["success"] == "0"
    assert numbers["requests"]["asked"] == 1
    assert cells["rollout-default-sync-d2-e0001"]["settings"]["first_seed"] == 1_000_001
    assert cells["rollout-expert-expert-d0-e0000"]["numbers"]["parts"] == [1]
    stages = cells["training-default"]["numbers"]["stages"]
    assert [(stage["stage"][0], stage["num_steps"]) for stage in stages] == [(digit, 2) for digit in "0123"]


def test_other_weights_or_settings_are_refused_before_anything_runs(whole: StudyWorkcell) -> None:
    before = numbers_in(whole)
    with pytest.raises(ValueError, match=r"max_ticks: 7 there, 8 now.*another out"):
        run(replace(whole, max_ticks=8))
    assert numbers_in(whole) == before


def test_real_time_chunking_begins_with_the_same_brain_under_another_rule(whole: StudyWorkcell) -> None:
    first, second = variation(whole, "rtc")
    assert first.start == str(whole.policy.out / BRAIN)
    start = read_start(first)
    assert (start.config.mask_variant, start.config.position_offset) == ("causal", 0)
    with pytest.raises(ValueError, match="trained under the attention rule 'band'"):
        read_start(replace(first, start=str(final(whole, "default"))))
    fine_tune(first)
    assert read_start(second).config.mask_variant == "causal"  # with a brain that says `band` in its history


def test_a_brain_is_asked_about_demonstrations_of_other_seeds(whole: StudyWorkcell) -> None:
    families = ask(replace(whole, questions=1), whole.policy.out / BRAIN)["families"]
    assert {"subtask", "later"} <= families.keys()  # one picture, two pictures
    assert all(family["right"] in ("0", "1") and 0 < family["blind"] <= 1 for family in families.values())
    assert {attempt.seed for attempt in read_attempts(whole.held_out)} == {20_000_000}


def test_a_stream_is_looked_at_again_and_again(whole: StudyWorkcell) -> None:
    study = replace(whole, stream_s=1.0)
    numbers = stream_numbers(study, StreamName("default", 2), Bench(study).policy("default"))
    rows = numbers["rows"]
    assert len(rows) == 30
    assert rows[-1]["s"] == 1.0
    assert numbers["is_whole"]
    assert numbers["num_requests"] >= 2
    assert all(row["rss_mb"] > 50 for row in rows)


def test_the_page_from_cells_and_from_the_bundle_are_the_same(whole: StudyWorkcell) -> None:
    (whole.cells / "rollout-rtc-prefix-d2-e0000.json").write_text(json.dumps(rollout("rtc", "prefix", 2, "01")))
    (whole.cells / "retention-default-0.json").write_text(json.dumps(retention("default", "0-warmup_vision", "01")))
    (whole.cells / "stream-default-d3.json").write_text(json.dumps(stream("default", 4)))
    films = run(replace(whole, do="videos"))
    assert [path.name for path in films] == ["failures.mp4"]
    (whole.media / "conclusions.md").write_text("Nothing was learnt in *two* steps.\n")
    paths = run(replace(whole, do="page"))
    written = {path: path.read_bytes() for path in paths}
    page = whole.page.read_text()
    assert "Nothing was learnt in *two* steps." in page
    assert "| `prefix` - `rtc, prefix` | mask and weighed errors, over training-time RTC | 2 |" in page
    assert "(report/failures.mp4)" in page
    assert "| **all** |  | 7 |" in page
    assert "--do run --policy.task workcell/insert --policy.horizon 8" in page
    assert [path.name for path in paths] == ["cells.jsonl.gz", "claims.png", "retention.png", "stream.png", "report.md"]
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert min(picture.size) > 100
    for path in paths[1:]:
        path.unlink()
    elsewhere = StudyWorkcell(do="rebuild", page=whole.page)  # the plan is in the bundle
    assert {path: path.read_bytes() for path in [whole.bundle, *run(elsewhere)]} == written


def test_a_missing_bundle_or_study_is_named(tmp_path: Path) -> None:
    study = StudyWorkcell(runs=tmp_path, page=tmp_path / "report.md")
    with pytest.raises(FileNotFoundError, match=r"cells\.jsonl\.gz"):
        run(replace(study, do="rebuild"))
    with pytest.raises(FileNotFoundError, match="there are no cells"):
        run(replace(study, do="page"))
    with pytest.raises(FileNotFoundError, match="no episodes of default at 3 ticks"):
        run(replace(study, do="videos"))
    assert FORMAT.gather(study.cells) == []
