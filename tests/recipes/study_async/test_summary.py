"""Tables and tests from hand-made cells whose answers are known."""

from typing import Any

import numpy as np
import pytest

from cerebella.recipes.study_async import tables
from cerebella.recipes.study_async.cells import (
    FORMAT,
    Name,
    PolicyName,
    RolloutName,
    TrapName,
    find_cell,
    make_cell,
    write_cell,
)
from cerebella.recipes.study_async.comparisons import in_detail, overall
from cerebella.recipes.study_async.measures import NO_EVENT, SEAM_EDGES, UNEQUAL, UNMOVED
from cerebella.recipes.study_async.summary import area, histogram_quantile, summarise
from cerebella.recipes.study_async.trap_summary import summarise_traps

RUN = {"commit": "abc", "processor": "none"}


def rollout(method: str, delay: int | str, success: str, seed: int = 0, perturbation: bool = False) -> dict[str, Any]:
    counts = [0] * (len(SEAM_EDGES) - 1)
    counts[10] = 4
    numbers: dict[str, Any] = {
        "success": success,
        "ticks": [90] * len(success),
        "throughput_per_min": 20.0 * success.count("1") / len(success),
        "idle_share": 0.0,
        "seam_counts": counts,
        "seam_p50": 1.0,
        "seam_p95": None,
        "num_seams": 4,
        "jerk_m_s3": None,
        "age_ticks": 5.0,
        "requests": {"asked": 10, "late": 1, "rejected": 0, "cut": 0, "untrained": 5},
    }
    if perturbation:
        numbers["reaction_ticks"] = [4, NO_EVENT, UNEQUAL, UNMOVED]
    name = RolloutName("balance", 16, 8, method, delay, perturbation, seed)
    return make_cell(name, {"a": 1}, RUN, 1.5, numbers)


def test_rows_pool_the_seeds_and_keep_them_apart() -> None:
    cells = [
        rollout("clean", 0, "1111"),
        rollout("clean", 0, "1110", seed=1),
        rollout("clean", 4, "1100"),
        rollout("clean", 4, "1000", seed=1),
        rollout("clean", "burst", "1111", perturbation=True),
    ]
    first, second, burst = summarise(cells)
    assert (first.delay, second.delay, burst.delay) == (0, 4, "burst")
    assert (first.rate, second.rate) == (7 / 8, 3 / 8)
    assert second.seed_rates == (0.5, 0.25)
    assert second.low < 3 / 8 < second.high
    assert second.retention == pytest.approx(3 / 7)
    assert first.retention == 1.0
    assert second.throughput_per_min == pytest.approx(7.5)
    assert (second.late_share, second.untrained_share, second.cpu_s) == (0.1, 0.5, 3.0)
    assert second.jerk_m_s3 is None
    assert (burst.reactions, burst.num_unmoved, burst.retention) == ((4,), 1, None)


def test_the_quantile_of_a_histogram() -> None:
    counts = np.zeros(len(SEAM_EDGES) - 1)
    assert histogram_quantile(counts, 0.95) is None
    counts[10] = 4
    found = histogram_quantile(counts, 0.95)
    assert found is not None
    assert SEAM_EDGES[10] < found < SEAM_EDGES[11]
    counts[20] = 1
    assert histogram_quantile(counts, 0.8) == pytest.approx(SEAM_EDGES[11])


def test_the_area_under_a_delay_curve() -> None:
    rows = summarise(
        [
            rollout("sync", 0, "1111"),
            rollout("clean", 0, "1111"),
            rollout("clean", 2, "1100"),
            rollout("clean", 8, "0000"),
            rollout("clean", "burst", "0000"),
        ]
    )
    found = area(rows, "balance", 16, "clean", False)
    assert found is not None
    assert found[0] == pytest.approx((0.75 * 2 + 0.25 * 6) / 8)
    assert found[1] <= found[0] <= found[2]
    assert area(rows, "balance", 16, "sync", False) is None  # one delay is no curve


def test_a_paired_difference_is_that_of_the_same_episodes() -> None:
    cells = [
        rollout("naive", 4, "0" * 10),
        rollout("clean", 4, "1" * 8 + "00"),
        rollout("all", 4, "1" * 9 + "0"),
        rollout("all", 4, "1" * 10, seed=1),  # `clean` has no such seed yet
        rollout("clean", 0, "1" * 10),
        rollout("naive", 0, "1" * 10),
    ]
    rows = summarise(cells)
    detail = {(each.method, each.delay): each for each in in_detail(rows)}
    assert set(detail) == {("clean", 4), ("clean", 0), ("all", 4)}
    assert detail["clean", 4].difference == pytest.approx(0.8)
    assert detail["clean", 4].p_value == pytest.approx(2 / 2**8)
    assert detail["clean", 4].p_holm == pytest.approx(2 * 2 / 2**8)  # the family has delay 0 in it as well
    assert (detail["all", 4].num_units, detail["all", 4].p_holm) == (10, 1.0)
    together = {(each.method, each.task): each for each in overall(rows)}
    assert together["clean", "all"].difference == pytest.approx(0.8)  # delay 0 does not count
    assert together["clean", "balance"].num_units == 10
    assert together["clean", "all"].training_low is None  # one training says nothing about the next
    assert "`clean` - `naive`" in tables.comparison_table(list(together.values()), 16)


