"""The figures of a report. Each function takes plain arrays and returns a Matplotlib `Figure` (no global state)."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cerebella.evaluation.metrics import SEAM_LIMIT, CommandLog, seams

LegendLocation = Literal["upper left", "upper right", "lower left", "lower right"]
COLOURS = {"sync": "#7b8794", "naive": "#d9822b", "prefix": "#0f766e"}
_INK = "#1c2026"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": "#b8bec6",
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.8,
    "xtick.color": "#5b646e",
    "ytick.color": "#5b646e",
    "text.color": _INK,
    "legend.frameon": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
}


def figure_to_png(figure: Figure) -> bytes:
    """PNG at twice the screen's resolution."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144, facecolor="white", bbox_inches="tight", pad_inches=0.06)
    return buffer.getvalue()


def plot_delay_curves(summary: Sequence[Mapping[str, Any]], delay_label: str) -> Figure:
    """Success with Wilson intervals and throughput with bootstrap intervals against delay, one line per mode."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.2, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        modes = list(dict.fromkeys(row["mode"] for row in summary))
        step = _smallest_step([row["delay"] for row in summary])
        for k, mode in enumerate(modes):
            rows = sorted((row for row in summary if row["mode"] == mode), key=lambda row: row["delay"])
            x = np.array([row["delay"] for row in rows]) + (k - (len(modes) - 1) / 2) * 0.06 * step
            _draw_interval(left, x, _percent(rows, "rate"), _percent(rows, "low"), _percent(rows, "high"), mode)
            middle = _column(rows, "throughput_per_min")
            low, high = _column(rows, "throughput_low"), _column(rows, "throughput_high")
            _draw_interval(right, x, middle, low, high, mode)
        left.set(title="Success (95 % Wilson interval)", ylabel="% of episodes", ylim=(-3, 103))
        right.set(title="Throughput (95 % bootstrap interval)", ylabel="solved per minute")
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.set_xlabel(delay_label)
            axes.set_xticks(sorted({row["delay"] for row in summary}))
        _draw_legend(left, "lower left")
        return figure


def plot_periods(errors_ms: Mapping[str, ArrayLike], period_ms: float) -> Figure:
    """Histogram of control-period jitter, |g(k) - period|, logarithmic counts."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.5, 2.9), layout="constrained")
        axes = figure.subplots()
        arrays = {mode: np.asarray(values, dtype=np.float64) for mode, values in errors_ms.items()}
        top = max([1.0, *(float(values.max()) for values in arrays.values() if values.size)])
        bins = np.linspace(0.0, top, 41)
        for mode, values in arrays.items():
            if values.size:
                axes.hist(values, bins=bins.tolist(), histtype="step", linewidth=1.6, color=_colour(mode), label=mode)
        axes.set(
            title=f"Control-period jitter (period {period_ms:.1f} ms)", xlabel="|period error|, ms", ylabel="ticks"
        )
        if any(values.size for values in arrays.values()):
            axes.set_yscale("log")
        _draw_legend(axes, "upper right")
        return figure


def plot_seams(ratios: Mapping[str, ArrayLike]) -> Figure:
    """Share of hand-overs whose step is at most x times the usual one; right of the dashed line is a visible jump."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.5, 2.9), layout="constrained")
        axes = figure.subplots()
        for mode, values in ratios.items():
            _draw_distribution(axes, np.clip(np.asarray(values, dtype=np.float64), 0.1, 100.0), 0.1, mode)
        axes.axvline(SEAM_LIMIT, color=_INK, linestyle=(0, (4, 3)), linewidth=1)
        axes.set_xscale("log")
        axes.set_xlim(0.1, 30)
        axes.set_xticks([0.1, 1, 3, 10, 30], labels=["0.1", "1", "3", "10", "30"])
        axes.set(title="Jumps at hand-overs", xlabel="step / usual step", ylabel="% of hand-overs up to x")
        axes.set_ylim(0, 103)
        _draw_legend(axes, "upper left")
        return figure


def plot_reactions(reactions_ms: Mapping[str, ArrayLike]) -> Figure:
    """Share of perturbed episodes in which the commanded path has reacted by x ms."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.5, 2.9), layout="constrained")
        axes = figure.subplots()
        for mode, values in reactions_ms.items():
            _draw_distribution(axes, np.asarray(values, dtype=np.float64), 0.0, mode)
        axes.set(title="Reaction to a disturbance", xlabel="ms after the event", ylabel="% of runs that reacted")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 103)
        _draw_legend(axes, "lower right")
        return figure


def plot_traces(logs: Mapping[str, CommandLog], axis_names: Sequence[str]) -> Figure:
    """Commanded positions of one episode, a column per mode: hand-overs as dots, waiting shaded."""
    with matplotlib.rc_context(_STYLE):
        num_axes = len(axis_names)
        figure = Figure(figsize=(9.2, 1.7 * num_axes + 0.5), layout="constrained")
        grid = figure.subplots(num_axes, len(logs), sharex=True, sharey="row", squeeze=False)
        for column, (mode, log) in enumerate(logs.items()):
            seconds = log.ticks / log.control_hz
            seam = seams(log)
            for row, name in enumerate(axis_names):
                axes: Axes = grid[row, column]
                path_mm = log.path[:, row] * 1e3
                for start, end in _runs(~log.is_running):
                    axes.axvspan(
                        seconds[start] - 0.5 / log.control_hz,
                        seconds[end] + 0.5 / log.control_hz,
                        color="#f6dcd3",
                        lw=0,
                    )
                axes.plot(seconds, path_mm, color=_colour(mode), linewidth=1.5)
                axes.plot(seconds[seam], path_mm[seam], "o", color=_INK, markersize=3.2)
                if column == 0:
                    axes.set_ylabel(f"{name}, mm")
                if row == 0:
                    axes.set_title(mode)
                if row == num_axes - 1:
                    axes.set_xlabel("s")
        return figure


def _draw_interval(axes: Axes, x: ArrayLike, y: ArrayLike, low: ArrayLike, high: ArrayLike, mode: str) -> None:
    middle = np.asarray(y, dtype=np.float64)
    # A bootstrap interval of a few episodes may exclude the estimate by rounding; an error bar cannot be negative.
    below = np.maximum(0.0, middle - np.asarray(low, dtype=np.float64))
    above = np.maximum(0.0, np.asarray(high, dtype=np.float64) - middle)
    axes.errorbar(
        np.asarray(x),
        middle,
        yerr=np.stack([below, above]),
        color=_colour(mode),
        marker="o",
        markersize=5,
        linewidth=1.8,
        elinewidth=1.1,
        capsize=3,
        label=mode,
    )


def _draw_legend(axes: Axes, where: LegendLocation) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=where)


def _draw_distribution(axes: Axes, values: np.ndarray, start: float, mode: str) -> None:
    """Cumulative share in percent, as steps from `start`; nothing without values."""
    if values.size:
        data = np.sort(values)
        share = np.arange(1, data.size + 1) / data.size * 100
        axes.step(np.r_[start, data], np.r_[0, share], where="post", color=_colour(mode), linewidth=1.8, label=mode)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=np.float64)


def _percent(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return 100.0 * _column(rows, name)


def _smallest_step(values: Sequence[float]) -> float:
    unique = np.unique(np.asarray(values, dtype=np.float64))
    return float(np.diff(unique).min()) if unique.size > 1 else 1.0


def _colour(mode: str) -> str:
    return COLOURS.get(mode, _INK)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of every stretch of true values."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8)))
    return [(int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2], strict=True)]
