"""Tactile images of examples: start, goal and after, the five fingers side by side; and one refinement on one picture."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cerebella.recipes.study_async.figures import STYLE
from cerebella.recipes.touch_study.examples import Example
from cerebella.recipes.touch_study.tactile_images import GOAL, INK, SKIN, draw_images, white_count
from cerebella.touch.refinement import Error, size_of


def start_goal_after(examples: Sequence[Example]) -> Figure | None:
    """A line per example; one colour scale."""
    if not examples:
        return None
    most = white_count(np.stack([_counts_of(example) for example in examples]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 1.12 * len(examples) + 0.15), layout="constrained")
        grid = figure.subplots(len(examples), 3, squeeze=False)
        image = None
        for line, example in zip(grid, examples, strict=True):
            first, end = example.refinement.steps[0], example.refinement.true_error_end
            titles = (
                f"{example.shape.name}, start: {words(first.true_error)}",
                "goal",
                f"after {example.refinement.num_moves} moves: {words(end)}"
                + (" (refused)" if example.refinement.outcome == "refused" else ""),
            )
            for axes, counts, title in zip(line, _counts_of(example), titles, strict=True):
                image = draw_images(axes, counts, most)
                axes.set_title(title, fontsize=8.5, fontweight="normal")
        assert image is not None
        figure.colorbar(image, ax=grid, fraction=0.012, pad=0.01, label="counts")
        return figure


def one_refinement(example: Example) -> Figure:
    """What one refinement felt, step by step, the goal at the bottom; beside it the true and the predicted error."""
    steps, refinement = example.refinement.steps, example.refinement
    felt = [(f"step {i}: {words(step.true_error)}", step.reading.counts) for i, step in enumerate(steps)]
    if refinement.went_back:
        felt.append((f"went back: {words(refinement.true_error_end)}", example.end.counts))
    felt.append(("goal", example.goal.counts))
    most = white_count(np.stack([counts for _, counts in felt]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 1.08 * len(felt) + 0.4), layout="constrained")
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.25, 1.0])[0]
        for axes, (title, counts) in zip(left.subplots(len(felt), 1, squeeze=False)[:, 0], felt, strict=True):
            draw_images(axes, counts, most)
            axes.set_title(title, fontsize=8.5, fontweight="normal")
        for axes, unit in zip(right.subplots(2, 1, sharex=True), ("mm", "deg"), strict=True):
            draw_errors(axes, example, unit, len(steps) - 1)
            axes.legend(loc="upper right", fontsize=8)
        figure.suptitle(f"{example.shape.name}, world {example.world}: {refinement.outcome}", x=0.01, ha="left")
        return figure


def draw_errors(axes: Axes, example: Example, unit: str, last_step: int) -> None:
    """True and predicted errors up to a step, in `mm` or `deg`."""
    steps = example.refinement.steps
    truths = [step.true_error for step in steps]
    if example.refinement.went_back:
        truths.append(example.refinement.true_error_end)
    true = [_in(unit, truth) for truth in truths if truth is not None]
    shown = true[: last_step + 1] if last_step < len(steps) - 1 else true
    axes.plot(range(len(shown)), shown, "o-", color=SKIN, linewidth=1.8, markersize=4.5, label="true error")
    sizes = [None if step.increment is None else _in(unit, size_of(step.increment)) for step in steps]
    predicted = [(i, size) for i, size in enumerate(sizes[: last_step + 1]) if size is not None]
    if predicted:
        x, y = zip(*predicted, strict=True)
        axes.plot(x, y, "s", color=GOAL, markersize=4, fillstyle="none", label="predicted increment")
    axes.set_xlim(-0.3, max(len(true) - 1, 1) + 0.3)
    axes.set_ylim(0, 1.3 * max(1.0, *true, *(size for size in sizes if size is not None)))
    axes.set_xticks(range(max(len(true), 2)))
    axes.set_ylabel(unit)
    if unit == "deg":
        axes.set_xlabel("wrist moves", color=INK)


def words(error: Error | None) -> str:
    """`4.21 mm / 7.90 deg`."""
    return "unknown" if error is None else f"{1e3 * error[0]:.2f} mm / {math.degrees(error[1]):.2f} deg"


def _counts_of(example: Example) -> np.ndarray:
    """uint8[3, 5, 11, 9]: start, goal, after."""
    return np.stack([example.refinement.steps[0].reading.counts, example.goal.counts, example.end.counts])


def _in(unit: str, error: Error) -> float:
    return 1e3 * error[0] if unit == "mm" else math.degrees(error[1])
