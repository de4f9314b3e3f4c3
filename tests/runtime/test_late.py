"""The table of late answers, row by row."""

from itertools import product

import pytest

from cerebella.runtime.late import Decision, decide

FORESEEN = {"promised_delay": 5, "num_promised": 3, "tolerance": 1.0, "max_discards": 2}


@pytest.mark.parametrize(
    ("consumed", "mismatch", "is_covered", "num_discards", "decision"),
    [
        (0.0, 9.0, True, 0, "in time"),
        (3.0, 9.0, True, 0, "in time"),
        (3.2, 9.0, True, 0, "bridge"),
        (5.0, 9.0, True, 0, "bridge"),
        (4.0, 1.0, True, 0, "close"),
        (9.0, 1.0, True, 0, "close"),
        (9.0, 1.0, False, 2, "close"),
        (5.2, 1.1, True, 0, "discard"),
        (9.0, 9.0, True, 1, "discard"),
        (9.0, 9.0, True, 2, "bridge"),
        (9.0, 9.0, False, 0, "bridge"),
        (9.0, 9.0, False, 2, "bridge"),
    ],
)
def test_the_table(consumed: float, mismatch: float, is_covered: bool, num_discards: int, decision: Decision) -> None:
    answer = decide(consumed=consumed, mismatch=mismatch, is_covered=is_covered, num_discards=num_discards, **FORESEEN)
    assert answer == decision


def test_a_reply_is_never_thrown_away_where_that_could_stop_the_robot_or_go_on_for_ever() -> None:
    for consumed, mismatch, is_covered, num_discards, most in product(
        (0.0, 3.0, 4.5, 6.0, 30.0), (0.0, 2.0, 1e9), (True, False), range(4), range(4)
    ):
        answer = decide(consumed, 5, 3, mismatch, 1.0, is_covered, num_discards, most)
        if answer == "discard":
            assert is_covered
            assert num_discards < most
            assert consumed > 5
            assert mismatch > 1.0
