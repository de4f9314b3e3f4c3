"""What a blind answerer reaches: the accuracy that a model has to beat before it can be said to see."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cerebella.data.grounding import Box
from cerebella.envs.scenes.questions import Question
from cerebella.evaluation.scoring import MIN_IOU, read_caption

_STEP = 5


def constant_chance(questions: Sequence[Question]) -> float:
    """Accuracy of the best constant answer on these questions (one family), 0..1.

    Exact for words, numbers, letters and captions; for boxes the best of the true boxes themselves, for points the best of
    a grid of 201 x 201 points.

    Raises:
        ValueError: no question.
    """
    if not questions:
        raise ValueError("the chance level needs at least one question")
    family = questions[0].family
    if family == "box":
        return _best_box([question.outline.box("") for question in questions if question.outline])
    if family == "point":
        return _best_point(questions)
    if family == "caption":
        answers = Counter(frozenset(read_caption(question.answer).items()) for question in questions)
    else:
        answers = Counter(question.answer for question in questions)
    return max(answers.values()) / len(questions)


def _best_box(boxes: Sequence[Box]) -> float:
    corners = np.array([[box.left, box.top, box.right, box.bottom] for box in boxes], dtype=np.float64)
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    best = 0.0
    for box, area in zip(corners, areas, strict=True):
        sides = np.minimum(corners[:, 2:], box[2:]) - np.maximum(corners[:, :2], box[:2])
        common = np.clip(sides, 0.0, None).prod(axis=1)
        best = max(best, float((common / (areas + area - common) >= MIN_IOU).mean()))
    return best


def _best_point(questions: Sequence[Question]) -> float:
    """Counts, at every point of a grid, the objects that contain it; only points in an object's box can."""
    hits = np.zeros((1000 // _STEP + 1, 1000 // _STEP + 1), dtype=np.int64)
    for question in questions:
        assert question.outline is not None
        box = question.outline.box("")
        sides = ((box.left, box.right), (box.top, box.bottom))
        x, y = (np.arange(-(-low // _STEP), high // _STEP + 1) for low, high in sides)
        hits[np.ix_(x, y)] += question.outline.contains(x[:, None] * _STEP, y[None, :] * _STEP)
    return float(hits.max()) / len(questions)
