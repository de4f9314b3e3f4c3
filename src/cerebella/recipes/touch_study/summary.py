"""From rows to the numbers of the page: rates with their intervals, errors, refusals by reason. See `trials` for a row.

A trial succeeds at a grade if the loop has not refused (nor the simulation failed) and the error at the end is within both
limits. The paper counts the first step under the grade, whatever comes after; that is `at_any_step`, refusals are failures
there too.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cerebella.evaluation.statistics import bootstrap_interval, wilson_interval
from cerebella.geometry import Array
from cerebella.recipes.touch_study.trials import UNSTABLE, Row
from cerebella.touch.objects import KINDS, shape_of

GRADES: Mapping[str, tuple[float, float]] = {
    "10 deg / 10 mm": (10.0, 10.0),
    "5 deg / 10 mm": (5.0, 10.0),
    "5 deg / 5 mm": (5.0, 5.0),
    "1 deg / 1 mm": (1.0, 1.0),
}
"""Name -> (degrees, millimetres). The first three are the paper's; the last is ours."""
STRICT = "5 deg / 5 mm"
"""The strictest grade of the paper."""
MIN_RESAMPLED = 10


@dataclass(frozen=True)
class Rate:
    """`num` of `num_trials`, with its Wilson 95 % interval, shares 0..1; (0, 1) without trials."""

    num: int
    num_trials: int
    low: float
    high: float

    @classmethod
    def of(cls, flags: Iterable[bool]) -> "Rate":
        """Count."""
        values = list(flags)
        return cls(sum(values), len(values), *wilson_interval(sum(values), len(values)))

    @property
    def share(self) -> float | None:
        """0..1; None without trials."""
        return self.num / self.num_trials if self.num_trials else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "successes": self.num,
            "trials": self.num_trials,
            "rate": self.share,
            "low": self.low,
            "high": self.high,
        }


@dataclass(frozen=True)
class Spread:
    """Of `num` errors: mean, median, 90 % quantile; 95 % bootstrap interval of the mean, None below `MIN_RESAMPLED` errors,
    of which a bootstrap would make too narrow a one.
    """

    num: int
    mean: float
    low: float | None
    high: float | None
    median: float
    p90: float

    @classmethod
    def of(cls, values: Array) -> "Spread | None":
        """None without errors."""
        if not len(values):
            return None
        low, high = None, None
        if len(values) >= MIN_RESAMPLED:
            low, high = bootstrap_interval(values, lambda x: float(x.mean()), seed=zlib.crc32(values.tobytes()))
        return cls(
            len(values), float(values.mean()), low, high, float(np.median(values)), float(np.quantile(values, 0.9))
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {name: getattr(self, name) for name in ("num", "mean", "low", "high", "median", "p90")}


@dataclass(frozen=True)
class Summary:
    """What some trials say together.

    Args:
        at_end, at_any_step, at_start: success per grade: where the loop ended, at any of its closed hands (the paper's way of
            counting), and before it (no refusal possible).
        start_mm, start_deg, end_mm, end_deg: errors of all trials, refused ones as they were left.
        answered_mm, answered_deg: errors at the end of those that were not refused.
        refused: problem -> how often. num_unstable: simulations that failed.
        num_went_back, mean_moves: of the loop. num_redrawn: goals and starts that were no grasp.
        way_mm, way_deg: the farthest that a wrist was from where it started.
    """

    num_trials: int
    at_end: Mapping[str, Rate]
    at_any_step: Mapping[str, Rate]
    at_start: Mapping[str, Rate]
    start_mm: Spread | None
    start_deg: Spread | None
    end_mm: Spread | None
    end_deg: Spread | None
    answered_mm: Spread | None
    answered_deg: Spread | None
    refused: Mapping[str, int]
    num_unstable: int
    num_went_back: int
    mean_moves: float | None
    num_redrawn: int
    way_mm: float
    way_deg: float

    @property
    def num_refused(self) -> int:
        """For any reason."""
        return sum(self.refused.values())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Mapping):
                plain[name] = {k: v.to_json() if isinstance(v, Rate) else v for k, v in value.items()}
            else:
                plain[name] = value.to_json() if isinstance(value, Spread) else value
        return plain


