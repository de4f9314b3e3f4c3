"""Numbers from rows that can be counted by hand."""

import json
import math
from typing import Any

import numpy as np
import pytest

from cerebella.evaluation.statistics import wilson_interval
from cerebella.recipes.touch_study import figures, paper, tables
from cerebella.recipes.touch_study.summary import (
    GRADES,
    STRICT,
    Rate,
    by_kind,
    disturbances,
    errors_by_step,
    first_step,
    is_success,
    is_within,
    summarise,
)

LAX = "10 deg / 10 mm"


def row(
    *errors: tuple[float, float],
    outcome: str = "converged",
    problem: str = "",
    name: str = "rod_8x120",
    number: int = 0,
) -> dict[str, Any]:
    """A row whose loop closed the hand at these errors, in mm and degrees; the last is the end."""
    units = [[round(1e3 * mm), round(1e3 * deg)] for mm, deg in errors]
    return {
        "object": name,
        "number": number,
        "start": units[0],
        "errors": units,
        "end": units[-1],
        "outcome": outcome,
        "problem": problem,
        "reason": problem,
        "moves": len(units) - 1,
        "went_back": False,
        "way": [3000, 4000],
        "redrawn": 1,
    }


GOOD = row((6, 8), (1, 1), (0.5, 0.5))
WORSE = row((4, 4), (6, 6), number=1)
REFUSED = row((2, 2), outcome="refused", problem="contact", name="disk_8x110")
FAILED = row((2, 2), outcome="unstable", name="disk_8x110", number=1)
ROWS = [GOOD, WORSE, REFUSED, FAILED]


def test_limits_belong_to_the_grade() -> None:
    assert is_within([5000, 5000], STRICT)
    assert not is_within([5001, 5000], STRICT)
    assert not is_within([4000, 5001], STRICT)
    assert is_within([9000, 4000], "5 deg / 10 mm")


def test_refusals_and_failed_simulations_are_failures_however_near() -> None:
    assert [is_success(each, LAX) for each in ROWS] == [True, True, False, False]
    assert [is_success(each, STRICT) for each in ROWS] == [True, False, False, False]
    assert [first_step(each, STRICT) for each in ROWS] == [1, 0, None, None]
    s = summarise(ROWS)
    assert (s.num_trials, s.num_refused, s.refused, s.num_unstable, s.num_redrawn) == (4, 1, {"contact": 1}, 1, 4)
    assert s.at_end[STRICT] == Rate(1, 4, *wilson_interval(1, 4))
    assert (s.at_any_step[STRICT].num, s.at_start[STRICT].num) == (2, 3)
    assert s.end_mm is not None
    assert s.end_mm.mean == pytest.approx((0.5 + 6 + 2 + 2) / 4)
    assert s.answered_mm is not None
    assert (s.answered_mm.num, s.answered_mm.mean) == (2, pytest.approx(3.25))
    assert (s.way_mm, s.way_deg) == (3, 4)
    assert json.loads(json.dumps(s.to_json(), allow_nan=False))["at_end"][STRICT]["successes"] == 1


def test_few_errors_have_a_mean_but_no_interval() -> None:
    few, many = (summarise([GOOD, WORSE] * num).end_mm for num in (1, 5))
    assert few is not None
    assert many is not None
    assert (few.mean, few.low, few.high) == (3.25, None, None)
    assert many.low is not None
    assert many.high is not None
    assert 0.5 <= many.low < 3.25 < many.high <= 6
    assert tables.with_interval(few) == "3.25 (n = 2)"
    assert tables.with_interval(many).startswith("3.25 (")


def test_nothing_is_known_without_trials() -> None:
    s = summarise([])
    assert (s.num_trials, s.end_mm, s.mean_moves) == (0, None, None)
    assert (s.at_end[LAX].share, s.at_end[LAX].low, s.at_end[LAX].high) == (None, 0, 1)
    assert tables.percent(s.at_end[LAX]) == "-"
    json.dumps(s.to_json(), allow_nan=False)


