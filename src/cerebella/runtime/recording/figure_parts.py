"""What the pictures of recordings have in common: style, one row per dimension, bands, PNG bytes."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cerebella.embodiment import ActionDimension

INK, SENT, OTHER, WANTED, DIFFERS = "#1c2026", "#0f766e", "#d9822b", "#9aa3ad", "#fbe3df"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#b8bec6",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": "#5b646e",
    "ytick.color": "#5b646e",
    "text.color": INK,
    "legend.frameon": False,
}
_MOST_DIMENSIONS = 32


def grid(dimensions: Sequence[ActionDimension], more: Sequence[float] = ()) -> tuple[Figure, list[Axes]]:
    """A figure with a row per dimension, and one for each relative height in `more`; all share the x axis.

    Raises:
        ValueError: more than 32 dimensions.
    """
    if len(dimensions) > _MOST_DIMENSIONS:
        raise ValueError(f"at most {_MOST_DIMENSIONS} dimensions fit on a page; this robot has {len(dimensions)}")
    ratios = [1.0] * len(dimensions) + list(more)
    figure = Figure(figsize=(11.0, 1.15 * len(ratios) + 0.9), dpi=110, layout="constrained")
    rows = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})
    return figure, list(rows[:, 0])


def draw_bands(plot: Axes, spans: Sequence[tuple[float, float]], colour: str) -> None:
    """Over the whole height, behind everything."""
    plot.broken_barh(list(spans), (0, 1), transform=plot.get_xaxis_transform(), color=colour, linewidth=0, zorder=0.5)


def draw_title(figure: Figure, title: str) -> None:
    """At the upper left."""
    figure.align_ylabels()
    figure.suptitle(title, fontsize=10.5, fontweight="bold", x=0.01, ha="left")


def name_dimension(plot: Axes, dimension: ActionDimension) -> None:
    """Its name and unit, at the left of its row."""
    label_row(plot, dimension.name if dimension.unit == "1" else f"{dimension.name}\n{dimension.unit}")


def label_row(plot: Axes, text: str) -> None:
    """A text at the left of a row."""
    plot.set_ylabel(text, fontsize=8, rotation=0, ha="right", va="center", multialignment="right")
    plot.tick_params(labelsize=7, length=2)


def png_bytes(figure: Figure) -> bytes:
    """The drawn figure."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
