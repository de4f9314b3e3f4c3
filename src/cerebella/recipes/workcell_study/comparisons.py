"""The claims as questions: who does better on the same episodes, and is it more than chance?

Success: exact McNemar test and Agresti-Min interval, corrected by Holm over all questions at all delays. Parts per minute: bootstrap over
episodes, both of a pair drawn together. Both take the trained policies as given: another training seed may differ by more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cerebella.evaluation.statistics import bootstrap_interval, compare_paired, holm
from cerebella.recipes.study_cells import Cell
from cerebella.recipes.workcell_study.plan import CONTROL_HZ
from cerebella.recipes.workcell_study.summary import Interval, Row, brain_label, brain_rows, right

QUESTIONS: tuple[tuple[tuple[str, str], tuple[str, str], str], ...] = (
    (("default", "prefix"), ("default", "sync"), "moving on while thinking"),
    (("default", "prefix"), ("default", "naive"), "the action prefix"),
    (("default", "prefix"), ("rtc", "prefix"), "mask and weighed errors, over training-time RTC"),
    (("default", "prefix"), ("no_talk", "prefix"), "conversations in the brain stage"),
    (("default", "prefix"), ("no_choice", "prefix"), "the brain stage"),
)
"""(training, mode), what it is compared with, what makes the difference."""


@dataclass(frozen=True)
class Comparison:
    """One question at one delay, ticks: differences `first` - `second` over `num_pairs` common episodes."""

    first: str
    second: str
    what: str
    delay: int
    num_pairs: int
    success: Interval
    p_value: float
    p_holm: float
    parts_per_min: Interval


@dataclass(frozen=True)
class BrainComparison:
    """Share of right answers, `first` - `second`, on the same questions of all families."""

    first: str
    second: str
    num_questions: int
    difference: Interval
    p_value: float
    p_holm: float


def compare(rows: Sequence[Row]) -> list[Comparison]:
    """Every question at every delay at which both sides have driven some episodes."""
    by_condition = {(row.training, row.mode, row.delay): row for row in rows}
    found = []
    for one, other, what in QUESTIONS:
        for delay in sorted({row.delay for row in rows}):
            first, second = by_condition.get((*one, delay)), by_condition.get((*other, delay))
            if first is not None and second is not None and (seeds := sorted(first.episodes.keys() & second.episodes)):
                found.append(_compare(first, second, what, seeds))
    adjusted = holm([each.p_value for each in found])
    return [replace(each, p_holm=p) for each, p in zip(found, adjusted, strict=True)]


def compare_brains(cells: Sequence[Cell]) -> list[BrainComparison]:
    """Every later brain against the warmed-up one, and the brain stages with and without conversations against each other."""
    brains = {(c["name"]["training"], c["name"]["stage"]): c for c in brain_rows(cells)}
    before = next(
        (cell for (training, stage), cell in brains.items() if (training, stage[0]) == ("default", "0")), None
    )
    pairs = [(cell, before) for cell in brains.values() if before is not None and cell is not before]
    with_talk, without = (brains.get((training, "1-pretrain_brain")) for training in ("default", "no_talk"))
    if with_talk is not None and without is not None:
        pairs.append((with_talk, without))
    found = []
    for first, second in pairs:
        one, other = right(first), right(second)
        paired = compare_paired(one, other)
        difference = (paired.difference, paired.low, paired.high)
        labels = brain_label(first), brain_label(second)
        found.append(BrainComparison(*labels, len(one), difference, paired.p_value, paired.p_value))
    adjusted = holm([each.p_value for each in found])
    return [replace(each, p_holm=p) for each, p in zip(found, adjusted, strict=True)]


def _compare(first: Row, second: Row, what: str, seeds: Sequence[int]) -> Comparison:
    solved, also_solved = ([row.episodes[seed].is_success for seed in seeds] for row in (first, second))
    paired = compare_paired(solved, also_solved)
    parts = np.array([row.column("parts", seeds) for row in (first, second)])
    minutes = np.array([row.column("num_ticks", seeds) for row in (first, second)]) / (60.0 * CONTROL_HZ)

    def difference(indices: np.ndarray) -> float:
        chosen = indices.astype(np.int64)
        rates = parts[:, chosen].sum(axis=1) / minutes[:, chosen].sum(axis=1)
        return float(rates[0] - rates[1])

    everything = np.arange(len(seeds))
    throughput = (difference(everything), *bootstrap_interval(everything, difference))
    success = (paired.difference, paired.low, paired.high)
    return Comparison(
        *(first.label, second.label, what, first.delay, len(seeds), success),
        *(paired.p_value, paired.p_value, throughput),
    )
