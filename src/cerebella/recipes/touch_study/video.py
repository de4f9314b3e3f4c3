"""A film of one refinement: what the hand feels, where it is, how far it is from the goal. One frame per phase.

Left the tactile images now and in the goal; in the middle the hand, with the tips of the goal in red; right the true error, in
mm and degrees, as only a simulator knows it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cerebella.evaluation.video import write_video
from cerebella.geometry import Array
from cerebella.recipes.study_async.figures import STYLE
from cerebella.recipes.touch_study.cells import FORMAT
from cerebella.recipes.touch_study.examples import Example, from_row
from cerebella.recipes.touch_study.hand_drawing import DrawnHand, HandPose, draw_scene
from cerebella.recipes.touch_study.study import TouchStudy
from cerebella.recipes.touch_study.tactile_figures import draw_errors, words
from cerebella.recipes.touch_study.tactile_images import GOAL, PAPER, draw_images, white_count
from cerebella.touch.hand_model import OPEN_RAD
from cerebella.touch.reading import COUNTS_SHAPE, CountArray
from cerebella.touch.refinement import size_of
from cerebella.types import FloatArray, ImageArray

FRAMES_PER_S = 3.0
_END_FRAMES = 5
_NOTHING_FELT: CountArray = np.zeros(COUNTS_SHAPE, dtype=np.uint8)


def write_videos(study: TouchStudy) -> list[Path]:
    """`refinement-<world>-<object>.mp4` of every example, beside the page's pictures; returns their paths.

    Raises:
        FileNotFoundError: no example has been run.
    """
    paths = sorted(study.cells.glob("*-example.json"))
    if not paths:
        raise FileNotFoundError(f"there are no examples in {study.cells}: run the study first")
    written = []
    for cell in map(FORMAT.read, paths):
        for row in cell["rows"]:
            example = from_row(row)
            path = study.media / f"refinement-{example.world}-{example.shape.name}.mp4"
            written.append(write_film(path, example))
    return written


def write_film(path: Path, example: Example) -> Path:
    """One refinement as MP4."""
    write_video(path, draw(example), FRAMES_PER_S)
    return path


@dataclass(frozen=True, eq=False)
class _Phase:
    """One frame: what is said, what is felt, how the hand stands."""

    text: str
    counts: CountArray
    joints: FloatArray
    T_world_wrist: Array
    last_step: int


def draw(example: Example) -> Iterator[ImageArray]:
    """Frames uint8[h, w, 3]."""
    hand = HandPose(example.shape)
    phases = list(_phases(example))
    for phase in phases:
        yield _frame(example, hand, phase)
    last = _frame(example, hand, phases[-1])
    for _ in range(_END_FRAMES):
        yield last


def _phases(example: Example) -> Iterator[_Phase]:
    refinement = example.refinement
    is_open = OPEN_RAD.astype(np.float32)
    for i, step in enumerate(refinement.steps):
        here, felt, joints = step.T_world_wrist, step.reading.counts, step.reading.joints
        yield _Phase(f"step {i}: closed, reads", felt, joints, here, i)
        if step.increment is not None:
            yield _Phase(f"step {i}: predicts {words(size_of(step.increment))}", felt, joints, here, i)
        if step.T_world_wrist_next is not None:
            yield _Phase(f"step {i}: opens", _NOTHING_FELT, is_open, here, i)
            yield _Phase(f"step {i}: moves", _NOTHING_FELT, is_open, step.T_world_wrist_next, i)
    last = len(refinement.steps) - 1
    if refinement.went_back:
        yield _Phase("goes back to the best pose", _NOTHING_FELT, is_open, refinement.T_world_wrist_end, last)
    ended = f"{refinement.outcome}: {words(refinement.true_error_end)} from the goal"
    yield _Phase(ended, example.end.counts, example.end.joints, refinement.T_world_wrist_end, last)


def _frame(example: Example, hand: HandPose, phase: _Phase) -> ImageArray:
    counts = [step.reading.counts for step in example.refinement.steps]
    most = white_count(np.stack([*counts, example.goal.counts]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12.0, 4.5), dpi=100, facecolor=PAPER)
        canvas = FigureCanvasAgg(figure)
        figure.text(0.02, 0.92, f"{example.shape.name}, world {example.world}", fontsize=12, fontweight="bold")
        figure.text(0.02, 0.85, phase.text, fontsize=12)
        for bottom, title, felt in ((0.44, "now", phase.counts), (0.06, "goal", example.goal.counts)):
            axes = figure.add_axes((0.02, bottom, 0.33, 0.31))
            draw_images(axes, felt, most)
            axes.set_title(title)
        _draw_hands(figure, example, hand, phase)
        for bottom, unit in ((0.55, "mm"), (0.15, "deg")):
            axes = figure.add_axes((0.77, bottom, 0.21, 0.31))
            axes.set_facecolor(PAPER)
            draw_errors(axes, example, unit, phase.last_step)
            if unit == "mm":
                axes.legend(loc="upper right", fontsize=8)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_hands(figure: Figure, example: Example, hand: HandPose, phase: _Phase) -> None:
    axes: Any = figure.add_axes((0.33, -0.06, 0.41, 1.02), projection="3d", computed_zorder=False)
    axes.set_facecolor(PAPER)
    goal = DrawnHand(hand.fingers(example.goal.joints), example.T_world_wrist_goal, GOAL, 0.35)
    draw_scene(axes, example.shape, [goal, DrawnHand(hand.fingers(phase.joints), phase.T_world_wrist)])
