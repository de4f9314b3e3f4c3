"""The tables of the page, as Markdown."""

from collections.abc import Iterable, Sequence

import numpy as np

from cerebella.recipes.study_async.comparisons import QUESTIONS, Comparison
from cerebella.recipes.study_async.methods import METHODS
from cerebella.recipes.study_async.recipe import BURST
from cerebella.recipes.study_async.summary import Row, area, average
from cerebella.recipes.study_async.trap_summary import Estimate, TrapRow

NOTHING = "-"
CONTROL_HZ = 30
"""Of every task of the suite."""


def methods_table(names: Iterable[str]) -> str:
    """Who is who."""
    rows = [[f"`{m.name}`", f"`{m.mode}`", f"`{m.variant}`", m.title] for m in (METHODS[name] for name in names)]
    return table(["method", "mode", "training", "what it is"], rows)


def overall_table(rows: Sequence[Row], horizon: int, middle_delay: int) -> str:
    """A line per method, all tasks pooled, undisturbed and disturbed together."""
    chosen = [row for row in rows if row.horizon == horizon and row.is_main]
    delays = _delays(chosen)
    head = ["method", *(f"success, {_at(delay)}" for delay in delays)]
    head += ["AUC", f"solved/min, d = {middle_delay}", "idle", "seam p95", "jerk", "runs", "episodes"]
    lines = []
    for method in _methods(chosen):
        mine = [row for row in chosen if row.method == method]
        middle = [row for row in mine if row.delay == middle_delay]
        areas = [
            found[0]
            for task in dict.fromkeys(row.task for row in mine)
            for perturbation in (False, True)
            if (found := area(rows, task, horizon, method, perturbation))
        ]
        lines.append(
            [
                f"`{method}`",
                *(_rate(average(mine, lambda row, delay=delay: row.delay == delay)) for delay in delays),
                f"{np.mean(areas):.2f}" if areas else NOTHING,
                _mean([row.throughput_per_min for row in middle], 1),
                _mean([100 * row.idle_share for row in middle if row.idle_share is not None], 0, " %"),
                _mean([row.seam_p95 for row in middle], 1),
                _mean([row.jerk_m_s3 for row in middle], 0),
                str(sum(len(row.seeds) for row in mine)),
                str(sum(row.num_episodes for row in mine)),
            ]
        )
    return table(head, lines)


def task_table(rows: Sequence[Row], horizon: int, task: str, perturbation: bool) -> str:
    """A line per method, a column per delay: success in % (95 % Wilson), then what happens between delays."""
    chosen = [r for r in rows if (r.horizon, r.task, r.perturbation) == (horizon, task, perturbation) and r.is_main]
    delays = _delays(chosen)
    last = max((delay for delay in delays if isinstance(delay, int)), default=0)
    head = ["method", *(_at(delay) for delay in delays), f"retention, d = {last}", "AUC", "seeds", "spread of seeds"]
    lines = []
    for method in _methods(chosen):
        mine = {row.delay: row for row in chosen if row.method == method}
        found = area(rows, task, horizon, method, perturbation)
        spreads = [max(row.seed_rates) - min(row.seed_rates) for row in mine.values() if len(row.seed_rates) > 1]
        lines.append(
            [
                f"`{method}`",
                *(_rate((mine[d].rate, mine[d].low, mine[d].high) if d in mine else None) for d in delays),
                f"{mine[last].retention:.2f}" if last in mine and mine[last].retention is not None else NOTHING,
                f"{found[0]:.2f} ({found[1]:.2f} .. {found[2]:.2f})" if found else NOTHING,
                str(max(len(row.seeds) for row in mine.values())),
                f"{100 * np.mean(spreads):.0f}" if spreads else NOTHING,
            ]
        )
    return table(head, lines)


def execute_horizon_table(rows: Sequence[Row], horizon: int, methods: Sequence[str], delays: Sequence[int]) -> str:
    """A line per method and execute horizon, all tasks pooled; empty with fewer than two execute horizons.

    Of the undelayed cells, which exist for half a chunk only, nothing is shown.
    """
    chosen = [r for r in rows if r.horizon == horizon and r.method in methods and r.delay in delays]
    lengths = sorted({row.execute_horizon for row in chosen})
    if len(lengths) < 2:
        return ""
    head = ["method", "s", "questions/s", *(f"success, {_at(delay)}" for delay in delays)]
    head += [*(f"jerk, {_at(delay)}" for delay in delays), "episodes"]
    lines = []
    for method in (method for method in methods if any(row.method == method for row in chosen)):
        for length in lengths:
            mine = [row for row in chosen if (row.method, row.execute_horizon) == (method, length)]
            jerks = [[row.jerk_m_s3 for row in mine if row.delay == delay] for delay in delays]
            lines.append(
                [
                    f"`{method}`",
                    str(length),
                    f"{CONTROL_HZ / length:.1f}",
                    *(_rate(average(mine, lambda row, delay=delay: row.delay == delay)) for delay in delays),
                    *(_mean(each, 0) for each in jerks),
                    str(sum(row.num_episodes for row in mine)),
                ]
            )
    return table(head, lines)


