import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cerebella.envs.scenes.families import CANDIDATES, FAMILIES
from cerebella.envs.scenes.questions import UNANSWERED, QuestionSet, make_questions
from cerebella.evaluation.chance import constant_chance
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.evaluation.statistics import wilson_interval
from cerebella.evaluation.vision_language import (
    VisionLanguageResult,
    ask,
    ask_likelihood,
    benchmark,
    benchmark_likelihood,
    choose,
    compare,
)
from cerebella.evaluation.vision_language_report import retention_record, write_retention
from cerebella.types import Conversation

NUM = 120


@pytest.fixture(scope="module")
def asked() -> QuestionSet:
    return make_questions(tuple(FAMILIES), NUM, 0, "held_out")


def answer_with(questions: QuestionSet, wrong_share: float = 0.0) -> VisionLanguageResult:
    """Knows every answer; says nonsense to the first part of the questions, in whatever order they come."""
    num_wrong = round(wrong_share * len(questions))

    def answer(conversations: Sequence[Conversation]) -> list[str]:
        indices = [int(conversation.source.rpartition("/")[2]) for conversation in conversations]
        return ["?!" if index < num_wrong else questions.questions[index].answer for index in indices]

    return ask(answer, questions)


def always(word: str, asked: QuestionSet) -> VisionLanguageResult:
    return ask(lambda conversations: [word] * len(conversations), asked)


def test_who_knows_everything_gets_everything(asked: QuestionSet) -> None:
    result = answer_with(asked)
    assert [row.family for row in result.summary] == list(FAMILIES)
    for row in result.summary:
        assert (row.correct, row.items, row.accuracy, row.above_chance, row.readable) == (NUM, NUM, 1.0, 1.0, 1.0)
        assert (row.low, row.high) == wilson_interval(NUM, NUM)
    assert result.family("present").details["f1"] == 1.0
    assert result.family("choice").details["circular"] == 1.0
    assert result.family("box").details["mean_iou"] == pytest.approx(1.0)


def test_always_yes_has_the_known_values(asked: QuestionSet) -> None:
    """Accuracy 50, F1 66.7: what POPE gives to a model that always says yes."""
    result = always("Yes", asked)
    for family in ("present", "relation"):
        row = result.family(family)
        assert (row.accuracy, row.chance, row.above_chance) == (0.5, 0.5, 0.0)
        assert row.details["f1"] == pytest.approx(2 / 3)
        assert (row.details["precision"], row.details["recall"], row.details["yes_rate"]) == (0.5, 1.0, 1.0)
    count = result.family("count")
    assert (count.correct, count.readable) == (0, 0.0)
    assert count.above_chance == pytest.approx(-0.25)


def test_always_a_has_the_known_values(asked: QuestionSet) -> None:
    """A quarter of the rows, and no question in all its rotations (MMBench)."""
    row = always("A", asked).family("choice")
    assert (row.accuracy, row.chance) == (0.25, 0.25)
    assert row.details["circular"] == 0.0


def test_always_no_is_no_better(asked: QuestionSet) -> None:
    row = always("no", asked).family("present")
    assert (row.accuracy, row.details["f1"], row.details["recall"]) == (0.5, 0.0, 0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_chance_level_is_what_the_best_constant_reaches(asked: QuestionSet, family: str) -> None:
    questions = [question for question in asked.questions if question.family == family]
    chance = constant_chance(questions)
    if family in CANDIDATES:
        assert chance == pytest.approx(1 / len(CANDIDATES[family]))
    best = max(
        always(answer, replace(asked, questions=tuple(questions))).summary[0].accuracy
        for answer in sorted({question.answer for question in questions})[:10]
    )
    assert best <= chance <= 0.5


def test_the_answer_is_not_told(asked: QuestionSet) -> None:
    def listen(conversations: Sequence[Conversation]) -> list[str]:
        assert all(c.turns[-1] == ("assistant", UNANSWERED) and len(c.turns) == 2 for c in conversations)
        assert all(c.images[0].shape == (64, 96, 3) for c in conversations)
        return [""] * len(conversations)

    assert all(row.readable == 0.0 for row in ask(listen, asked).summary)


def test_the_benchmark_is_decided_by_its_seed() -> None:
    first, again, other = (benchmark(lambda c: ["red"] * len(c), ["colour"], 40, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.items != other.items
    assert not {item.said for item in first.items} - {"red"}


def test_likelihood_chooses_among_the_candidates() -> None:
    def prefers_last(_: Sequence[Conversation], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        return [[float(k) for k in range(len(row))] for row in candidates]

    result = benchmark_likelihood(prefers_last, ["count", "present"], 50)
    assert {(item.family, item.said) for item in result.items} == {("count", "4"), ("present", "no")}
    assert result.protocol == "likelihood"
    assert all(row.readable == 1.0 for row in result.summary)
    assert choose([[-1.0, -1.0], [-3.0, -2.0]], [("a", "b"), ("a", "b")]) == ["a", "b"]


def test_likelihood_errors_name_what_is_wrong(asked: QuestionSet) -> None:
    with pytest.raises(ValueError, match=r"family '(caption|box|point)' has no candidates"):
        ask_likelihood(lambda c, names: [[0.0] * len(n) for n in names], asked)
    with pytest.raises(ValueError, match="a, b must be 2 numbers"):
        choose([[math.nan, 0.0]], [("a", "b")])
    with pytest.raises(ValueError, match="1 rows"):
        choose([[0.0]], [])
    with pytest.raises(ValueError, match="3 answers to"):
        ask(lambda _: ["", "", ""], asked)


def test_a_comparison_pairs_the_same_questions(asked: QuestionSet) -> None:
    before, after = answer_with(asked), answer_with(asked, wrong_share=0.25)
    paired = compare(after, before)["all"]
    assert paired.difference == pytest.approx(-0.25)
    assert (paired.num_only_first, paired.num_only_second) == (0, len(asked) // 4)
    assert paired.low < -0.25 < paired.high
    assert set(compare(after, before)) == {*FAMILIES, "all"}
    with pytest.raises(ValueError, match="same questions"):
        compare(before, benchmark(lambda c: ["red"] * len(c), ["colour"], 40))


def test_the_report_and_its_record(asked: QuestionSet, tmp_path: Path) -> None:
    results = {"before": answer_with(asked), "after <without>": answer_with(asked, 0.5)}
    page, record = write_retention(tmp_path / "retention.html", results, run_fingerprint(0), asked)
    text = page.read_text()
    assert "after &lt;without&gt;" in text
    assert text.count("data:image/png;base64,") == 2
    assert "http" not in text
    assert all(f"<td>{family}</td>" in text for family in FAMILIES)
    content = json.loads(record.read_text())
    assert content["differences"]["after <without>"]["all"]["difference"] == pytest.approx(-0.5)
    assert len(content["results"]["before"]["items"]) == len(asked)
    assert content["results"]["before"]["summary"][0]["family"] == "caption"


def test_a_report_without_sense_is_an_error(asked: QuestionSet) -> None:
    with pytest.raises(ValueError, match="at least one result"):
        retention_record({}, {})
    other = make_questions(["colour"], 10, 3, "held_out")
    with pytest.raises(ValueError, match="question set"):
        write_retention(Path("unused.html"), {"before": answer_with(asked)}, {}, other)
