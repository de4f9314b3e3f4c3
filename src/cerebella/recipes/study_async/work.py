"""The long part of the study: train and drive what is missing, the most informative first, until the plan or budget ends."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cerebella.recipes.study_async import plan
from cerebella.recipes.study_async.cells import Name, PolicyName, find_cell, make_cell, write_cell
from cerebella.recipes.study_async.measuring import Bench, make_bench
from cerebella.recipes.study_async.recipe import StudyAsyncRecipe
from cerebella.recipes.study_cells import compact_run


def measure_missing(recipe: StudyAsyncRecipe) -> list[Path]:
    """Run the cells of this part that are not there, until the plan or the budget ends; returns their paths."""
    bench = make_bench(recipe)
    recipe.cells.mkdir(parents=True, exist_ok=True)
    work = []
    for policy in plan.own_policies(recipe):
        # Read first: settings that do not fit are an error now, not after an hour.
        missing = {n for n in plan.cells(recipe, policy) if find_cell(recipe.cells, n, bench.settings(n)) is None}
        work.append((policy, missing))
    num_missing = sum(len(missing) for _, missing in work)
    budget = _Budget(recipe.max_cpu_s, recipe.stop_after)
    made_by = compact_run(recipe.seeds[0])
    written: list[Path] = []
    with tqdm(total=num_missing, desc="cells", unit="cell", disable=not recipe.show_progress) as bar:
        for policy, missing in work:
            if not missing:
                continue
            if not budget.allows(len(written)):
                break
            bar.set_postfix_str(str(policy))
            for name, cpu_s, numbers in _measure(recipe, bench, policy, missing, budget, written):
                cell = make_cell(name, bench.settings(name), made_by, cpu_s, numbers)
                written.append(write_cell(recipe.cells, name, cell))
                bar.update()
    return written


@dataclass(frozen=True)
class _Budget:
    """When to begin nothing new."""

    max_cpu_s: float | None
    stop_after: int | None

    def allows(self, num_written: int) -> bool:
        if self.max_cpu_s is not None and time.process_time() >= self.max_cpu_s:
            return False
        return self.stop_after is None or num_written < self.stop_after


def _measure(
    recipe: StudyAsyncRecipe,
    bench: Bench,
    policy: PolicyName,
    missing: set[Name],
    budget: _Budget,
    written: Sequence[Path],
) -> Iterator[tuple[Name, float, dict[str, Any]]]:
    """(name, CPU seconds, numbers) of the missing cells of one policy, one after the other."""
    start_s = time.process_time()
    trained = bench.train(policy)
    if policy in missing:
        yield policy, time.process_time() - start_s, bench.training_numbers(policy, trained)
    for pair in plan.rollouts(recipe, policy):
        if missing.isdisjoint(pair):
            continue
        if not budget.allows(len(written)):
            return
        for name, (cpu_s, numbers) in zip(pair, bench.pair(trained, *pair), strict=True):
            if name in missing:
                yield name, cpu_s, numbers
    for name in plan.traps(recipe, policy):
        if name in missing:
            if not budget.allows(len(written)):
                return
            yield name, *bench.trap(trained, name)