def summarise(rows: Sequence[Row]) -> Summary:
    """See `Summary`; rows of trials or of disturbances."""
    starts, ends = (errors_of(rows, name) for name in ("start", "end"))
    answered = ends[[is_answered(row) for row in rows]] if rows else ends
    refused = Counter(row["problem"] for row in rows if row["outcome"] == "refused")
    ways = errors_of(rows, "way")
    return Summary(
        num_trials=len(rows),
        at_end={grade: Rate.of(is_success(row, grade) for row in rows) for grade in GRADES},
        at_any_step={grade: Rate.of(first_step(row, grade) is not None for row in rows) for grade in GRADES},
        at_start={grade: Rate.of(is_within(row["start"], grade) for row in rows) for grade in GRADES},
        start_mm=Spread.of(starts[:, 0]),
        start_deg=Spread.of(starts[:, 1]),
        end_mm=Spread.of(ends[:, 0]),
        end_deg=Spread.of(ends[:, 1]),
        answered_mm=Spread.of(answered[:, 0]),
        answered_deg=Spread.of(answered[:, 1]),
        refused=dict(refused.most_common()),
        num_unstable=sum(row["outcome"] == UNSTABLE for row in rows),
        num_went_back=sum(row["went_back"] for row in rows),
        mean_moves=float(np.mean([row["moves"] for row in rows])) if rows else None,
        num_redrawn=sum(row.get("redrawn", 0) for row in rows),
        way_mm=float(ways[:, 0].max()) if rows else 0.0,
        way_deg=float(ways[:, 1].max()) if rows else 0.0,
    )


def is_answered(row: Row) -> bool:
    """Neither refused nor lost by the simulation."""
    return row["outcome"] not in ("refused", UNSTABLE)


def is_within(error: Sequence[int], grade: str) -> bool:
    """Whether [micrometres, millidegrees] are within a grade; at the limit is within."""
    degrees, millimetres = GRADES[grade]
    return error[0] <= 1e3 * millimetres and error[1] <= 1e3 * degrees


def is_success(row: Row, grade: str) -> bool:
    """At the end of the loop."""
    return is_answered(row) and is_within(row["end"], grade)


def first_step(row: Row, grade: str) -> int | None:
    """After how many moves the error was within a grade for the first time, 0 at the start; None if never, or refused."""
    if not is_answered(row):
        return None
    return next((k for k, error in enumerate([*row["errors"], row["end"]]) if is_within(error, grade)), None)


def errors_of(rows: Sequence[Row], name: str) -> Array:
    """`start`, `end` or `way` of some rows: float64[n, 2], millimetres and degrees."""
    return np.array([row[name] for row in rows], dtype=np.float64).reshape(-1, 2) / 1e3


def errors_by_step(rows: Sequence[Row], num_steps: int) -> Array:
    """float64[n, num_steps + 1, 2]: millimetres and degrees before any move and after each; a loop that ended early keeps
    where it ended.
    """
    table = []
    for row in rows:
        errors = [*row["errors"], row["end"]]
        taken = errors[:num_steps]
        table.append([*taken, *[row["end"]] * (num_steps + 1 - len(taken))])
    return np.array(table, dtype=np.float64).reshape(-1, num_steps + 1, 2) / 1e3


def by_kind(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of every class that has some."""
    found = {kind: [row for row in rows if shape_of(row["object"]).kind == kind] for kind in KINDS}
    return {kind: mine for kind, mine in found.items() if mine}


def by_object(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of every object, in the order of the rows."""
    return {
        name: [row for row in rows if row["object"] == name] for name in dict.fromkeys(row["object"] for row in rows)
    }


def disturbances(rows: Sequence[Row]) -> list[Row]:
    """The rows of a disturbance cell as rows of trials: one per push, with its object."""
    return [{"object": row["object"], **each} for row in rows for each in row["disturbances"]]
