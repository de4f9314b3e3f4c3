"""Right or wrong, exactly: one answer of a vision-language model against what is known about the scene.

Forgiving about form (capitals, punctuation, articles, number words, a sentence around a single known word), strict about
content: an answer that names two candidates is wrong, and so is one that names none.
"""

import re
from collections import Counter
from dataclasses import dataclass

from cerebella.data.grounding import Box, Point, parse_grounding
from cerebella.envs.scenes.questions import Question

MIN_IOU = 0.5
"""A box counts as found from this overlap on (the usual criterion of grounding, e.g. RefCOCO)."""

_NUMBER_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER_WORDS = {"none": "0", **{name: str(number) for number, name in enumerate(_NUMBER_NAMES)}}
_ARTICLES = {"a", "an", "the"}
_WORD = re.compile(r"[a-z]+|\d+")
_LETTER = re.compile(r"^\W*([A-Da-d])(?:\W|$)")


@dataclass(frozen=True)
class Score:
    """Outcome of one answer.

    Args:
        is_correct: counts in the accuracy.
        is_readable: the answer has the form that was asked for; an unreadable one is wrong.
        overlap: intersection over union of a box, 0..1; None elsewhere.
    """

    is_correct: bool
    is_readable: bool
    overlap: float | None = None


def score(question: Question, said: str) -> Score:
    """Score what a model said.

    Boxes: intersection over union of at least `MIN_IOU`. Points: inside the object. Captions: the same kinds in the same
    numbers, in any order. Everything else: exactly the right candidate.
    """
    if question.family in ("box", "point"):
        return _score_place(question, said)
    if question.family == "caption":
        kinds = read_caption(said)
        return Score(kinds == read_caption(question.answer), bool(kinds))
    chosen = read_candidate(said, question.candidates)
    return Score(chosen == question.answer, chosen is not None)


def read_candidate(said: str, candidates: tuple[str, ...]) -> str | None:
    """The one candidate that an answer names; None if it names none or several.

    Letters must lead the answer ("B", "B.", "b) red"); words and numbers may stand in a sentence ("There are three.").
    """
    if candidates and all(len(candidate) == 1 and candidate.isalpha() for candidate in candidates):
        letter = _LETTER.match(said)
        return letter[1].upper() if letter and letter[1].upper() in candidates else None
    named = {candidate for candidate in candidates if candidate in _words(said)}
    return named.pop() if len(named) == 1 else None


def read_place(said: str) -> Box | Point | None:
    """The one box or point of a grounding answer; a bare object counts as a list of one. None if it is no such answer."""
    text = said.strip()
    try:
        found = parse_grounding(f"[{text}]" if text.startswith("{") else text)
    except ValueError:
        return None
    return found[0] if len(found) == 1 else None


def read_caption(said: str) -> Counter[tuple[str, ...]]:
    """How often each kind is named: `2 red discs, 1 blue bar` and "a blue bar and two red discs" are the same."""
    kinds: Counter[tuple[str, ...]] = Counter()
    for phrase in re.split(r",|\band\b|\.|;", said.lower()):
        raw: list[str] = _WORD.findall(phrase)
        number = next((word for word in (_NUMBER_WORDS.get(word, word) for word in raw) if word.isdigit()), "1")
        words = [word.removesuffix("s") for word in raw if word not in _ARTICLES | _NUMBER_WORDS.keys()]
        words = [word for word in words if not word.isdigit()]
        if words:
            kinds[tuple(words)] += int(number)
    return kinds


def _score_place(question: Question, said: str) -> Score:
    assert question.outline is not None, "a grounding question has an outline"
    place = read_place(said)
    if question.family == "point":
        is_point = isinstance(place, Point)
        return Score(is_point and bool(question.outline.contains(place.u, place.v)), is_point)
    if not isinstance(place, Box):
        return Score(False, False, 0.0)
    overlap = place.overlap(question.outline.box(""))
    return Score(overlap >= MIN_IOU, True, overlap)


def _words(said: str) -> list[str]:
    found: list[str] = _WORD.findall(said.lower())
    return [_NUMBER_WORDS.get(word, word) for word in found if word not in _ARTICLES]
