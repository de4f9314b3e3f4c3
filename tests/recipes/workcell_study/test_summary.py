"""Rows, comparisons and answers from numbers that are easy to check by hand."""

import pytest

from cerebella.envs.workcell.questions import Question
from cerebella.recipes.workcell_study.asking import blind_share, is_right
from cerebella.recipes.workcell_study.comparisons import compare, compare_brains
from cerebella.recipes.workcell_study.summary import brain_rows, summarise
from cerebella.recipes.workcell_study.tables import stream_table
from tests.recipes.workcell_study.made_up_cells import retention, rollout, stream


def test_a_row_joins_its_shards_and_counts_them() -> None:
    [row] = summarise([rollout("default", "prefix", 3, "01", first=2), rollout("default", "prefix", 3, "11")])
    assert list(row.episodes) == [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    assert row.success[0] == 0.75
    assert 0.2 < row.success[1] < 0.35 < 0.94 < row.success[2] < 1.0  # Wilson for 3 of 4
    assert row.parts_per_min[0] == pytest.approx(10 / (4 / 3))  # 3 + 3 + 1 + 3 parts in 4 * 20 s
    assert row.successes_per_min[0] == pytest.approx(3 / (4 / 3))
    assert row.num_seams == 20
    assert row.seam_p50 is not None


def test_rows_come_in_the_order_of_the_page() -> None:
    conditions = [("rtc", "prefix", 3), ("default", "sync", 3), ("default", "prefix", 3), ("expert", "expert", 0)]
    rows = summarise([rollout(*condition, "1") for condition in conditions])
    assert [row.label for row in rows] == ["expert", "prefix", "sync", "rtc, prefix"]


def test_shards_of_other_weights_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="different weights: a, b"):
        summarise([rollout("rtc", "prefix", 3, "1", weights="a"), rollout("rtc", "prefix", 3, "1", 1, weights="b")])


def test_only_common_episodes_are_compared() -> None:
    rows = summarise(
        [
            rollout("default", "prefix", 3, "1111111111"),
            rollout("default", "prefix", 3, "0000000000", first=10),  # nobody else has driven these
            rollout("default", "sync", 3, "0000000000"),
            rollout("default", "naive", 6, "1"),
        ]
    )
    [found] = compare(rows)
    assert (found.first, found.second, found.delay, found.num_pairs) == ("prefix", "sync", 3, 10)
    assert found.success[0] == 1.0
    assert found.p_value == found.p_holm == pytest.approx(2 / 2**10)
    assert found.parts_per_min[0] == pytest.approx((30 - 10) / (10 / 3))


def test_brains_are_compared_with_the_warmed_up_one() -> None:
    cells = [
        retention("no_talk", "1-pretrain_brain", "0000000000"),
        retention("default", "1-pretrain_brain", "1111111111"),
        retention("default", "0-warmup_vision", "1111100000"),
    ]
    assert [cell["name"]["stage"][0] for cell in brain_rows(cells)] == ["0", "1", "1"]
    found = {(each.first, each.second): each for each in compare_brains(cells)}
    assert found["1-pretrain_brain", "0-warmup_vision"].difference[0] == 0.5
    assert found["no_talk: 1-pretrain_brain", "0-warmup_vision"].difference[0] == -0.5
    last = found["1-pretrain_brain", "no_talk: 1-pretrain_brain"]
    assert (last.difference[0], last.num_questions) == (1.0, 20)
    assert last.p_holm == pytest.approx(3 * last.p_value)


def test_a_stream_that_keeps_its_rate() -> None:
    line = stream_table([stream("default", 4)]).splitlines()[-1]
    assert line == "| `default`, 3 ticks | 30 | yes | 120 | 0 | 0 | 4.00 | 4.00 | 500 / 500 | 1.0 |"


@pytest.mark.parametrize(
    ("family", "expected", "said", "right"),
    [
        ("held", "the red brick", "Red brick.", True),
        ("held", "the red brick", "red bricks", False),
        ("count", "2", "2", True),
        ("count", "2", "12", False),
        ("caption", "1 blue brick, 2 red bricks", "2 red bricks, 1 blue brick", True),
        ("box", '[{"bbox_2d": [0, 0, 100, 100], "label": "x"}]', '[{"bbox_2d": [0, 0, 100, 60], "label": "x"}]', True),
        ("box", '[{"bbox_2d": [0, 0, 100, 100], "label": "x"}]', '[{"bbox_2d": [0, 0, 100, 40], "label": "x"}]', False),
        ("box", '[{"bbox_2d": [0, 0, 100, 100], "label": "x"}]', "a box", False),
        ("point", '[{"point_2d": [500, 500], "label": "x"}]', '[{"point_2d": [540, 460], "label": "x"}]', True),
        ("point", '[{"point_2d": [500, 500], "label": "x"}]', '[{"point_2d": [500, 560], "label": "x"}]', False),
    ],
)
def test_right_answers(family: str, expected: str, said: str, right: bool) -> None:
    assert is_right(family, expected, said) == right


def test_who_does_not_look_knows_the_most_frequent_answer_behind_each_key() -> None:
    asked = [("a", "yes"), ("a", "yes"), ("a", "no"), ("b", "no"), ("b", "yes")]
    questions = [Question("present", (key,), "?", answer, 0, (0,)) for key, answer in asked]
    assert blind_share(questions) == pytest.approx(3 / 5)
