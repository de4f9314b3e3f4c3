"""The long part of the study: train, drive and ask what is missing, the most important first, until plan or budget ends."""

import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cerebella.policies.stored import weights_hash
from cerebella.recipes.study_cells import compact_run
from cerebella.recipes.workcell_policy import is_policy
from cerebella.recipes.workcell_study import plan
from cerebella.recipes.workcell_study.asking import ask, retention_settings
from cerebella.recipes.workcell_study.cells import (
    Name,
    RetentionName,
    RolloutName,
    StreamName,
    TrainingName,
    find_cell,
    make_cell,
    write_cell,
)
from cerebella.recipes.workcell_study.driving import Bench, rollout_numbers, rollout_settings
from cerebella.recipes.workcell_study.names import DEFAULT, EXPERT
from cerebella.recipes.workcell_study.streaming import stream_numbers, stream_settings
from cerebella.recipes.workcell_study.study import StudyWorkcell
from cerebella.recipes.workcell_study.trainings import brains, describe, final, is_trained, run_training

_POLL_S = 10.0


def measure_missing(study: StudyWorkcell) -> list[Path]:
    """Run the cells of this part that are not there; returns the paths written.

    A cell whose policy another part trains is put off until it is there; when nothing else is left, this waits.

    Raises:
        ValueError: a cell was made with other settings, e.g. with other weights of the same training.
    """
    study.cells.mkdir(parents=True, exist_ok=True)
    bench, run, started_s = Bench(study), compact_run(study.first_episode_seed), _cpu_s()
    pending: Sequence[Name] = plan.own_cells(study)
    for name in pending:
        # Read first: settings that do not fit are an error now, not after an hour.
        if is_ready(study, name) and not isinstance(name, TrainingName):
            find_cell(study.cells, name, settings_of(study, name))
    written: list[Path] = []
    with tqdm(total=len(pending), desc="cells", unit="cell", disable=not study.show_progress) as bar:
        while pending:
            put_off: list[Name] = []
            for name in pending:
                if study.stop_after is not None and len(written) >= study.stop_after:
                    return written
                if study.budget_cpu_h is not None and _cpu_s() - started_s >= 3600 * study.budget_cpu_h:
                    return written
                if not is_ready(study, name):
                    put_off.append(name)
                    continue
                bar.set_postfix_str(str(name))
                if (path := _measure(bench, name, run)) is not None:
                    written.append(path)
                bar.update()
            if len(put_off) == len(pending):
                bar.set_postfix_str(f"waiting for what {put_off[0]} needs")
                time.sleep(_POLL_S)
            pending = put_off
    return written


def is_ready(study: StudyWorkcell, name: Name) -> bool:
    """Whether all that a cell needs is there."""
    if isinstance(name, TrainingName):
        return name.training == DEFAULT or is_trained(study, DEFAULT)
    if name.training == EXPERT:
        return True
    if isinstance(name, RetentionName):
        return is_policy(brains(study, name.training)[name.stage])
    return is_trained(study, name.training)


def settings_of(study: StudyWorkcell, name: Name) -> dict[str, Any]:
    """What decides the numbers of a cell that is ready. Of a finished training its weights, which a new one would change."""
    if isinstance(name, TrainingName):
        return {"weights": weights_hash(final(study, name.training))}
    if isinstance(name, RolloutName):
        return rollout_settings(study, name)
    if isinstance(name, RetentionName):
        return retention_settings(study, weights_hash(brains(study, name.training)[name.stage]))
    assert isinstance(name, StreamName)
    return stream_settings(study, name, None if name.training == EXPERT else weights_hash(final(study, name.training)))


def _measure(bench: Bench, name: Name, run: dict[str, Any]) -> Path | None:
    """Write a cell that is ready; None if it is there."""
    study, start_s = bench.study, _cpu_s()
    if isinstance(name, TrainingName) and not is_trained(study, name.training):
        run_training(study, name.training)
    settings = settings_of(study, name)
    if find_cell(study.cells, name, settings) is not None:
        return None
    numbers = _numbers(bench, name)
    return write_cell(study.cells, name, make_cell(name, settings, run, _cpu_s() - start_s, numbers))


def _numbers(bench: Bench, name: Name) -> dict[str, Any]:
    study = bench.study
    if isinstance(name, TrainingName):
        return describe(study, name.training)
    if isinstance(name, RolloutName):
        return rollout_numbers(bench.drive(name))
    if isinstance(name, RetentionName):
        return ask(study, brains(study, name.training)[name.stage])
    return stream_numbers(study, name, None if name.training == EXPERT else bench.policy(name.training))


def _cpu_s() -> float:
    """Of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
