import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cerebella.envs.dynamic.two_ways import LEFT
from cerebella.envs.dynamic.two_ways_data import two_ways_windows
from cerebella.recipes.study_choice import StudyChoiceRecipe, run
from cerebella.recipes.study_choice_cells import (
    MEASURES,
    CellName,
    Method,
    Proposals,
    both_ways,
    make_cell,
    measure,
    read_cell,
    summarise,
)
from cerebella.recipes.study_choice_report import table

TINY = StudyChoiceRecipe(
    laws=("even",),
    seeds=(0, 1),
    horizon=8,
    num_candidates=2,
    num_steps=2,
    batch_size=4,
    num_windows=16,
    num_held_out=12,
    show_progress=False,
)
NAMES = ["even-choice-0", "even-choice-1", "even-single-0", "even-single-1"]


def cells_in(out: Path) -> dict[str, dict[str, Any]]:
    """All cells without where and when they were made."""
    cells = {path.stem: json.loads(path.read_text()) for path in sorted((out / "cells").glob("*[0-9].json"))}
    for cell in cells.values():
        del cell["run"]
    return cells


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    paths = run(replace(TINY, out=out))
    assert all(path.exists() for path in paths)
    return out


def test_a_study_that_was_stopped_between_cells_ends_with_the_same_files(whole: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, out=tmp_path / "study")
    first = run(replace(recipe, stop_after=1))
    assert first == [recipe.out / "cells" / "even-choice-0.json"]
    untouched = first[0].stat().st_mtime_ns
    second = run(replace(recipe, stop_after=2))
    assert len(second) == 2
    assert not (recipe.out / "study.json").exists()
    run(recipe)
    assert first[0].stat().st_mtime_ns == untouched
    assert list(cells_in(recipe.out)) == NAMES
    assert cells_in(recipe.out) == cells_in(whole)
    ours, theirs = (json.loads((out / "study.json").read_text()) for out in (recipe.out, whole))
    assert {**ours, "run": None} == {**theirs, "run": None}
    assert not [path for path in (recipe.out / "cells").iterdir() if path.is_dir()]


def test_what_is_written(whole: Path) -> None:
    cells = cells_in(whole)
    assert len(cells["even-choice-0"]["measures"]["win_shares"]) == 2
    assert len(cells["even-single-0"]["measures"]["win_shares"]) == 1
    single = cells["even-single-1"]["measures"]
    assert single["best_of_n_error_m"] == single["demonstrated_error_m"]
    for cell in cells.values():
        measures = cell["measures"]
        assert measures["nearest_mode_error_m"] <= measures["demonstrated_error_m"]
        assert len(cell["windows"]["hit_share"]) == 12
        assert np.mean(cell["windows"]["nearest_mode_error_m"]) == pytest.approx(
            measures["nearest_mode_error_m"], abs=1e-6
        )
    study = json.loads((whole / "study.json").read_text())
    assert study["cells"] == {name: cell["fingerprint"] for name, cell in cells.items()}
    assert (whole / "study.md").read_text() == table(study)
    for name in ("candidates.png", "measures.png"):
        with Image.open(whole / name) as picture:
            assert min(picture.size) > 100
    curves = (whole / "cells" / "even-choice-0.curves.jsonl").read_text().splitlines()
    assert json.loads(curves[-1])["train_step"] == 2


def test_a_cell_of_other_settings_is_refused_before_anything_is_trained(whole: Path) -> None:
    before = cells_in(whole)
    with pytest.raises(ValueError, match="num_held_out: 12 there, 13 now"):
        run(replace(TINY, out=whole, num_held_out=13))
    assert cells_in(whole) == before


def test_measures_of_known_proposals() -> None:
    windows = two_ways_windows("mostly_left", 200, 16, seed=0)
    ways = both_ways(windows.scenes, 16)
    between = ways.mean(axis=1)
    candidates = np.stack([ways[:, 1], between, ways[:, 0]], axis=1)  # right, through the obstacle, left
    distance_m = np.abs(ways[:, 0] - ways[:, 1]).mean()
    is_left = windows.side == LEFT

    def of(picked: int) -> dict[str, Any]:
        chosen = np.full(200, picked)
        measures, per_window = measure(
            windows, "mostly_left", Proposals(candidates, 10 * candidates, chosen, 10 * ways)
        )
        assert measures["best_of_n_error_m"] == pytest.approx(0, abs=1e-9)
        assert measures["win_shares"] == [pytest.approx((~is_left).mean()), 0, pytest.approx(is_left.mean())]
        assert measures["demonstrated_error"] == pytest.approx(10 * measures["demonstrated_error_m"])
        assert np.mean(per_window["hit_share"]) == measures["hit_share"]
        return measures

    left, middle, right = of(2), of(1), of(0)
    assert left["picked_shares"] == [0, 0, 1]
    assert left["nearest_mode_error_m"] == right["nearest_mode_error_m"] == 0
    assert left["hit_share"] == right["hit_share"] == 0
    assert left["demonstrated_error_m"] == pytest.approx(left["likelier_way_error_m"])
    assert left["demonstrated_error_m"] < middle["demonstrated_error_m"] < right["demonstrated_error_m"]
    assert middle["hit_share"] == 1
    assert middle["demonstrated_error_m"] == pytest.approx(distance_m / 2, rel=1e-5)
    assert middle["nearest_mode_error_m"] == pytest.approx(distance_m / 2, rel=1e-5)