def test_conditions_of_one_episode_are_one_unit() -> None:
    cells = []
    for seed in (0, 1):
        for delay in (2, 4, 8):
            for perturbation in (False, True):
                cells.append(rollout("clean", delay, "1100", seed, perturbation))
                cells.append(rollout("naive", delay, "1000", seed, perturbation))
    found = next(each for each in overall(summarise(cells)) if each.task == "all")
    assert found.num_units == 8
    assert found.difference == 0.25
    assert found.seed_differences == (0.25, 0.25)
    assert (found.training_low, found.training_high) == (0.25, 0.25)
    assert found.p_value > 0.3  # two units of eight have moved, though twelve pairs have


def trap(method: str, seed: int, copied: list[int]) -> dict[str, Any]:
    numbers = {
        "error_tenth_mm": [10 * value for value in copied],
        "copied_percent": copied,
        "control_tenth_mm": [5] * len(copied),
        "num_drawn": 80,
        "num_conflicts": 20,
    }
    return make_cell(TrapName("balance", 16, method, 4, seed), {"a": 1}, RUN, 1.0, numbers)


def test_the_effect_on_the_copy_trap_is_paired_by_window_and_seed() -> None:
    cells = [
        trap("clean", 0, [50, 60, 40]),
        trap("clean", 1, [50, 60, 40]),
        trap("band", 0, [40, 50, 30]),
        trap("band", 1, [30, 40, 20]),
        trap("guided", 0, [90, 90, 90]),
    ]
    guided, clean, band = summarise_traps(cells)
    assert (guided.method, clean.method, band.method) == ("guided", "clean", "band")
    assert clean.effects == {}
    effect = band.effects["copied"]
    assert effect.mean == pytest.approx(-0.15)
    assert (effect.low, effect.high) == (pytest.approx(-0.15), pytest.approx(-0.15))  # every window moved alike
    assert effect.seed_values == (pytest.approx(-0.1), pytest.approx(-0.2))
    assert effect.seed_low is not None
    assert effect.seed_low < -0.2
    assert clean.values["error_mm"].mean == pytest.approx(50.0)
    assert guided.effects["copied"].seed_low is None
    text = tables.trap_table([guided, clean, band], 16, 4)
    assert "| balance | `band` | 35 | -15.0 (-15.0 .. -15.0) |" in text


def test_a_cell_is_checked_when_it_is_read(tmp_path: Any) -> None:
    name: Name = PolicyName("balance", 16, "clean", 0)
    cell = make_cell(name, {"a": 1, "b": {"c": (2,)}}, RUN, 1.0, {})
    path = write_cell(tmp_path, name, cell)
    assert find_cell(tmp_path, name, {"a": 1, "b": {"c": [2]}}) == cell
    assert find_cell(tmp_path, PolicyName("balance", 16, "all", 0), {}) is None
    with pytest.raises(ValueError, match=r"b\.c: \[2\] there, \[3\] now"):
        find_cell(tmp_path, name, {"a": 1, "b": {"c": [3]}})
    path.rename(tmp_path / "balance-h16-all-seed0-training.json")
    with pytest.raises(ValueError, match="holds the cell"):
        find_cell(tmp_path, PolicyName("balance", 16, "all", 0), {"a": 1, "b": {"c": [2]}})
    with pytest.raises(ValueError, match="numbers missing"):
        FORMAT.check({key: value for key, value in cell.items() if key != "numbers"}, "it")
    with pytest.raises(ValueError, match="schema_version '0'"):
        FORMAT.check({**cell, "schema_version": "0"}, "it")


def test_equal_cells_make_equal_bundles(tmp_path: Any) -> None:
    cells = [rollout("clean", 4, "11"), rollout("clean", 0, "10"), trap("clean", 0, [1])]
    one, other = tmp_path / "one.gz", tmp_path / "other.gz"
    FORMAT.write_bundle(one, {"seeds": [0]}, cells)
    FORMAT.write_bundle(other, {"seeds": [0]}, cells[::-1])
    assert one.read_bytes() == other.read_bytes()
    planned, found = FORMAT.read_bundle(one)
    assert planned == {"seeds": [0]}
    assert sorted(map(str, found)) == sorted(map(str, cells))
