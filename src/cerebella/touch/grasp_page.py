"""A picture of a set of grasps: tactile images, forces and motions, to look at before anything is trained."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from cerebella.touch.grasp import CONTACT_N, FINGERS, NUM_COLUMNS, NUM_ROWS
from cerebella.touch.grasp_shards import GraspSet
from cerebella.touch.objects import KINDS
from cerebella.touch.sensor import FULL_SCALE_N

_COLOURS = ("#0f766e", "#b7660f", "#3b5b92", "#a23b52", "#5d6975")
_INK = "#1c2026"
_UNITS = (("y", "mm", 1e3), ("z", "mm", 1e3), ("roll", "deg", np.rad2deg(1.0)), ("pitch", "deg", np.rad2deg(1.0)))
"""Of the columns of `sampling.MOTIONS`: name, unit of the page, factor."""
_MOST_OBJECTS, _PER_OBJECT, _GAP = 6, 2, 1
_IS_BORDER = np.ones((NUM_ROWS, NUM_COLUMNS), dtype=bool)
_IS_BORDER[1:-1, 1:-1] = False


def draw_grasps(grasps: GraspSet, path: Path, seed: int = 0) -> None:
    """Write one PNG page.

    At the top the five arrays of two random grasps of up to six objects; row 0, the finger's end, is at the top. Below: force
    per pressed taxel and per finger, fingers in contact, force at the arrays' borders, and the motions.
    """
    rng = np.random.default_rng(seed)
    num_shown = min(_MOST_OBJECTS, len(grasps.objects))
    shown = np.linspace(0, len(grasps.objects) - 1, num_shown).round().astype(int)
    examples = [rng.choice(np.flatnonzero(grasps.object_index == i), _PER_OBJECT) for i in shown]
    with matplotlib.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11.5, 1.5 * num_shown + 5.0), dpi=110, layout="constrained")
        halves = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.5 * num_shown, 4.6])
        _draw_images(halves[0, 0], grasps, examples)
        _draw_histograms(halves[1, 0], grasps)
        total = f"{len(grasps)} grasps of {len(grasps.objects)} objects, {len(grasps.starts) - 1} shards"
        figure.suptitle(f"{total}; arrays: {', '.join(FINGERS)}", x=0.01, ha="left", fontsize=10, fontweight="bold")
        FigureCanvasAgg(figure).print_png(path)


def _draw_images(figure: SubFigure, grasps: GraspSet, examples: list[NDArray[np.int64]]) -> None:
    """A line per object; five images side by side per grasp; one colour scale, 0 to a nominal sensor's full scale."""
    axes = figure.subplots(len(examples), _PER_OBJECT, squeeze=False)
    middles = (NUM_COLUMNS + _GAP) * np.arange(len(FINGERS)) + (NUM_COLUMNS - 1) / 2
    image = None
    for line, rows in zip(axes, examples, strict=True):
        for plot, row in zip(line, rows, strict=True):
            forces = grasps.arrays.forces[row].astype(np.float32)
            strip = np.full((NUM_ROWS, len(FINGERS) * (NUM_COLUMNS + _GAP) - _GAP), np.nan, dtype=np.float32)
            for i, one in enumerate(forces):
                strip[:, i * (NUM_COLUMNS + _GAP) :][:, :NUM_COLUMNS] = one
            image = plot.imshow(strip, cmap="magma", vmin=0, vmax=FULL_SCALE_N)
            told = ", ".join(
                f"{name} {factor * value:+.1f} {unit}"
                for (name, unit, factor), value in zip(_UNITS, grasps.arrays.motions[row], strict=True)
                if value
            )
            plot.set_title(f"{grasps.objects[grasps.object_index[row]]}: {told or 'nominal'}", fontsize=8, loc="left")
            plot.set_xticks(middles, [f"{force:.2f} N" for force in forces.sum(axis=(1, 2))], fontsize=7)
            plot.set_yticks([])
            plot.tick_params(length=0)
            plot.spines[:].set_visible(False)
    assert image is not None
    figure.colorbar(image, ax=axes, fraction=0.012, label="N per taxel")


def _draw_histograms(figure: SubFigure, grasps: GraspSet) -> None:
    axes = figure.subplots(2, 4)
    taxel, finger, contacts, border = axes[0]
    forces = grasps.arrays.forces.astype(np.float32)
    per_finger, pressed = forces.sum(axis=(2, 3)), forces[forces > 0]
    taxel.hist(pressed, bins=60, color=_COLOURS[0], log=True)
    taxel.axvline(FULL_SCALE_N, color=_INK, linewidth=0.8)
    taxel.set_xlabel(f"force of a pressed taxel, N\n{(pressed > FULL_SCALE_N).mean():.2%} beyond full scale (line)")
    for i, name in enumerate(FINGERS):
        finger.hist(per_finger[:, i], bins=60, histtype="step", color=_COLOURS[i], label=name)
    finger.set_xlabel("force of a finger, N")
    finger.legend(fontsize=7, frameon=False)
    in_contact = per_finger >= CONTACT_N
    contacts.hist(in_contact.sum(axis=1), bins=np.arange(1.5, 6), rwidth=0.8, color=_COLOURS[0])
    contacts.set_xlabel("fingers in contact")
    at_border = forces[:, :, _IS_BORDER].sum(axis=2)[in_contact] / per_finger[in_contact]
    border.hist(at_border, bins=40, range=(0, 1), color=_COLOURS[0])
    border.set_xlabel("share of a finger's force at the array's border")
    kinds = np.array([name.split("_")[0] for name in grasps.objects])[grasps.object_index]
    for plot, column, (name, unit, factor) in zip(axes[1], grasps.arrays.motions.T, _UNITS, strict=True):
        for colour, kind in zip(_COLOURS, KINDS, strict=False):
            if (mine := column[(kinds == kind) & (column != 0)]).size:
                plot.hist(factor * mine, bins=40, histtype="step", color=colour, label=kind)
        plot.set_xlabel(f"{name}, {unit}")
        if plot.has_data():
            plot.margins(y=0.3)
            plot.legend(fontsize=7, frameon=False, loc="upper right", ncols=len(KINDS))
