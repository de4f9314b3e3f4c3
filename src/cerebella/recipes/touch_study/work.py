"""The long part of the study: train and measure what is missing, in the order of the plan, until it or the budget ends."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cerebella.recipes.study_cells import compact_run
from cerebella.recipes.touch_study import plan, refiners
from cerebella.recipes.touch_study.cells import (
    DisturbanceName,
    ExampleName,
    Name,
    TrainingName,
    TrialsName,
    find_cell,
    new_cell,
    write_cell,
)
from cerebella.recipes.touch_study.disturbances import measure_disturbances
from cerebella.recipes.touch_study.examples import measure_example
from cerebella.recipes.touch_study.protocol import Protocol
from cerebella.recipes.touch_study.study import TouchStudy
from cerebella.recipes.touch_study.trials import Row, measure_trial
from cerebella.touch.refinement_steps import Predictor

_SAVE_EVERY_S = 20.0


def measure_missing(study: TouchStudy) -> list[Path]:
    """Add the rows of this part that are not there; returns the paths of the cells that grew.

    Raises:
        ValueError: a cell was begun with other settings, or with another refiner of the same name.
    """
    run = compact_run(study.seed)
    study.cells.mkdir(parents=True, exist_ok=True)
    jobs = []
    for work in plan.own_works(study):
        # Read first: settings that do not fit are an error now, not after an hour.
        settings = settings_of(study, work.name)
        cell = find_cell(study.cells, work.name, settings) or new_cell(work.name, settings, run)
        done = {(row["object"], row["number"]) for row in cell["rows"]}
        jobs.append(_Job(work.name, cell, [unit for unit in work.units if unit not in done]))
    budget = _Budget(study.max_cpu_s, study.stop_after)
    written: list[Path] = []
    loaded = _Loaded(study)
    with tqdm(total=sum(len(job.missing) for job in jobs), unit="row", disable=not study.show_progress) as bar:
        for job in jobs:
            if not job.missing:
                continue
            if not budget.allows():
                break
            bar.set_description_str(str(job.name))
            written.append(_run(study, job, loaded, budget, bar.update))
    return written


def settings_of(study: TouchStudy, name: Name) -> dict[str, Any]:
    """What decides the rows of a cell."""
    settings: dict[str, Any] = {"refiner": refiners.settings_of(study, name.policy)}
    if isinstance(name, TrainingName):
        return settings
    if isinstance(name, DisturbanceName):
        settings["num_disturbances"] = study.num_disturbances
    return settings | {"protocol": protocol_of(study, name).to_json()}


def protocol_of(study: TouchStudy, name: TrialsName | DisturbanceName | ExampleName) -> Protocol:
    """How the trials of a cell are drawn."""
    if isinstance(name, TrialsName):
        return Protocol(
            name.world,
            name.goal,
            max_steps=name.max_steps,
            handling=name.handling,
            fault=name.fault,
            seed=study.seed,
        )
    goal = "fixed" if isinstance(name, DisturbanceName) else "random"
    return Protocol(name.world, goal, seed=study.seed)


@dataclass(frozen=True, eq=False)
class _Job:
    name: Name
    cell: dict[str, Any]
    missing: list[tuple[str, int]]


class _Budget:
    """When to begin nothing new."""

    def __init__(self, max_cpu_s: float | None, stop_after: int | None) -> None:
        self.num_rows = 0
        self._max_cpu_s, self._stop_after = max_cpu_s, stop_after

    def allows(self) -> bool:
        if self._max_cpu_s is not None and time.process_time() >= self._max_cpu_s:
            return False
        return self._stop_after is None or self.num_rows < self._stop_after


class _Loaded:
    """The refiner that was used last."""

    def __init__(self, study: TouchStudy) -> None:
        self._study, self._name = study, ""
        self._predictor: tuple[Predictor, str] | None = None

    def get(self, policy: str) -> tuple[Predictor, str]:
        if self._predictor is None or self._name != policy:
            self._predictor, self._name = refiners.load(self._study, policy), policy
        return self._predictor


def _run(study: TouchStudy, job: _Job, loaded: _Loaded, budget: _Budget, count: Callable[[], object]) -> Path:
    """Add rows until all are there or the budget ends; what is there is written even if something is raised."""
    cell, start_s = job.cell, time.process_time()
    predictor, policy_id = loaded.get(job.name.policy)
    if cell["rows"] and cell["policy_id"] != policy_id:
        raise ValueError(
            f"the cell {job.name} in {study.cells} was begun with the refiner {cell['policy_id']}, which now is "
            f"{policy_id}; choose another out or delete it"
        )
    cell["policy_id"] = policy_id
    saved_s = time.monotonic()
    try:
        for unit in job.missing:
            if not budget.allows():
                break
            if isinstance(job.name, TrainingName):
                used_s = time.process_time() - start_s
                cell["rows"].append(refiners.training_row(study, job.name.policy, predictor, used_s))
            else:
                cell["rows"].append(_measure(study, job.name, predictor, *unit))
            budget.num_rows += 1
            count()
            if time.monotonic() - saved_s > _SAVE_EVERY_S:
                start_s = _write(study, job, start_s)
                saved_s = time.monotonic()
    finally:
        if cell["rows"]:
            _write(study, job, start_s)
    return study.cells / f"{job.name}.json"


def _measure(
    study: TouchStudy,
    name: TrialsName | DisturbanceName | ExampleName,
    predictor: Predictor,
    object_name: str,
    number: int,
) -> Row:
    protocol = protocol_of(study, name)
    if isinstance(name, TrialsName):
        return measure_trial(predictor, protocol, object_name, number)
    if isinstance(name, DisturbanceName):
        return measure_disturbances(predictor, protocol, object_name, study.num_disturbances)
    return measure_example(predictor, protocol, object_name, number)


def _write(study: TouchStudy, job: _Job, start_s: float) -> float:
    """Write the cell with the CPU time since `start_s`; the time now."""
    now_s = time.process_time()
    job.cell["cpu_s"] = round(job.cell["cpu_s"] + now_s - start_s, 2)
    write_cell(study.cells, job.name, job.cell)
    return now_s
