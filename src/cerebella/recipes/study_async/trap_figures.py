"""The picture of the copy trap."""

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cerebella.recipes.study_async.figures import COLOURS, GREY, INK, STYLE
from cerebella.recipes.study_async.trap_summary import TrapRow

_TITLES = {
    "copied": ("Share of the stale plan that is copied, %", 100.0),
    "error_mm": ("Error to the right continuation, mm", 1.0),
}


def copy_shares(rows: Sequence[TrapRow], horizon: int, delay: int) -> Figure | None:
    """A column per task: copied share above, error below. Line: 95 % over windows; dots: training seeds; dashed: `clean`."""
    chosen = [row for row in rows if (row.horizon, row.delay) == (horizon, delay)]
    if not chosen:
        return None
    tasks = list(dict.fromkeys(row.task for row in chosen))
    methods = list(dict.fromkeys(row.method for row in sorted(chosen, key=lambda row: list(COLOURS).index(row.method))))
    with matplotlib.rc_context(STYLE):
        size = (2.2 * len(tasks) + 1.2, 0.24 * len(methods) + 0.9)
        figure = Figure(figsize=(size[0], 2 * size[1]), layout="constrained")
        grid = figure.subplots(2, len(tasks), sharey=True, sharex=False, squeeze=False)
        for line, measure in enumerate(_TITLES):
            for column, task in enumerate(tasks):
                axes: Axes = grid[line, column]
                here = {row.method: row for row in chosen if row.task == task}
                _draw(axes, here, methods, measure)
                axes.set_yticks(range(len(methods)), labels=list(reversed(methods)))
                axes.tick_params(axis="y", labelleft=column == 0)
                if line == 0:
                    axes.set_title(task)
                axes.set_xlabel(_TITLES[measure][0] if column == len(tasks) // 2 else "")
        return figure


def _draw(axes: Axes, rows: dict[str, TrapRow], methods: Sequence[str], measure: str) -> None:
    scale = _TITLES[measure][1]
    if "clean" in rows:
        axes.axvline(scale * rows["clean"].values[measure].mean, color=GREY, linestyle=(0, (4, 3)), linewidth=1)
    for place, method in enumerate(reversed(methods)):
        if method not in rows:
            continue
        value = rows[method].values[measure]
        axes.plot([scale * value.low, scale * value.high], [place, place], color=COLOURS[method], linewidth=3)
        axes.plot(
            [scale * x for x in value.seed_values], [place] * len(value.seed_values), "o", color=INK, markersize=3
        )
    axes.grid(axis="y", visible=False)
