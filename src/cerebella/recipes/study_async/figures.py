"""The pictures of the page. Each function takes rows of the summary and returns a Matplotlib `Figure`, or None without rows."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cerebella.evaluation.metrics import SEAM_LIMIT, reaction_law
from cerebella.recipes.study_async.measures import SEAM_EDGES
from cerebella.recipes.study_async.methods import GROUPS, METHODS
from cerebella.recipes.study_async.recipe import BURST
from cerebella.recipes.study_async.summary import Row
from cerebella.runtime.chunks import clamp_delay

INK, GREY = "#1c2026", "#9aa3ad"
COLOURS = {
    "sync": "#7b8794",
    "naive": "#d9822b",
    "ensemble": "#b45309",
    "guided": "#7c3aed",
    "guided_identity": "#c084fc",
    "best_of_n": "#be185d",
    "clean": "#0f766e",
    "offset": "#65a30d",
    "band": "#2563eb",
    "lambda": "#0ea5e9",
    "hide": "#a16207",
    "reweight": "#e11d48",
    "all": "#111827",
    "released": "#6366f1",
    "stale": "#16a34a",
    "all_stale": "#dc2626",
    "roll_forward": "#d946ef",
    "clean_exact": "#0f766e",
    "stale_exact": "#16a34a",
    "band_stale_exact": "#2563eb",
}
_DASHED = (
    "sync",
    "guided_identity",
    "offset",
    "hide",
    "reweight",
    "released",
    "roll_forward",
    "clean_exact",
    "stale_exact",
    "band_stale_exact",
)
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b8bec6",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.8,
    "xtick.color": "#5b646e",
    "ytick.color": "#5b646e",
    "text.color": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
_BURST_GAP = 2.0


def delay_curves(rows: Sequence[Row], horizon: int, group: str) -> Figure | None:
    """Success against delay with Wilson bands: a column per task, undisturbed above, disturbed below; bursts on the right."""
    chosen = [r for r in rows if r.horizon == horizon and r.is_main and r.method in GROUPS[group]]
    if not chosen:
        return None
    tasks = _tasks(chosen)
    delays = sorted({r.delay for r in chosen if isinstance(r.delay, int)})
    burst_x = (delays[-1] if delays else 0) + _BURST_GAP
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.45 * len(tasks) + 0.6, 5.0), layout="constrained")
        grid = figure.subplots(2, len(tasks), sharex=True, sharey=True, squeeze=False)
        for column, task in enumerate(tasks):
            for line, perturbation in enumerate((False, True)):
                axes: Axes = grid[line, column]
                here = [r for r in chosen if r.task == task and r.perturbation == perturbation]
                for method in GROUPS[group]:
                    _draw_curve(axes, [r for r in here if r.method == method], method, burst_x)
                axes.set_ylim(-3, 103)
                bursts = {burst_x: BURST} if any(r.delay == BURST for r in chosen) else {}
                axes.set_xticks([*delays, *bursts], labels=[*(str(d) for d in delays), *bursts.values()])
                if line == 0:
                    axes.set_title(task)
                else:
                    axes.set_xlabel("delay, ticks")
                if column == 0:
                    axes.set_ylabel(f"success, %\n{'disturbed' if perturbation else 'undisturbed'}")
        _legend(figure, [m for m in GROUPS[group] if any(r.method == m for r in chosen)])
        return figure


def seam_histograms(rows: Sequence[Row], horizon: int, group: str, delays: Sequence[int]) -> Figure | None:
    """Hand-overs by their step / the usual step, undisturbed episodes of all tasks: a line per method, a column per delay."""
    chosen = [
        r
        for r in rows
        if r.horizon == horizon and r.is_main and not r.perturbation and r.method in GROUPS[group] and r.delay in delays
    ]
    if not chosen:
        return None
    methods = [m for m in GROUPS[group] if any(r.method == m for r in chosen)]
    middle = np.sqrt(SEAM_EDGES[1:] * SEAM_EDGES[:-1])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(delays) + 1.0, 0.45 * len(methods) + 1.2), layout="constrained")
        for axes, delay in zip(figure.subplots(1, len(delays), squeeze=False)[0], delays, strict=True):
            for place, method in enumerate(reversed(methods)):
                counts = [r.seam_counts for r in chosen if r.method == method and r.delay == delay]
                total = np.sum(counts, axis=0) if counts else np.zeros(len(middle))
                if total.sum():
                    height = 3.2 * total / total.sum()
                    axes.fill_between(middle, place, place + height, color=COLOURS[method], alpha=0.75, linewidth=0)
                    jumps = 100 * total[SEAM_EDGES[:-1] >= SEAM_LIMIT].sum() / total.sum()
                    axes.text(45, place + 0.12, f"{jumps:.0f} %", ha="right", fontsize=8, color=INK)
            axes.axvline(SEAM_LIMIT, color=INK, linestyle=(0, (4, 3)), linewidth=1)
            axes.set_xscale("log")
            axes.set_xlim(0.1, 50)
            axes.set_xticks([0.1, 1, 3, 10, 50], labels=["0.1", "1", "3", "10", "50"])
            axes.set_ylim(-0.1, len(methods) + 0.5)
            is_first = delay == delays[0]
            axes.set_yticks(range(len(methods)), labels=list(reversed(methods)) if is_first else [""] * len(methods))
            axes.grid(axis="y", visible=False)
            axes.set(title=f"delay {delay}", xlabel="step / usual step; right: share above 3")
        return figure


def reaction_times(rows: Sequence[Row], horizon: int, group: str, delays: Sequence[int]) -> Figure | None:
    """Share of the disturbed episodes that have reacted by x ticks, all tasks; dashed: the law of `metrics.reaction_law`."""
    chosen = [
        r
        for r in rows
        if r.horizon == horizon and r.is_main and r.perturbation and r.method in GROUPS[group] and r.delay in delays
    ]
    if not chosen:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(delays) + 0.4, 3.3), layout="constrained")
        for axes, delay in zip(figure.subplots(1, len(delays), sharey=True, squeeze=False)[0], delays, strict=True):
            for method in GROUPS[group]:
                ticks = [t for r in chosen if r.method == method and r.delay == delay for t in r.reactions]
                if ticks:
                    _draw_steps(axes, np.bincount(ticks) / len(ticks), COLOURS[method], _dash(method), 1.6)
            half = horizon // 2
            promised = clamp_delay(delay + 1, half, horizon) if delay else 0
            for law, style in ((reaction_law(delay, half, promised), ":"), (reaction_law(delay, half, 0, True), "--")):
                _draw_steps(axes, law, INK, style, 1.2)
            axes.set(title=f"delay {delay}", xlabel="ticks after the event", xlim=(0, 2.2 * horizon), ylim=(0, 103))
            if delay == delays[0]:
                axes.set_ylabel("% of the runs that reacted")
        laws = [
            Line2D([], [], color=INK, linestyle=":", label="law, asynchronous"),
            Line2D([], [], color=INK, linestyle="--", label="law, sync"),
        ]
        _legend(figure, [m for m in GROUPS[group] if any(r.method == m for r in chosen)], laws)
        return figure


def execute_horizons(rows: Sequence[Row], horizon: int, methods: Sequence[str], delays: Sequence[int]) -> Figure | None:
    """Undisturbed success against the execute horizon with Wilson intervals: a column per task, a line per delay."""
    chosen = [
        r for r in rows if r.horizon == horizon and r.method in methods and r.delay in delays and not r.perturbation
    ]
    horizons = sorted({r.execute_horizon for r in chosen})
    if len(horizons) < 2:
        return None
    tasks = _tasks(chosen)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.45 * len(tasks) + 0.6, 1.9 * len(delays) + 0.6), layout="constrained")
        grid = figure.subplots(len(delays), len(tasks), sharex=True, sharey=True, squeeze=False)
        for column, task in enumerate(tasks):
            for line, delay in enumerate(delays):
                axes: Axes = grid[line, column]
                for method in methods:
                    here = [r for r in chosen if (r.task, r.method, r.delay) == (task, method, delay)]
                    if here:
                        _draw_band(axes, here, [r.execute_horizon for r in here], COLOURS[method], _dash(method))
                axes.set_ylim(-3, 103)
                axes.set_xticks(horizons)
                if line == 0:
                    axes.set_title(task)
                if line == len(delays) - 1:
                    axes.set_xlabel("execute horizon, rows")
                if column == 0:
                    axes.set_ylabel(f"success, %\ndelay {delay}")
        _legend(figure, [m for m in methods if any(r.method == m for r in chosen)])
        return figure


def _draw_curve(axes: Axes, rows: Sequence[Row], method: str, burst_x: float) -> None:
    constant = sorted((r for r in rows if isinstance(r.delay, int)), key=_delay)
    if constant:
        _draw_band(axes, constant, [_delay(r) for r in constant], COLOURS[method], _dash(method))
    for row in rows:
        if row.delay == BURST:
            shift = 0.16 * (list(METHODS).index(method) % 8 - 3.5)
            axes.plot([burst_x + shift] * 2, [100 * row.low, 100 * row.high], color=COLOURS[method], linewidth=1)
            axes.plot(burst_x + shift, 100 * row.rate, "o", color=COLOURS[method], markersize=3.2)


def _draw_band(axes: Axes, rows: Sequence[Row], x: Sequence[float], colour: str, style: Any) -> None:
    order = np.argsort(np.asarray(x))
    at = np.asarray(x, dtype=np.float64)[order]
    rate, low, high = (100 * np.array([getattr(r, name) for r in rows])[order] for name in ("rate", "low", "high"))
    axes.fill_between(at, low, high, color=colour, alpha=0.10, linewidth=0)
    axes.plot(at, rate, color=colour, linestyle=style, linewidth=1.7, marker="o", markersize=3)


def _draw_steps(axes: Axes, shares: np.ndarray, colour: str, style: Any, width: float) -> None:
    total = 100 * np.concatenate([[0.0], np.cumsum(shares)])
    x = np.arange(len(total)) - 1.0
    axes.step([*x, 99.0], [*total, total[-1]], where="post", color=colour, linestyle=style, linewidth=width)


def _legend(figure: Figure, methods: Sequence[str], more: Sequence[Line2D] = ()) -> None:
    handles = [Line2D([], [], color=COLOURS[m], linestyle=_dash(m), linewidth=2, label=m) for m in methods]
    figure.legend(handles=[*handles, *more], loc="outside lower center", ncols=min(8, len(handles) + len(more)))


def _dash(method: str) -> Any:
    return (0, (4, 1.5)) if method in _DASHED else "-"


def _tasks(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.task for row in rows))


def _delay(row: Row) -> int:
    assert isinstance(row.delay, int)
    return row.delay
