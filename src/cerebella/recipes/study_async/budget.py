"""What was planned, what was run, what was left out: said openly, with the CPU time of each."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cerebella.recipes.study_async import plan
from cerebella.recipes.study_async.recipe import StudyAsyncRecipe
from cerebella.recipes.study_async.tables import table
from cerebella.recipes.study_cells import Cell

_KINDS = {"training": "policies", "rollout": "rollout cells", "trap": "trap cells"}


def plan_table(recipe: StudyAsyncRecipe, cells: Sequence[Cell]) -> str:
    """Per horizon, seed and kind: cells planned, run and dropped, CPU hours expected and measured."""
    run: Counter[tuple[int, int, str]] = Counter()
    seconds: defaultdict[tuple[int, int, str], float] = defaultdict(float)
    planned = _planned(recipe)
    for cell in cells:
        if _key(cell["name"]) in planned:
            key = cell["name"]["horizon"], cell["name"]["seed"], cell["kind"]
            run[key] += 1
            seconds[key] += cell["cpu_s"]
    rows = plan.plan_rows(recipe)
    lines = []
    for row in rows:
        key = row.horizon, row.seed, row.kind
        lines.append(
            [
                *(
                    str(row.horizon),
                    str(row.seed),
                    _KINDS[row.kind],
                    str(row.num_planned),
                    f"{row.planned_s / 3600:.2f}",
                ),
                *(str(run[key]), f"{seconds[key] / 3600:.2f}", str(row.num_planned - run[key])),
            ]
        )
    expected, used = sum(row.planned_s for row in rows), sum(seconds.values())
    num = sum(row.num_planned for row in rows)
    last = ["", "", str(num), f"{expected / 3600:.2f}", str(run.total()), f"{used / 3600:.2f}", str(num - run.total())]
    head = ["H", "seed", "what", "planned", "expected CPU h", "run", "CPU h", "dropped"]
    return table(head, [*lines, ["**all**", *last]])


def dropped_table(recipe: StudyAsyncRecipe, cells: Sequence[Cell]) -> str:
    """What is not in the tables, and why: conditions that make no sense or were never planned, then (unless nothing has
    been run yet) cells not reached.
    """
    lines = [list(row) for row in plan.left_out(recipe)]
    there = {_key(cell["name"]) for cell in cells}
    for (horizon, seed), tasks in _missing(recipe, there).items() if cells else ():
        for variants, names in tasks.items():
            lines.append(
                [f"H = {horizon}, seed {seed}: {variants} on {', '.join(names)}", "not reached within the budget"]
            )
    return table(["dropped", "why"], lines) if lines else "Nothing was dropped.\n"


def cpu_hours(cells: Sequence[Cell]) -> float:
    """Of all cells."""
    return sum(cell["cpu_s"] for cell in cells) / 3600


def _missing(recipe: StudyAsyncRecipe, there: set[str]) -> dict[tuple[int, int], dict[str, list[str]]]:
    """(horizon, seed) -> which trainings with missing cells -> on which tasks."""
    by_task: dict[tuple[int, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for policy in plan.policies(recipe):
        names = plan.cells(recipe, policy)
        num_missing = sum(_key(asdict(name)) not in there for name in names)
        if num_missing:
            part = "" if num_missing == len(names) else f" ({num_missing} of {len(names)} cells)"
            by_task[policy.horizon, policy.seed][policy.task].append(f"`{policy.variant}`{part}")
    found: dict[tuple[int, int], dict[str, list[str]]] = {}
    for key, tasks in by_task.items():
        alike: dict[str, list[str]] = defaultdict(list)
        for task, variants in tasks.items():
            alike[_variants(recipe, key, variants)].append(task)
        found[key] = alike
    return found


def _variants(recipe: StudyAsyncRecipe, key: tuple[int, int], variants: list[str]) -> str:
    everything = {p.variant for p in plan.policies(recipe) if (p.horizon, p.seed) == key}
    return "all policies" if set(variants) == {f"`{variant}`" for variant in everything} else ", ".join(variants)


def _planned(recipe: StudyAsyncRecipe) -> set[str]:
    return {_key(asdict(name)) for policy in plan.policies(recipe) for name in plan.cells(recipe, policy)}


def _key(name: dict[str, Any]) -> str:
    return repr(sorted(name.items()))