def test_errors_by_step_keep_where_it_ended() -> None:
    table = errors_by_step([GOOD, WORSE], 3)
    assert table[0, :, 0].tolist() == [6, 1, 0.5, 0.5]
    assert table[1, :, 1].tolist() == [4, 6, 6, 6]
    went_back = {**row((3, 3), (5, 5)), "end": [3000, 3000]}
    assert errors_by_step([went_back], 2)[0, :, 0].tolist() == [3, 5, 3]


def test_classes_and_pushes() -> None:
    assert {kind: len(rows) for kind, rows in by_kind(ROWS).items()} == {"disk": 2, "rod": 2}
    pushes = disturbances([{"object": "rod_8x120", "number": 0, "disturbances": [{**GOOD, "put_back": False}] * 3}])
    assert len(pushes) == 3
    assert summarise(pushes).at_end[STRICT].num == 3


def test_every_rate_in_a_table_has_trials_and_interval() -> None:
    text = tables.grades_table({("skin", "fixed"): ROWS}, ("world", "goal"), [paper.HARDWARE["fixed"]])
    assert "| skin | fixed | at the end | 4 | 50.0 (15.0..85.0) | 25.0 (4.6..69.9) | 25.0 (4.6..69.9) |" in text
    assert "| the paper, hardware | fixed | at any step | 150 | 80.7 (73.6..86.2) |" in text
    refusals = tables.refusals_table({("skin", "fixed"): ROWS}, ("world", "goal"))
    assert "| skin | fixed | 4 | 25.0 (4.6..69.9) | 1 | 1 | 0 | 4 |" in refusals
    faults = tables.faults_table({("dead_thumb", "strict"): ROWS}, (3.0, 4.0))
    assert "| contact 1 | 3.0 / 4.0 | yes |" in faults
    assert "| **no** |" in tables.faults_table({("dead_thumb", "strict"): ROWS}, (2.0, 4.0))


def test_comparisons_are_made_trial_by_trial() -> None:
    others = [row((6, 8), (7, 7)), row((4, 4), (6, 6), number=1)]
    text = tables.comparison_table({"direct": [GOOD, WORSE], "no_touch": others}, "direct")
    assert "| `no_touch` | joints only | 2 | " in text
    assert "-50.0 (" in text
    assert ", 2 pairs | 1 |" in text
    assert tables.comparison_table({"no_touch": others}, "direct") == "The reference has not been run yet.\n"


def test_the_papers_counts_are_whole_trials() -> None:
    for reported in paper.HARDWARE.values():
        for rate in reported.rates:
            assert abs(rate * 150 - round(rate * 150)) < 0.1
    assert paper.SIMULATION.interval(LAX) is None
    assert paper.HARDWARE["fixed"].rate("1 deg / 1 mm") is None


def test_figures_draw_what_there_is() -> None:
    assert figures.steps({"skin": [], "spheres": []}, 5) is None
    assert figures.grades({"skin": {}, "spheres": {}}) is None
    assert figures.tuning({0: {"fixed": ROWS}}) is None
    assert figures.disturbance([]) is None
    steps = figures.steps({"skin": ROWS, "spheres": []}, 2)
    assert steps is not None
    lines = [line for axes in steps.axes for line in axes.get_lines()]
    assert len(lines) == 4, "median in mm and degrees of two classes"
    tuned = figures.tuning({0: {"fixed": ROWS}, 100: {"fixed": [GOOD] * 3}})
    assert tuned is not None
    y = [np.asarray(line.get_ydata()).tolist() for line in tuned.axes[0].get_lines()]
    assert y == [[25.0, 100.0]]
    bars = figures.grades({"skin": {"fixed": ROWS}, "spheres": {}})
    assert bars is not None
    heights = [patch.get_extents().height for patch in bars.axes[0].patches[: len(GRADES)]]
    heights = [50 * height / heights[0] for height in heights]
    assert heights == pytest.approx([50, 25, 25, 25])
    pushes = figures.disturbance([GOOD, REFUSED, WORSE])
    assert pushes is not None
    assert math.isclose(pushes.axes[0].get_ylim()[0], 0)
