"""Five tactile images side by side."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from cerebella.touch.confidence import LOADED_COUNTS
from cerebella.touch.grasp import FINGERS, NUM_COLUMNS, NUM_ROWS
from cerebella.touch.reading import MAX_COUNT, CountArray

SKIN, GOAL, INK, PAPER = "#0f766e", "#be3c1e", "#1c2026", "#fafaf8"
_GAP = 1


def white_count(counts: np.ndarray) -> float:
    """The count to draw as white: nearly no pressed taxel says more, so that one stuck taxel does not darken all others."""
    pressed = counts[counts >= LOADED_COUNTS]
    return float(np.quantile(pressed, 0.99)) if pressed.size else float(MAX_COUNT)


def draw_images(axes: Axes, counts: CountArray, most: float) -> AxesImage:
    """Five arrays side by side, thumb first; row 0, the fingers' end, is at the top. `most`: the count that is white."""
    width = NUM_COLUMNS + _GAP
    strip = np.full((NUM_ROWS, len(FINGERS) * width - _GAP), np.nan, dtype=np.float32)
    for i, one in enumerate(counts):
        strip[:, i * width : i * width + NUM_COLUMNS] = one
    axes.set_yticks([])
    axes.set_xticks(width * np.arange(len(FINGERS)) + (NUM_COLUMNS - 1) / 2, FINGERS, fontsize=7)
    axes.tick_params(length=0, pad=1)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    return axes.imshow(strip, cmap="magma", vmin=0, vmax=most, interpolation="nearest")
