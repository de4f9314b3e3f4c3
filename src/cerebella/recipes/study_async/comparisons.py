"""Is a trick better than without it? Paired by episode, corrected for the number of questions.

Three questions: each trick against `clean` (what does it add to clean prefixes?), training with prefixes against `naive` (what do
prefixes add?), and the default against training-time real-time chunking with the same promise (`clean_exact`). Each is asked twice:

    in detail   per task, delay and perturbation: McNemar's exact test on all pairs of episodes (same training seed, same
                episode), with the Agresti-Min interval. Family for Holm's correction: all tests of this question at one
                horizon.
    overall     the mean over delays from 2 on, the burst included, calm and disturbed: one number per training seed,
                task and episode, so that the conditions of one episode are not counted as independent; bootstrap interval
                and sign-flip test over these. Family: all methods of one question at one horizon, over all tasks together
                or per task.

Both treat the trained policies as given. How much the answer moves from training to training is said by
`seed_differences`, and by the interval of Student's t over the trainings (task and seed), which is the one to believe for a
new policy.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cerebella.evaluation.statistics import bootstrap_interval, compare_paired, holm, sign_flip_test, student_interval
from cerebella.recipes.study_async.methods import TRICKS
from cerebella.recipes.study_async.summary import Row

QUESTIONS: tuple[tuple[str, str], ...] = (
    *((method, "naive") for method in ("clean", "all", "stale", "stale_exact", "band_stale_exact")),
    *((trick, "clean") for trick in TRICKS),
    ("band_stale_exact", "clean_exact"),
)
"""(method, what it is compared with)."""


@dataclass(frozen=True)
class Comparison:
    """`difference` = success of `method` - success of `against` on the same episodes, with a 95 % interval.

    Args:
        task: `all` for all of them together. delay, perturbation: None for the mean over them.
        num_units: pairs of episodes, or episodes with all their conditions.
        p_value, p_holm: alone, and in its family. seed_differences: per training seed.
        training_low, training_high: 95 % over trainings, one value per task and seed; None below two.
    """

    method: str
    against: str
    task: str
    horizon: int
    delay: int | str | None
    perturbation: bool | None
    num_units: int
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    seed_differences: tuple[float, ...]
    training_low: float | None
    training_high: float | None


def in_detail(rows: Sequence[Row]) -> list[Comparison]:
    """Every task, delay and perturbation in which both methods have run with the same seeds."""
    by_condition = {row.condition: row for row in rows if row.is_main}
    found = []
    for method, against in QUESTIONS:
        for row in (row for row in by_condition.values() if row.method == method):
            other = by_condition.get((*row.condition[:3], against, *row.condition[4:]))
            if other is None or not (seeds := _common(row, other)):
                continue
            first, second = (np.concatenate([each.successes[seed] for seed in seeds]) for each in (row, other))
            paired = compare_paired(first.tolist(), second.tolist())
            by_seed = tuple(float(row.successes[s].mean() - other.successes[s].mean()) for s in seeds)
            found.append(
                Comparison(
                    *(method, against, row.task, row.horizon, row.delay, row.perturbation, paired.num_pairs),
                    *(paired.difference, paired.low, paired.high, paired.p_value, paired.p_value),
                    by_seed,
                    *(student_interval(by_seed) or (None, None)),
                )
            )
    return _corrected(found)


def overall(rows: Sequence[Row]) -> list[Comparison]:
    """Per task, and over all tasks together (`all`)."""
    units: dict[tuple[Any, ...], dict[tuple[Any, ...], list[float]]] = defaultdict(lambda: defaultdict(list))
    by_condition = {row.condition: row for row in rows if row.is_main}
    for method, against in QUESTIONS:
        for row in (row for row in by_condition.values() if row.method == method and _counts(row)):
            other = by_condition.get((*row.condition[:3], against, *row.condition[4:]))
            for seed in _common(row, other) if other is not None else ():
                assert other is not None
                difference = row.successes[seed].astype(np.float64) - other.successes[seed]
                for episode, value in enumerate(difference.tolist()):
                    for task in (row.task, "all"):
                        units[method, against, task, row.horizon][seed, row.task, episode].append(value)
    found = []
    for (method, against, task, horizon), values in units.items():
        means = {unit: float(np.mean(each)) for unit, each in values.items()}
        array = np.array(list(means.values()))
        low, high = bootstrap_interval(array, lambda x: float(x.mean()))
        p_value = sign_flip_test(array)
        seeds = sorted({unit[0] for unit in means})
        by_seed = tuple(float(np.mean([v for unit, v in means.items() if unit[0] == seed])) for seed in seeds)
        trainings = [
            np.mean([v for u, v in means.items() if u[:2] == one]) for one in dict.fromkeys(u[:2] for u in means)
        ]
        found.append(
            Comparison(
                *(method, against, task, horizon, None, None, len(array), float(array.mean())),
                *(low, high, p_value, p_value, by_seed, *(student_interval(trainings) or (None, None))),
            )
        )
    together = _corrected([each for each in found if each.task == "all"])
    return [*together, *_corrected([each for each in found if each.task != "all"])]


def _counts(row: Row) -> bool:
    return not isinstance(row.delay, int) or row.delay >= 2


def _common(row: Row, other: Row) -> list[int]:
    """Training seeds that both have, with equally many episodes."""
    return [
        seed for seed in row.seeds if seed in other.successes and len(row.successes[seed]) == len(other.successes[seed])
    ]


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """With `p_holm` over the families: the same question (against `clean`, or against `naive`) and horizon."""
    families: dict[tuple[str, int], list[int]] = defaultdict(list)
    for i, each in enumerate(found):
        families[each.against, each.horizon].append(i)
    adjusted = [each.p_value for each in found]
    for members in families.values():
        for i, p in zip(members, holm([found[i].p_value for i in members]), strict=True):
            adjusted[i] = p
    return [replace(each, p_holm=p) for each, p in zip(found, adjusted, strict=True)]
