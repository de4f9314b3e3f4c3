import hashlib

import pytest

from cerebella.processing.prompt import robot_prompt


@pytest.mark.parametrize(
    ("views", "digest"),
    [
        (["base", "left_wrist"], "da5cf98d92209f8d8a904e575be666986143f199d99434cb706939586b086449"),
        (["base"], "40a3884c0aafbaee0a1b73a9848de046ff1a2cfcfa17a455f4ab46463b249bc4"),
        (["ego"], "9886efc6a7985d806180bb8d6136a549253cc77ea068c33d20187addc4b19bba"),
    ],
)
def test_the_template_is_the_released_one_byte_for_byte(views: list[str], digest: str) -> None:
    text = robot_prompt(views, "{TASK}")
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_an_unknown_view_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'top'.*base, ego, left_wrist, right_wrist"):
        robot_prompt(["top"], "fold the towel")
