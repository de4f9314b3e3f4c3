"""Two recordings over each other, as PNG bytes: where they part."""

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cerebella.runtime.recording.figure_parts import (
    DIFFERS,
    OTHER,
    SENT,
    STYLE,
    draw_bands,
    draw_title,
    grid,
    name_dimension,
    png_bytes,
)
from cerebella.runtime.recording.reader import Recording
from cerebella.runtime.recording.timeline import stretches, timeline


def plot_difference(ours: Recording, theirs: Recording) -> bytes:
    """The commands of two recordings over each other, aligned by the number of the command; red where they differ.

    Raises:
        ValueError: other dimensions, more than 32 of them, or no command in one of them.
    """
    first, second = timeline(ours), timeline(theirs)
    dimensions = ours.header.metadata.embodiment.actions
    if first.sent.shape[1] != second.sent.shape[1]:
        raise ValueError(f"{ours.path} and {theirs.path} are of robots with other action dimensions")
    with matplotlib.rc_context(STYLE):
        figure, axes = grid(dimensions)
        numbers = [np.array([record.control_tick for record in part.ticks]) for part in (first, second)]
        common, in_first, in_second = np.intersect1d(numbers[0], numbers[1], return_indices=True)
        for column, (dimension, plot) in enumerate(zip(dimensions, axes, strict=True)):
            a, b = first.sent[in_first, column], second.sent[in_second, column]
            differs = a.view(np.uint32) != b.view(np.uint32)
            spans = [(common[i] - 0.5, common[k - 1] - common[i] + 1.0) for i, k in stretches(differs)]
            draw_bands(plot, spans, DIFFERS)
            plot.plot(numbers[1], second.sent[:, column], color=OTHER, linewidth=1.4)
            plot.plot(numbers[0], first.sent[:, column], color=SENT, linewidth=1.1, linestyle=(0, (4, 2)))
            name_dimension(plot, dimension)
            largest = np.abs(a.astype(np.float64) - b).max(initial=0.0)
            unit = "" if dimension.unit == "1" else f" {dimension.unit}"
            plot.set_title(f"largest difference {largest:.3g}{unit}", fontsize=8, loc="right", color="#5b646e")
        axes[-1].set_xlabel("command")
        draw_title(figure, f"{ours.path.name} against {theirs.path.name}")
        handles = [
            Line2D([], [], color=SENT, linestyle=(0, (4, 2)), label=ours.path.name),
            Line2D([], [], color=OTHER, label=theirs.path.name),
            Patch(color=DIFFERS, label="differs"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
        return png_bytes(figure)
