"""The pictures of the page. Each function takes rows and returns a Matplotlib `Figure`, or None without rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from cerebella.recipes.study_async.figures import STYLE
from cerebella.recipes.touch_study import paper
from cerebella.recipes.touch_study.summary import (
    GRADES,
    STRICT,
    Rate,
    by_kind,
    by_object,
    errors_by_step,
    is_answered,
    is_success,
)
from cerebella.recipes.touch_study.trials import Row
from cerebella.touch.objects import KINDS

Rows = Sequence[Row]
WORLDS = {"skin": "#0f766e", "spheres": "#b7660f"}
GOALS = {"fixed": "#3b5b92", "random": "#a23b52"}
_PAPER, _PAPER_2, _INK = "#9aa3ad", "#c9cfd6", "#1c2026"
_UNITS = ("mm", "deg")
_SMALLEST = 0.02


def steps(worlds: Mapping[str, Rows], num_steps: int) -> Figure | None:
    """Median and quartiles of the true error after every move: a column per class, a colour per world, logarithmic."""
    if not any(worlds.values()):
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.6), layout="constrained")
        grid = figure.subplots(2, len(KINDS), sharex=True, sharey="row", squeeze=False)
        for column, kind in enumerate(KINDS):
            for world, rows in worlds.items():
                mine = by_kind(rows).get(kind, [])
                errors = errors_by_step(mine, num_steps) if mine else None
                for unit in range(2):
                    if errors is not None:
                        _draw_quartiles(grid[unit, column], errors[..., unit], WORLDS[world])
            grid[0, column].set_title(kind)
            grid[1, column].set_xlabel("wrist moves")
        for axes, unit in zip(grid[:, 0], _UNITS, strict=True):
            axes.set_yscale("log")
            axes.set_ylabel(f"true error, {unit}")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.yaxis.set_minor_locator(NullLocator())
        labels = {w: f"{w}: median and quartiles, {_num(rows)} trials per class" for w, rows in worlds.items() if rows}
        lines = [Line2D([], [], color=WORLDS[world], marker="o", label=label) for world, label in labels.items()]
        figure.legend(handles=lines, loc="outside lower center", ncols=2)
        return figure


def grades(worlds: Mapping[str, Mapping[str, Rows]]) -> Figure | None:
    """Success per grade with 95 % intervals, ours at the end of the loop, beside the paper's: world -> goal -> rows."""
    if not any(rows for goals in worlds.values() for rows in goals.values()):
        return None
    panels = {
        "skin": ("skin; the paper: simulation", [(paper.SIMULATION, _PAPER)]),
        "spheres": (
            "spheres, zero-shot; the paper: hardware",
            [(paper.HARDWARE["fixed"], _PAPER), (paper.HARDWARE["random"], _PAPER_2)],
        ),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.8, 3.4), layout="constrained")
        for axes, (world, (title, reported)) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
            ours = [(f"ours, {goal} goal", GOALS[goal], rows) for goal, rows in worlds[world].items() if rows]
            width = 0.8 / max(len(ours) + len(reported), 1)
            for place, (label, colour, rows) in enumerate(ours):
                rates = [Rate.of(is_success(row, grade) for row in rows) for grade in GRADES]
                values = [(rate.share, (rate.low, rate.high)) for rate in rates]
                _draw_bars(axes, place, width, values, colour, f"{label}, n = {len(rows)}")
            for place, (row, colour) in enumerate(reported, start=len(ours)):
                known = "n not known" if row.num_trials is None else f"n = {row.num_trials}"
                values = [(row.rate(grade), row.interval(grade)) for grade in GRADES]
                _draw_bars(axes, place, width, values, colour, f"paper, {row.goal} goal, {known}")
            labels = [grade.replace(" / ", "\n") for grade in GRADES]
            axes.set_xticks(np.arange(len(GRADES)) + 0.4 - width / 2, labels, fontsize=8)
            axes.set(title=title, ylim=(0, 103))
            axes.grid(axis="x", visible=False)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8)
            if world == "skin":
                axes.set_ylabel("% of trials")
        return figure


def tuning(sizes: Mapping[int, Mapping[str, Rows]]) -> Figure | None:
    """Success at the paper's strictest grade against the number of grasps of the other world: all classes, then each."""
    if len(sizes) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.8, 3.2), layout="constrained")
        for axes, part in zip(figure.subplots(1, 1 + len(KINDS), sharey=True), ("all", *KINDS), strict=True):
            for goal, colour in GOALS.items():
                points = []
                for place, goals in enumerate(sizes.values()):
                    rows = goals.get(goal, [])
                    mine = rows if part == "all" else by_kind(rows).get(part, [])
                    rate = Rate.of(is_success(row, STRICT) for row in mine)
                    if rate.share is not None:
                        points.append((place, rate.share, rate.low, rate.high, len(mine)))
                _draw_points(axes, points, colour, f"{goal} goal", 0.06 if goal == "random" else -0.06)
            axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
            axes.set(title=part, ylim=(-3, 103), xlabel="grasps of the other world")
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), fontsize=8)
            if part == "all":
                axes.set_ylabel(f"% within {STRICT}")
        return figure


