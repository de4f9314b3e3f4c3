from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.envs.scenes.families import CANDIDATES
from cerebella.envs.scenes.questions import Question
from cerebella.envs.scenes.shapes import HEIGHT_PX, WIDTH_PX, Outline
from cerebella.evaluation.scoring import read_candidate, read_caption, read_place, score

DISC = Outline(shape=0, u=48.0, v=32.0, size=8.0, heading=0.0)
"""In the middle of the picture; its box is 167 wide and 250 high in thousandths."""


def question(family: str, answer: str, outline: Outline | None = None) -> Question:
    return Question(family, "", "?", answer, CANDIDATES.get(family, ()), 0, 0, 0, outline)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        ("No, there is no disc.", "no"),
        ("yes and no", None),
        ("maybe", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_yes_and_no_are_read_as_a_person_would(said: str, expected: str | None) -> None:
    assert read_candidate(said, ("yes", "no")) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [("3", "3"), ("three", "3"), ("There are 3 discs.", "3"), ("none", "0"), ("13", None), ("2 or 3", None)],
)
def test_numbers_are_read_as_digits_and_as_words(said: str, expected: str | None) -> None:
    assert read_candidate(said, CANDIDATES["count"]) == expected


@pytest.mark.parametrize(
    ("said", "expected"), [("B", "B"), ("b) red", "B"), ("(B)", "B"), ("Blue", None), ("E", None), ("the A", None)]
)
def test_a_letter_must_lead(said: str, expected: str | None) -> None:
    assert read_candidate(said, CANDIDATES["choice"]) == expected


def test_words_are_right_or_wrong() -> None:
    assert score(question("colour", "red"), "It is red.").is_correct
    wrong, unreadable = score(question("colour", "red"), "blue"), score(question("colour", "red"), "purple")
    assert (wrong.is_correct, wrong.is_readable) == (False, True)
    assert (unreadable.is_correct, unreadable.is_readable) == (False, False)


def test_captions_may_change_order_and_words_but_not_content() -> None:
    right = question("caption", "2 red discs, 1 blue bar")
    assert score(right, "A blue bar and two red discs.").is_correct
    assert score(right, "1 blue bar, 1 red disc, 1 red disc").is_correct
    for wrong in (
        "2 red discs",
        "2 red discs, 1 blue bar, 1 ring",
        "1 red disc, 2 blue bars",
        "2 red bars, 1 blue disc",
    ):
        assert not score(right, wrong).is_correct
    assert not score(right, "").is_readable
    assert read_caption("1 red object") == Counter({("red", "object"): 1})


def box(left: int, top: int, right: int, bottom: int) -> str:
    return f'[{{"bbox_2d": [{left}, {top}, {right}, {bottom}], "label": "x"}}]'


def test_a_box_counts_from_half_an_overlap_on() -> None:
    right = question("box", "", DISC)
    exact = DISC.box("x")
    assert score(right, box(exact.left, exact.top, exact.right, exact.bottom)).overlap == pytest.approx(1.0)
    half = exact.left + (exact.right - exact.left) // 2
    assert score(right, box(exact.left, exact.top, half + 3, exact.bottom)).is_correct
    assert not score(right, box(exact.left, exact.top, half - 3, exact.bottom)).is_correct
    assert score(right, box(0, 0, 100, 100)).overlap == 0.0
    assert score(right, f"```json\n{box(exact.left, exact.top, exact.right, exact.bottom)}\n```").is_correct


@pytest.mark.parametrize(
    "said",
    [
        "",
        "left",
        box(500, 500, 400, 600),
        box(0, 0, 1200, 10),
        '[{"bbox_2d": [1, 2, 3]}]',
        '[{"point_2d": [500, 500]}]',
    ],
)
def test_a_box_without_sense_is_unreadable(said: str) -> None:
    assert not score(question("box", "", DISC), said).is_readable


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_point_counts_inside_the_object(x: int, y: int) -> None:
    """Against the circle's equation in pixels."""
    du, dv = x * WIDTH_PX / 1000 - DISC.u, y * HEIGHT_PX / 1000 - DISC.v
    said = f'{{"point_2d": [{x}, {y}], "label": "disc"}}'
    if abs(du**2 + dv**2 - 64.0) > 1e-3:
        assert score(question("point", "", DISC), said).is_correct == (du**2 + dv**2 < 64.0)


def test_several_places_are_no_answer() -> None:
    assert read_place('[{"point_2d": [1, 2]}, {"point_2d": [3, 4]}]') is None