def reaction_table(rows: Sequence[Row], horizon: int) -> str:
    """Mean reaction in ticks, disturbed episodes of all tasks; in brackets the share of pairs that never parted."""
    chosen = [row for row in rows if row.horizon == horizon and row.is_main and row.perturbation]
    delays = _delays(chosen)
    lines = []
    for method in _methods(chosen):
        line = [f"`{method}`"]
        for delay in delays:
            mine = [row for row in chosen if row.method == method and row.delay == delay]
            ticks = [t for row in mine for t in row.reactions]
            unmoved = sum(row.num_unmoved for row in mine)
            line.append(f"{np.mean(ticks):.1f} ({100 * unmoved / (unmoved + len(ticks)):.0f} %)" if ticks else NOTHING)
        lines.append(line)
    return table(["method", *(_at(delay) for delay in delays)], lines)


def comparison_table(found: Sequence[Comparison], horizon: int) -> str:
    """The overall differences, all tasks together and per task, in points of success."""
    tasks = ["all", *sorted({each.task for each in found if each.task != "all"})]
    by_key = {(each.method, each.against, each.task): each for each in found if each.horizon == horizon}
    head = ["question", *tasks, "p (Holm), all", "all, over trainings", "all, per seed"]
    lines = []
    for method, against in QUESTIONS:
        together = by_key.get((method, against, "all"))
        if together is None:
            continue
        line = [f"`{method}` - `{against}`"]
        for task in tasks:
            each = by_key.get((method, against, task))
            star = " *" if each is not None and each.p_holm < 0.05 else ""
            line.append(f"{_points(each.difference, each.low, each.high)}{star}" if each is not None else NOTHING)
        line.append(f"{together.p_value:.2g} ({together.p_holm:.2g})")
        low, high = together.training_low, together.training_high
        line.append(NOTHING if low is None or high is None else f"{100 * low:+.1f} .. {100 * high:+.1f}")
        line.append(" ".join(f"{100 * value:+.1f}" for value in together.seed_differences))
        lines.append(line)
    return table(head, lines)


def trap_table(rows: Sequence[TrapRow], horizon: int, delay: int) -> str:
    """Copied share and errors per task, and what each method does more than `clean`."""
    head = ["task", "method", "copied, %", "more than `clean`: over windows", "over seeds", "error, mm"]
    head += ["more than `clean`: over windows", "over seeds", "error without a conflict, mm", "seeds"]
    lines = []
    for row in (row for row in rows if (row.horizon, row.delay) == (horizon, delay)):
        copied, error = row.effects.get("copied"), row.effects.get("error_mm")
        lines.append(
            [
                row.task,
                f"`{row.method}`",
                f"{100 * row.values['copied'].mean:.0f}",
                *_effect(copied, 100.0, 1),
                f"{row.values['error_mm'].mean:.1f}",
                *_effect(error, 1.0, 2),
                f"{row.values['control_mm'].mean:.1f}",
                str(len(row.seeds)),
            ]
        )
    return table(head, lines)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]
    return "\n".join(rows) + "\n"


def _effect(estimate: Estimate | None, scale: float, digits: int) -> list[str]:
    if estimate is None:
        return [NOTHING, NOTHING]
    mean, low, high = (scale * value for value in (estimate.mean, estimate.low, estimate.high))
    over_windows = f"{mean:+.{digits}f} ({low:+.{digits}f} .. {high:+.{digits}f})"
    if estimate.seed_low is None or estimate.seed_high is None:
        return [over_windows, NOTHING]
    return [over_windows, f"{scale * estimate.seed_low:+.{digits}f} .. {scale * estimate.seed_high:+.{digits}f}"]


def _points(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:+.1f} ({100 * low:+.1f} .. {100 * high:+.1f})"


def _rate(value: tuple[float, float, float] | None) -> str:
    if value is None:
        return NOTHING
    rate, low, high = (100 * each for each in value)
    return f"{rate:.0f} ({low:.0f}..{high:.0f})"


def _mean(values: Sequence[float | None], digits: int, unit: str = "") -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.{digits}f}{unit}" if known else NOTHING


def _at(delay: int | str) -> str:
    return f"d = {delay}" if isinstance(delay, int) else delay


def _methods(rows: Sequence[Row]) -> list[str]:
    there = {row.method for row in rows}
    return [name for name in METHODS if name in there]


def _delays(rows: Sequence[Row]) -> list[int | str]:
    constant: list[int | str] = [*sorted({row.delay for row in rows if isinstance(row.delay, int)})]
    return [*constant, *([BURST] if any(row.delay == BURST for row in rows) else [])]