def disturbance(rows: Rows) -> Figure | None:
    """One object per class, pushed again and again: error before and after every refinement. `rows`: one per push."""
    shown = {kind: list(by_object(mine).values()) for kind, mine in by_kind(rows).items()}
    traces = {kind: mine[len(mine) // 2] for kind, mine in shown.items()}
    if not traces:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.8, 4.2), layout="constrained")
        grid = figure.subplots(2, len(traces), sharex=True, sharey="row", squeeze=False)
        for column, mine in enumerate(traces.values()):
            x = np.arange(1, len(mine) + 1)
            is_refused = np.array([not is_answered(row) for row in mine])
            for line, unit in enumerate(_UNITS):
                axes: Axes = grid[line, column]
                before, after = (np.array([row[name][line] for row in mine]) / 1e3 for name in ("start", "end"))
                axes.vlines(x, after, before, color="#d5dae0", linewidth=1)
                axes.plot(x, before, "o", color=_PAPER, markersize=3, fillstyle="none")
                axes.plot(x[~is_refused], after[~is_refused], "o", color=WORLDS["skin"], markersize=3.4)
                axes.plot(x[is_refused], after[is_refused], "x", color=GOALS["random"], markersize=5)
                axes.axhline(5, color=_INK, linestyle=(0, (4, 3)), linewidth=0.9)
                if line == 0:
                    axes.set_title(mine[0]["object"])
                else:
                    axes.set_xlabel("push")
                if column == 0:
                    axes.set_ylabel(f"true error, {unit}")
        for axes in grid[:, 0]:
            axes.set_ylim(bottom=0)
        figure.legend(handles=_trace_legend(), loc="outside lower center", ncols=4)
        return figure


def _draw_quartiles(axes: Axes, errors: np.ndarray, colour: str) -> None:
    """errors float64[n, steps + 1]."""
    x = np.arange(errors.shape[1])
    low, middle, high = np.maximum(np.quantile(errors, [0.25, 0.5, 0.75], axis=0), _SMALLEST)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, middle, "o-", color=colour, linewidth=1.7, markersize=3.5)
    axes.set_xticks(x)


def _num(rows: Rows) -> str:
    """Trials per class: `350`, or `50..350`."""
    counts = sorted({len(mine) for mine in by_kind(rows).values()})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}..{counts[-1]}"


def _draw_bars(axes: Axes, place: int, width: float, values: Sequence[Any], colour: str, label: str) -> None:
    """values: (share or None, interval or None) per grade."""
    x = np.arange(len(values)) + place * width
    heights = [0.0 if share is None else 100 * share for share, _ in values]
    axes.bar(x, heights, 0.92 * width, color=colour, label=label)
    for at, (share, interval) in zip(x, values, strict=True):
        if share is None:
            axes.text(at, 1.5, "-", ha="center", color=_INK, fontsize=8)
        elif interval is not None:
            axes.plot([at, at], [100 * interval[0], 100 * interval[1]], color=_INK, linewidth=1.1)


def _draw_points(axes: Axes, points: Sequence[Any], colour: str, label: str, shift: float) -> None:
    """points: (place, share, low, high, number of trials)."""
    if not points:
        return
    x = np.array([point[0] for point in points]) + shift
    values = 100 * np.array([point[1:4] for point in points])
    axes.vlines(x, values[:, 1], values[:, 2], color=colour, linewidth=1.2)
    trials = sorted({point[4] for point in points})
    told = f"{trials[0]}..{trials[-1]}" if len(trials) > 1 else str(trials[0])
    axes.plot(x, values[:, 0], "o-", color=colour, markersize=4, linewidth=1.6, label=f"{label}, n = {told}")


def _trace_legend() -> list[Line2D]:
    def mark(marker: str, colour: str, label: str, is_filled: bool = True) -> Line2D:
        fill: Any = "full" if is_filled else "none"
        return Line2D([], [], color=colour, marker=marker, linestyle="", fillstyle=fill, markersize=4, label=label)

    return [
        mark("o", _PAPER, "after the push", is_filled=False),
        mark("o", WORLDS["skin"], "after the refinement"),
        mark("x", GOALS["random"], "refused"),
        Line2D([], [], color=_INK, linestyle=(0, (4, 3)), label=f"limit of {STRICT}"),
    ]
