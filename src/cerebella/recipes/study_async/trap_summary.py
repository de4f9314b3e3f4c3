"""The copy trap over windows and training seeds: M-14, does a mask keep a policy from copying a stale plan?"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cerebella.evaluation.statistics import Z_95, student_interval
from cerebella.recipes.study_async.methods import METHODS
from cerebella.recipes.study_cells import Cell

MEASURES = ("error_mm", "copied", "control_mm")
"""Distance to the right continuation, share of the stale plan that is copied, distance without a conflict."""
_STORED = {
    "error_mm": ("error_tenth_mm", 0.1),
    "copied": ("copied_percent", 0.01),
    "control_mm": ("control_tenth_mm", 0.1),
}


@dataclass(frozen=True)
class Estimate:
    """A mean with two 95 % intervals.

    Args:
        low, high: over windows (mean +- 1.96 standard errors of each window's mean over the seeds), the policies as given.
        seed_values: per training seed. seed_low, seed_high: Student's t over these; None below two seeds.
    """

    mean: float
    low: float
    high: float
    seed_values: tuple[float, ...]
    seed_low: float | None
    seed_high: float | None


@dataclass(frozen=True)
class TrapRow:
    """One method on one set of stale windows: what it does (`values`), and what it does more than `clean` (`effects`)."""

    task: str
    horizon: int
    delay: int
    method: str
    seeds: tuple[int, ...]
    num_windows: int
    num_drawn: int
    num_conflicts: int
    values: dict[str, Estimate]
    effects: dict[str, Estimate]


def summarise_traps(cells: Iterable[Cell]) -> list[TrapRow]:
    """Rows in the order of horizons, tasks, delays and methods; effects are paired by window and seed."""
    groups: dict[tuple[Any, ...], dict[int, Cell]] = defaultdict(dict)
    for cell in cells:
        if cell["kind"] == "trap":
            name = cell["name"]
            groups[name["horizon"], name["task"], name["delay"], name["method"]][name["seed"]] = cell
    rows = []
    for key in sorted(groups, key=lambda key: (*key[:3], list(METHODS).index(key[3]))):
        horizon, task, delay, method = key
        mine, clean = groups[key], groups.get((horizon, task, delay, "clean"), {})
        common = [seed for seed in sorted(mine) if seed in clean]
        first = next(iter(mine.values()))["numbers"]
        effects = {}
        if method != "clean" and common:
            effects = {m: _estimate({s: _values(mine[s], m) - _values(clean[s], m) for s in common}) for m in MEASURES}
        rows.append(
            TrapRow(
                task=task,
                horizon=horizon,
                delay=delay,
                method=method,
                seeds=tuple(sorted(mine)),
                num_windows=len(first["error_tenth_mm"]),
                num_drawn=first["num_drawn"],
                num_conflicts=first["num_conflicts"],
                values={m: _estimate({s: _values(mine[s], m) for s in sorted(mine)}) for m in MEASURES},
                effects=effects,
            )
        )
    return rows


def _values(cell: Cell, measure: str) -> np.ndarray:
    name, unit = _STORED[measure]
    return unit * np.asarray(cell["numbers"][name], dtype=np.float64)


def _estimate(by_seed: dict[int, np.ndarray]) -> Estimate:
    table = np.stack(list(by_seed.values()))
    windows, seeds = table.mean(axis=0), table.mean(axis=1)
    mean = float(windows.mean())
    error = Z_95 * float(windows.std(ddof=1)) / np.sqrt(len(windows)) if len(windows) > 1 else np.inf
    seed_low, seed_high = student_interval(seeds) or (None, None)
    return Estimate(mean, mean - error, mean + error, tuple(seeds.tolist()), seed_low, seed_high)
