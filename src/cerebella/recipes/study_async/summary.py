"""From cells to the rows of the tables: one row per condition over all training seeds."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cerebella.evaluation.statistics import bootstrap_interval, wilson_interval
from cerebella.recipes.study_async.measures import SEAM_EDGES, UNMOVED
from cerebella.recipes.study_async.methods import METHODS
from cerebella.recipes.study_cells import Cell

Condition = tuple[str, int, int, str, Any, bool]
"""(task, horizon, execute horizon, method, delay, perturbation)."""


@dataclass(frozen=True, eq=False)
class Row:
    """One condition. Means are over the seeds' cells; `None` where nothing can be said.

    Args:
        seeds: of training, one run each. successes: bool per episode, by seed.
        rate, low, high: success over all episodes, with its Wilson 95 % interval. seed_rates: per training seed.
        throughput_per_min, idle_share, seam_p50, jerk_m_s3, age_ticks: means. seam_p95: from the pooled histogram.
        seam_counts: hand-overs per bin of `SEAM_EDGES`.
        reactions: ticks, of all disturbed episodes that reacted. num_unmoved: episodes that never did.
        retention: rate / rate without delay of the same method and condition.
        cpu_s: of all its cells.
    """

    task: str
    horizon: int
    execute_horizon: int
    method: str
    delay: int | str
    perturbation: bool
    seeds: tuple[int, ...]
    successes: Mapping[int, np.ndarray]
    rate: float
    low: float
    high: float
    seed_rates: tuple[float, ...]
    throughput_per_min: float | None
    idle_share: float | None
    seam_p50: float | None
    seam_p95: float | None
    seam_counts: np.ndarray
    jerk_m_s3: float | None
    age_ticks: float | None
    late_share: float | None
    untrained_share: float | None
    reactions: tuple[int, ...]
    num_unmoved: int
    retention: float | None
    cpu_s: float

    @property
    def condition(self) -> Condition:
        """What it is, as a key."""
        return self.task, self.horizon, self.execute_horizon, self.method, self.delay, self.perturbation

    @property
    def num_episodes(self) -> int:
        """Of all seeds."""
        return sum(len(each) for each in self.successes.values())

    @property
    def is_main(self) -> bool:
        """Half of the chunk is executed, as in all tables but that of the execute horizons."""
        return 2 * self.execute_horizon == self.horizon


def summarise(cells: Iterable[Cell]) -> list[Row]:
    """Rows of all rollout cells, in the order of tasks, horizons, methods and delays."""
    groups: dict[Condition, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell["kind"] == "rollout":
            groups[_condition(cell["name"])].append(cell)
    rows = [_row(condition, sorted(group, key=lambda c: c["name"]["seed"])) for condition, group in groups.items()]
    by_condition = {row.condition: row for row in rows}
    return sorted((_with_retention(row, by_condition) for row in rows), key=_place)


def area(
    rows: Sequence[Row], task: str, horizon: int, method: str, perturbation: bool
) -> tuple[float, float, float] | None:
    """(AUC, low, high): the mean success over the constant delays, trapezium rule, over that of `sync` without delay.

    The interval is a bootstrap over episodes (each with all its delays, seeds pooled; the denominator is held fixed). None
    unless there are two delays or more, delay 0 among those of `sync`, and the same episodes under every delay.
    """
    chosen = [r for r in rows if (r.task, r.horizon, r.perturbation) == (task, horizon, perturbation) and r.is_main]
    mine = {int(r.delay): r for r in chosen if r.method == method and isinstance(r.delay, int)}
    first = next((r.rate for r in chosen if r.method == "sync" and r.delay == 0), None)
    if len(mine) < 2 or not first or len({r.seeds for r in mine.values()}) != 1:
        return None
    delays = np.array(sorted(mine))
    table = np.stack([np.concatenate(list(mine[d].successes.values())) for d in delays.tolist()]).astype(np.float64)
    widths = np.diff(delays)[:, None]
    areas = ((table[1:] + table[:-1]) / 2 * widths).sum(axis=0) / widths.sum() / first
    low, high = bootstrap_interval(areas, lambda values: float(values.mean()))
    return float(areas.mean()), low, high


def average(rows: Sequence[Row], choose: Callable[[Row], bool]) -> tuple[float, float, float] | None:
    """(mean, low, high): success over the chosen rows, all episodes pooled, with the Wilson 95 % interval; None without any."""
    chosen = [row for row in rows if choose(row)]
    if not chosen:
        return None
    num = sum(row.num_episodes for row in chosen)
    num_successes = sum(int(each.sum()) for row in chosen for each in row.successes.values())
    return num_successes / num, *wilson_interval(num_successes, num)


def _condition(name: Mapping[str, Any]) -> Condition:
    task, horizon, execute_horizon = name["task"], name["horizon"], name["execute_horizon"]
    return task, horizon, execute_horizon, name["method"], name["delay"], name["perturbation"]


def _row(condition: Condition, cells: Sequence[Cell]) -> Row:
    numbers = [cell["numbers"] for cell in cells]
    successes = {cell["name"]["seed"]: _bits(cell["numbers"]["success"]) for cell in cells}
    pooled = np.concatenate(list(successes.values()))
    low, high = wilson_interval(int(pooled.sum()), len(pooled))
    reactions = [ticks for each in numbers for ticks in each.get("reaction_ticks", ())]
    counts = np.sum([each["seam_counts"] for each in numbers], axis=0)
    asked = sum(each["requests"]["asked"] for each in numbers)
    return Row(
        *condition,
        seeds=tuple(successes),
        successes=successes,
        rate=float(pooled.mean()),
        low=low,
        high=high,
        seed_rates=tuple(float(each.mean()) for each in successes.values()),
        throughput_per_min=_mean(numbers, "throughput_per_min"),
        idle_share=_mean(numbers, "idle_share"),
        seam_p50=_mean(numbers, "seam_p50"),
        seam_p95=histogram_quantile(counts, 0.95),
        seam_counts=counts,
        jerk_m_s3=_mean(numbers, "jerk_m_s3"),
        age_ticks=_mean(numbers, "age_ticks"),
        late_share=sum(each["requests"]["late"] for each in numbers) / asked if asked else None,
        untrained_share=sum(each["requests"]["untrained"] for each in numbers) / asked if asked else None,
        reactions=tuple(ticks for ticks in reactions if ticks >= 0),
        num_unmoved=reactions.count(UNMOVED),
        retention=None,
        cpu_s=sum(cell["cpu_s"] for cell in cells),
    )


def histogram_quantile(counts: np.ndarray, share: float) -> float | None:
    """The ratio that this share of the hand-overs does not exceed, geometric within a bin of `SEAM_EDGES`; None without any."""
    total = counts.sum()
    if not total:
        return None
    below = np.concatenate([[0], np.cumsum(counts)]) / total
    bin_ = int(np.searchsorted(below, share, side="left")) - 1
    inside = (share - below[bin_]) / (below[bin_ + 1] - below[bin_])
    return float(SEAM_EDGES[bin_] * (SEAM_EDGES[bin_ + 1] / SEAM_EDGES[bin_]) ** inside)


def _with_retention(row: Row, by_condition: Mapping[Condition, Row]) -> Row:
    first = by_condition.get((*row.condition[:4], 0, row.perturbation))
    if first is None or not first.rate or first.seeds != row.seeds:
        return row
    return Row(**{**vars(row), "retention": row.rate / first.rate})


def _place(row: Row) -> tuple[Any, ...]:
    delay = row.delay if isinstance(row.delay, int) else 1000
    return row.horizon, row.task, row.execute_horizon, list(METHODS).index(row.method), row.perturbation, delay


def _bits(text: str) -> np.ndarray:
    return np.array([digit == "1" for digit in text])


def _mean(numbers: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [each[name] for each in numbers if each[name] is not None]
    return float(np.mean(known)) if known else None
