"""Boxes and points as text: there and back, and clear about what is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.data.grounding import Box, Point, grounding_text, parse_grounding, to_pixels, to_relative_1000

numbers = st.integers(0, 1000)


@given(st.integers(1, 4000), st.integers(1, 4000), st.floats(0, 1), st.floats(0, 1))
def test_a_place_comes_back_within_half_a_thousandth(width: int, height: int, u: float, v: float) -> None:
    pixels = np.array([u * width, v * height])
    relative = to_relative_1000(pixels, width, height)
    assert ((relative >= 0) & (relative <= 1000)).all()
    assert np.abs(to_pixels(relative, width, height) - pixels) == pytest.approx(0, abs=max(width, height) / 2000 + 1e-6)


@given(st.lists(st.tuples(st.text(), numbers, numbers)), st.text())
def test_text_comes_back(points: list[tuple[str, int, int]], label: str) -> None:
    items = [*(Point(*point) for point in points), Box(label, 1, 2, 30, 40)]
    assert parse_grounding(grounding_text(items)) == items
    assert parse_grounding(f"```json\n{grounding_text(items)}\n```") == items


def test_corners_of_a_picture_are_0_and_1000() -> None:
    assert to_relative_1000([[0, 0], [640, 480], [320.3, 120]], 640, 480).tolist() == [[0, 0], [1000, 1000], [500, 250]]


def test_the_text_is_what_the_brain_learnt() -> None:
    assert grounding_text([Box("cube", 1, 2, 3, 4)]) == '[{"bbox_2d": [1, 2, 3, 4], "label": "cube"}]'
    assert grounding_text([Point("cube", 1, 2)]) == '[{"point_2d": [1, 2], "label": "cube"}]'
    assert grounding_text([]) == "[]"


def test_overlap_and_inside() -> None:
    box = Box("a", 0, 0, 10, 10)
    assert box.overlap(box) == 1
    assert box.overlap(Box("b", 5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert box.overlap(Box("b", 20, 20, 30, 30)) == 0
    assert [box.holds(Point("p", *place)) for place in ((10, 0), (11, 5))] == [True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("at the left", "must be a JSON list; got 'at the left'"),
        ('{"bbox_2d": [1, 2, 3, 4]}', "must be a JSON list"),
        ('[{"bbox_2d": [1, 2, 3]}]', "bbox_2d with 4 numbers or point_2d with 2"),
        ('[{"point_2d": [1, "2"]}]', "point_2d with 2"),
        ('[{"point_2d": [NaN, 2]}]', "point_2d with 2"),
        ('[{"bbox_2d": [1, 2, 3, 1001], "label": "cup"}]', "coordinates of 'cup' must lie in 0..1000"),
        ('[{"bbox_2d": [5, 2, 3, 9], "label": "cup"}]', "left < right and top < bottom"),
    ],
)
def test_malformed_answers_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_grounding(text)


def test_places_outside_the_picture_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must lie in 0\.\.64 and 0\.\.48 px .* got \[\[70\.0, 3\.0\]\]"):
        to_relative_1000([[1, 2], [70, 3]], 64, 48)
    with pytest.raises(ValueError, match=r"must be pairs \(u, v\)"):
        to_relative_1000([1, 2, 3], 64, 48)