def hand_made(method: Method, seed: int, errors: Sequence[float], hits: Sequence[bool]) -> dict[str, Any]:
    per_window = {f"{n}_m": list(errors) for n in ("demonstrated_error", "nearest_mode_error", "best_of_n_error")}
    measures = {name: float(np.mean(errors)) for name in MEASURES} | {"hit_share": float(np.mean(hits))}
    shares = {"win_shares": [1.0], "picked_shares": [1.0]}
    name = CellName("even", method, seed)
    return make_cell(name, {"a": 1}, {}, None, measures | shares, per_window | {"hit_share": list(hits)}, [])


def test_the_summary_of_hand_made_cells() -> None:
    hits = [True] * 8 + [False] * 2
    cells = [
        hand_made("choice", 0, [0.001, 0.003] * 5, [False] * 10),
        hand_made("single", 0, [0.002, 0.004] * 5, hits),
        hand_made("choice", 1, [0.004] * 10, [False] * 10),
        hand_made("single", 1, [0.002] * 10, hits),
        hand_made("choice", 2, [0.9] * 10, hits),  # its other half is not there yet
    ]
    summary = summarise(cells)
    choice, single = summary["rows"]
    assert (choice["method"], choice["seeds"], single["seeds"]) == ("choice", [0, 1, 2], [0, 1])
    error = single["demonstrated_error_m"]
    assert error["mean"] == pytest.approx(0.0025)
    assert (error["min"], error["max"]) == (pytest.approx(0.002), pytest.approx(0.003))
    by_name = {row["measure"]: row for row in summary["comparisons"]}
    compared = by_name["nearest_mode_error_m"]
    assert [row["seed"] for row in compared["seeds"]] == [0, 1]
    # Every window differs by the same amount, so there is nothing to be unsure of.
    for row, expected in zip(compared["seeds"], (-0.001, 0.002), strict=True):
        assert [row["low"], row["difference"], row["high"]] == pytest.approx([expected] * 3)
    assert compared["mean"] == pytest.approx(0.0005)
    assert (compared["min"], compared["max"]) == (pytest.approx(-0.001), pytest.approx(0.002))
    first = by_name["hit_share"]["seeds"][0]
    assert first["difference"] == pytest.approx(-0.8)
    assert first["p_value"] == pytest.approx(2 / 2**8)
    assert first["low"] < -0.8 < first["high"] < 0
    assert (
        "| even | single | 2.50 (2.00 .. 3.00) | 2.50 (2.00 .. 3.00) | 2.50 (2.00 .. 3.00) | 80.00 (80.00 .. 80.00) |"
        in (table(summary))
    )


def test_a_cell_is_checked_when_it_is_read(tmp_path: Path) -> None:
    cell = hand_made("choice", 0, [0.1, 0.2], [True, False])
    path, name, settings = tmp_path / "cell.json", CellName("even", "choice", 0), {"a": 1}
    path.write_text(json.dumps(cell))
    assert read_cell(path, name, settings) == cell
    with pytest.raises(ValueError, match="holds the cell even-choice-0 instead of even-single-0"):
        read_cell(path, CellName("even", "single", 0), settings)
    for change, message in (
        ({"windows": {**cell["windows"], "hit_share": [True]}}, "not one number per window"),
        ({"schema_version": "0.1"}, "schema_version '0.1'"),
    ):
        path.write_text(json.dumps({**cell, **change}))
        with pytest.raises(ValueError, match=message):
            read_cell(path, name, settings)
    del cell["measures"]
    path.write_text(json.dumps(cell))
    with pytest.raises(ValueError, match="measures missing"):
        read_cell(path, name, settings)


def test_wrong_recipes_are_explained() -> None:
    for wrong, message in (
        ({"laws": ("evn",)}, "unknown law 'evn'"),
        ({"seeds": (1, 1)}, "different values"),
        ({"seeds": (TINY.held_out_seed,)}, "held_out_seed"),
        ({"num_candidates": 1}, "num_candidates must be 2 or more"),
        ({"stop_after": 0}, "stop_after must be 1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(TINY, **wrong)
