"""From cells to what the page tells: a row per condition over all its shards, brains, streams."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cerebella.evaluation.statistics import bootstrap_interval, wilson_interval
from cerebella.recipes.study_async.summary import histogram_quantile
from cerebella.recipes.study_cells import Cell
from cerebella.recipes.workcell_study.names import EXPERT, MODES, TRAININGS
from cerebella.recipes.workcell_study.plan import CONTROL_HZ

Interval = tuple[float, float, float]
"""(value, low, high), 95 %."""


@dataclass(frozen=True)
class Outcome:
    """One episode. `parts`: in the right place at its end. `reason`: why it ended."""

    is_success: bool
    num_ticks: int
    parts: int
    reason: str


@dataclass(frozen=True, eq=False)
class Row:
    """One condition.

    Args:
        episodes: by seed. num_ticks: of all of them.
        idle_share, age_ticks: means over time; None where nothing can be said. jerk_m_s3: mean over episodes.
        seam_p50, seam_p95: step at a hand-over over the usual step, from the pooled histogram. num_seams: hand-overs.
        num_asked, num_late: requests.
        cpu_s: of all its cells.
    """

    training: str
    mode: str
    delay: int
    episodes: Mapping[int, Outcome]
    idle_share: float | None
    seam_p50: float | None
    seam_p95: float | None
    num_seams: int
    jerk_m_s3: float | None
    age_ticks: float | None
    num_asked: int
    num_late: int
    cpu_s: float

    @property
    def label(self) -> str:
        """What it is called in tables and pictures."""
        return self.mode if self.training in ("default", EXPERT) else f"{self.training}, {self.mode}"

    @property
    def success(self) -> Interval:
        """Share of the episodes, Wilson."""
        num = sum(outcome.is_success for outcome in self.episodes.values())
        return num / len(self.episodes), *wilson_interval(num, len(self.episodes))

    @property
    def parts_per_min(self) -> Interval:
        """All parts / all minutes, bootstrap over episodes."""
        return ratio_interval(self.column("parts"), self.minutes)

    @property
    def successes_per_min(self) -> Interval:
        """All successes / all minutes, bootstrap over episodes."""
        return ratio_interval(self.column("is_success"), self.minutes)

    @property
    def minutes(self) -> np.ndarray:
        """Per episode."""
        return self.column("num_ticks") / CONTROL_HZ / 60.0

    def column(self, field: str, seeds: Iterable[int] | None = None) -> np.ndarray:
        """A field of `Outcome`, float64, in the order of the seeds; of all episodes unless seeds are given."""
        chosen = sorted(self.episodes) if seeds is None else seeds
        return np.array([float(getattr(self.episodes[seed], field)) for seed in chosen])


def ratio_interval(counts: np.ndarray, minutes: np.ndarray) -> Interval:
    """sum(counts) / sum(minutes), bootstrap over episodes."""

    def ratio(indices: np.ndarray) -> float:
        chosen = indices.astype(np.int64)
        return float(counts[chosen].sum() / max(minutes[chosen].sum(), 1e-9))

    everything = np.arange(len(counts))
    return ratio(everything), *bootstrap_interval(everything, ratio)


def summarise(cells: Iterable[Cell]) -> list[Row]:
    """Rows of all rollout cells: the expert, then trainings, modes and delays in their order.

    Raises:
        ValueError: shards of one condition were driven with different weights.
    """
    groups: dict[tuple[str, str, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell["kind"] == "rollout":
            name = cell["name"]
            groups[name["training"], name["mode"], name["delay"]].append(cell)
    for condition, group in groups.items():
        if len(found := {cell["settings"].get("weights") for cell in group}) > 1:
            raise ValueError(
                f"the cells of {condition} come from different weights: {', '.join(sorted(map(str, found)))}"
            )
    return sorted((_row(*condition, group) for condition, group in groups.items()), key=_place)


def brain_rows(cells: Iterable[Cell]) -> list[Cell]:
    """Retention cells in the order of trainings and stages."""
    found = [cell for cell in cells if cell["kind"] == "retention"]
    return sorted(found, key=lambda c: (list(TRAININGS).index(c["name"]["training"]), c["name"]["stage"]))


def brain_label(cell: Cell) -> str:
    """E.g. `1-pretrain_brain`, `no_talk: 1-pretrain_brain`."""
    name = cell["name"]
    return name["stage"] if name["training"] == "default" else f"{name['training']}: {name['stage']}"


def right(cell: Cell, family: str | None = None) -> list[bool]:
    """Which questions of a family, or of all, a brain answered right, in their order."""
    families = cell["numbers"]["families"]
    names = sorted(families) if family is None else [family]
    return [digit == "1" for name in names for digit in families[name]["right"]]


def _row(training: str, mode: str, delay: int, cells: Sequence[Cell]) -> Row:
    numbers = [cell["numbers"] for cell in cells]
    episodes = {seed: outcome for cell in cells for seed, outcome in _outcomes(cell)}
    counts = np.sum([each["seam_counts"] for each in numbers], axis=0)
    weights = np.array([sum(each["ticks"]) for each in numbers], dtype=np.float64)
    return Row(
        training,
        mode,
        delay,
        episodes=dict(sorted(episodes.items())),
        idle_share=_mean(numbers, "idle_share", weights),
        seam_p50=histogram_quantile(counts, 0.5),
        seam_p95=histogram_quantile(counts, 0.95),
        num_seams=int(counts.sum()),
        jerk_m_s3=_mean(numbers, "jerk_m_s3", np.array([float(len(each["ticks"])) for each in numbers])),
        age_ticks=_mean(numbers, "age_ticks", weights),
        num_asked=sum(each["requests"]["asked"] for each in numbers),
        num_late=sum(each["requests"]["late"] for each in numbers),
        cpu_s=sum(cell["cpu_s"] for cell in cells),
    )


def _outcomes(cell: Cell) -> Iterable[tuple[int, Outcome]]:
    numbers, first = cell["numbers"], cell["settings"]["first_seed"]
    rows = zip(numbers["success"], numbers["ticks"], numbers["parts"], numbers["reason_codes"], strict=True)
    for index, (success, num_ticks, parts, code) in enumerate(rows):
        reason = numbers["reasons"][ord(code) - ord("a")]
        yield first + index, Outcome(success == "1", num_ticks, parts, reason)


def _mean(numbers: Sequence[Mapping[str, Any]], name: str, weights: np.ndarray) -> float | None:
    known = [(each[name], weight) for each, weight in zip(numbers, weights, strict=True) if each[name] is not None]
    if not known:
        return None
    values, chosen = np.array(known).T
    return float(np.average(values, weights=chosen))


def _place(row: Row) -> tuple[int, int, int]:
    if row.training == EXPERT:
        return -1, 0, 0
    return list(TRAININGS).index(row.training), MODES.index(row.mode), row.delay
