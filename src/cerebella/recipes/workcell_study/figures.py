"""The pictures of the page. Each function returns a Matplotlib `Figure`, or None without anything to draw."""

from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cerebella.evaluation.statistics import wilson_interval
from cerebella.recipes.study_async.figures import GREY, INK, STYLE
from cerebella.recipes.study_cells import Cell
from cerebella.recipes.workcell_study.names import EXPERT
from cerebella.recipes.workcell_study.paper import TOWELS_PER_MIN
from cerebella.recipes.workcell_study.summary import Interval, Row, brain_label, brain_rows, right

COLOURS = {
    ("expert", "expert"): GREY,
    ("default", "prefix"): "#2563eb",
    ("default", "sync"): "#7b8794",
    ("default", "naive"): "#d9822b",
    ("rtc", "prefix"): "#0f766e",
    ("no_talk", "prefix"): "#be185d",
    ("no_choice", "prefix"): "#7c3aed",
}
"""By (training, mode)."""
_PAPER_COLOURS = ("#2563eb", "#0f766e", "#7b8794", "#e6e8eb")
_MARKERS = "osD^vPX*"


def claims(rows: Sequence[Row], delay: int) -> Figure | None:
    """Bars at one delay, as in the paper: success, parts per minute, and the paper's towels per minute beside them."""
    chosen = [row for row in rows if row.delay == delay or row.training == EXPERT]
    if not chosen:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.36 * max(len(chosen), 4) + 0.9), layout="constrained")
        left, middle, paper = figure.subplots(1, 3, width_ratios=(1, 1, 0.8))
        _bars(left, chosen, lambda row: row.success, 100.0)
        left.set_xlim(0, 103)
        left.set_title(f"success, %, {delay} ticks")
        _bars(middle, chosen, lambda row: row.parts_per_min, 1.0)
        middle.set_yticklabels([])
        middle.set_title("parts per minute")
        names = list(TOWELS_PER_MIN)
        paper.barh(names, list(TOWELS_PER_MIN.values()), color=_PAPER_COLOURS, height=0.62)
        paper.invert_yaxis()
        paper.grid(axis="y", visible=False)
        paper.set_title("the paper: towels per minute")
        return figure


def delay_curves(rows: Sequence[Row]) -> Figure | None:
    """Success, parts per minute and the 95 % point of the hand-over steps against the delay, one line per condition."""
    chosen = [row for row in rows if row.training != EXPERT]
    delays = sorted({row.delay for row in chosen})
    if len(delays) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.1), layout="constrained")
        grid = figure.subplots(1, 3)
        for key in dict.fromkeys((row.training, row.mode) for row in chosen):
            mine = [row for row in chosen if (row.training, row.mode) == key]
            x, colour = [row.delay for row in mine], COLOURS[key]
            for axes, read, scale in ((grid[0], _success, 100.0), (grid[1], _throughput, 1.0)):
                values = scale * np.array([read(row) for row in mine])
                axes.plot(x, values[:, 0], "o-", color=colour, markersize=3.5)
                axes.fill_between(x, values[:, 1], values[:, 2], color=colour, alpha=0.1, linewidth=0)
            seams = [(row.delay, row.seam_p95) for row in mine if row.seam_p95 is not None]
            if seams:
                grid[2].plot(*zip(*seams, strict=True), "o-", color=colour, markersize=3.5, label=mine[0].label)
        for axes, title in zip(
            grid, ("success, %", "parts per minute", "step at a hand-over / usual, p95"), strict=True
        ):
            axes.set_title(title)
            axes.set_xticks(delays)
            axes.set_xlabel("delay, ticks of 33 ms")
        grid[0].set_ylim(-3, 103)
        grid[2].set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=6)
        return figure


def retention(cells: Sequence[Cell]) -> Figure | None:
    """Right answers per family of every brain, beside what is possible without looking."""
    brains = brain_rows(cells)
    if not brains:
        return None
    families = list(brains[0]["numbers"]["families"])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.34 * len(families) + 1.3), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(families))
        blind = [100 * brains[0]["numbers"]["families"][family]["blind"] for family in families]
        axes.barh(places, blind, color="#e6e8eb", height=0.78, label="without looking, at most")
        colours = ("#111827", "#2563eb", "#0ea5e9", "#0f766e", "#be185d", "#d9822b", "#7c3aed")
        offsets = np.linspace(-0.28, 0.28, len(brains)) if len(brains) > 1 else [0.0]
        for k, (cell, offset) in enumerate(zip(brains, offsets, strict=True)):
            answers = [right(cell, family) for family in families]
            rates = np.array([100 * sum(each) / len(each) for each in answers])
            ends = 100 * np.array([wilson_interval(sum(each), len(each)) for each in answers]).T
            colour = colours[k % len(colours)]
            errors = np.abs(ends - rates)
            axes.errorbar(rates, places + offset, xerr=errors, fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.6)
            axes.plot(rates, places + offset, _MARKERS[k % len(_MARKERS)], color=colour, ms=4, label=brain_label(cell))
        axes.set_yticks(places, labels=families)
        axes.invert_yaxis()
        axes.set_xlim(0, 103)
        axes.set_xlabel("right answers, %")
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside right upper")
        return figure


def streams(cells: Sequence[Cell]) -> Figure | None:
    """Parts per minute, parts missed and memory over the time of the streams."""
    found = [cell for cell in cells if cell["kind"] == "stream"]
    if not found:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.9), layout="constrained")
        grid = figure.subplots(1, 3)
        for cell in sorted(found, key=lambda c: c["name"]["training"] == EXPERT):
            training = cell["name"]["training"]
            name = (training, EXPERT if training == EXPERT else "prefix")
            rows = cell["numbers"]["rows"]
            minutes = np.array([row["s"] for row in rows]) / 60.0
            per_min = np.diff([0.0, *(row["picked"] for row in rows)]) / np.diff([0.0, *minutes])
            label = training if training == EXPERT else f"{training}, {cell['name']['delay']} ticks"
            grid[0].step([0.0, *minutes], [per_min[0], *per_min], where="pre", color=COLOURS[name], label=label)
            grid[1].plot(minutes, [row["missed"] for row in rows], color=COLOURS[name])
            grid[1].plot(minutes, [row["wrong"] for row in rows], color=COLOURS[name], linestyle=":")
            grid[2].plot(minutes, [row["rss_mb"] for row in rows], color=COLOURS[name])
        titles = ("parts per minute", "missed so far (dotted: wrong)", "memory, MB")
        for axes, title in zip(grid, titles, strict=True):
            axes.set_title(title)
            axes.set_xlabel("minutes")
            axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
        figure.legend(loc="outside lower center", ncols=4)
        return figure


def _bars(axes: Axes, rows: Sequence[Row], read: Callable[[Row], Interval], scale: float) -> None:
    places = np.arange(len(rows))
    values = scale * np.array([read(row) for row in rows])
    colours = [COLOURS[row.training, row.mode] for row in rows]
    errors = np.abs(values[:, 1:] - values[:, :1]).T
    axes.barh(places, values[:, 0], color=colours, height=0.62)
    axes.errorbar(values[:, 0], places, xerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    axes.set_yticks(places, labels=[row.label for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def _success(row: Row) -> Interval:
    return row.success


def _throughput(row: Row) -> Interval:
    return row.parts_per_min
