"""The pictures of an inspection page, as PNG bytes."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from cerebella.types import FloatArray, ImageArray

_INK, _LINES = "#1c2026", ("#0f766e", "#b7660f", "#3b5b92", "#a23b52", "#5d6975")
_COLUMNS = 4
_THUMBNAIL_PX = 240


def frame_strip(frames: Sequence[ImageArray]) -> bytes:
    """Pictures of one camera side by side, each at most 240 pixels wide."""
    pictures = [Image.fromarray(frame) for frame in frames]
    for picture in pictures:
        picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    gap = 6
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    strip = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + gap
    buffer = io.BytesIO()
    strip.save(buffer, format="PNG")
    return buffer.getvalue()


def dimension_plots(
    names: Sequence[str], episodes: Sequence[tuple[int, FloatArray]], fps: float, low: FloatArray, high: FloatArray
) -> bytes:
    """One small plot per dimension over time, one line per episode; grey is the range of the whole set.

    Args:
        episodes: (index, float32[n, len(names)]). low, high: float[len(names)].
    """
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.1 * columns, 1.75 * rows + 0.35), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for i, axis in enumerate(axes):
        if i >= len(names):
            axis.set_axis_off()
            continue
        axis.axhspan(float(low[i]), float(high[i]), color="#eceeea", linewidth=0)
        for line, (index, values) in enumerate(episodes):
            seconds = np.arange(len(values)) / fps
            axis.plot(seconds, values[:, i], color=_LINES[line % len(_LINES)], linewidth=1, label=f"episode {index}")
        axis.set_title(names[i], fontsize=9, color=_INK, loc="left")
        axis.tick_params(labelsize=7, length=2)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8, frameon=False)
    figure.supxlabel("seconds", fontsize=8)
    return _png(figure)


def length_histogram(lengths: NDArray[np.int64], fps: float) -> bytes:
    """How long the episodes are."""
    figure = Figure(figsize=(5.2, 2.3), dpi=110, layout="constrained")
    axis = figure.subplots()
    axis.hist(lengths / fps, bins=min(40, max(5, len(lengths))), color=_LINES[0])
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("seconds", fontsize=8)
    axis.set_ylabel("episodes", fontsize=8)
    axis.tick_params(labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
