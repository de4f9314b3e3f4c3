"""How well a brain answers questions about held-out scenes: ask, score, count, compare.

Two protocols. *Generation*: the model writes an answer, as it would for a person. *Likelihood*: it says how probable each
of the given candidates is, and the most probable counts; this asks what a model knows, not whether it keeps the form, and
works for families with candidates only. A result says which one it was; the two are not to be compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from cerebella.envs.scenes.families import CANDIDATES, FAMILIES
from cerebella.envs.scenes.questions import Question, QuestionSet, make_questions
from cerebella.evaluation.chance import constant_chance
from cerebella.evaluation.scoring import Score, score
from cerebella.evaluation.statistics import PairedComparison, compare_paired, wilson_interval
from cerebella.types import Conversation

Answerer = Callable[[Sequence[Conversation]], Sequence[str]]
"""Texts for conversations whose last turn is `UNANSWERED` and stands for the text that is wanted."""
Likelihood = Callable[[Sequence[Conversation], Sequence[Sequence[str]]], Sequence[Sequence[float]]]
"""Log probabilities of the candidates of each conversation, in their order; the last turn is `UNANSWERED`."""
Protocol = Literal["generation", "likelihood"]

_BATCH = 64


@dataclass(frozen=True)
class Item:
    """One question, and what became of it."""

    family: str
    subset: str
    text: str
    expected: str
    said: str
    group: int
    score: Score


@dataclass(frozen=True)
class FamilySummary:
    """One family in numbers; rates in 0..1.

    Args:
        correct, items: counts. accuracy: their ratio, with its Wilson 95 % interval low..high.
        chance: accuracy of the best constant answer on these very items.
        above_chance: (accuracy - chance) / (1 - chance): 0 is guessing, 1 is perfect.
        readable: share of the answers that had the form that was asked for.
        details: yes/no: `yes_rate`, `precision`, `recall`, `f1`, and the accuracy of each subset (POPE 2305.10355);
            choice: `circular`, the share of questions right under all rotations (MMBench 2307.06281); box: `mean_iou`.
    """

    family: str
    correct: int
    items: int
    accuracy: float
    low: float
    high: float
    chance: float
    above_chance: float
    readable: float
    details: Mapping[str, float]


@dataclass(frozen=True)
class VisionLanguageResult:
    """A whole benchmark: every item in the order asked, and one summary per family."""

    protocol: Protocol
    seed: int
    items: tuple[Item, ...]
    summary: tuple[FamilySummary, ...]

    def family(self, name: str) -> FamilySummary:
        """The summary of one family.

        Raises:
            ValueError: it was not asked.
        """
        for row in self.summary:
            if row.family == name:
                return row
        raise ValueError(f"no family {name!r} in this result; it has {', '.join(row.family for row in self.summary)}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `protocol`, `seed`, `summary`, `items`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VisionLanguageResult":
        """What `as_dict` gave, from JSON."""
        items = tuple(Item(**{**item, "score": Score(**item["score"])}) for item in values["items"])
        summary = tuple(FamilySummary(**row) for row in values["summary"])
        return cls(values["protocol"], values["seed"], items, summary)


def benchmark(
    answer: Answerer, families: Sequence[str] = tuple(FAMILIES), num_items: int = 1000, seed: int = 0
) -> VisionLanguageResult:
    """Generation protocol on `num_items` held-out questions per family; the same seed asks the same questions."""
    return ask(answer, make_questions(families, num_items, seed, "held_out"), seed)


def benchmark_likelihood(
    likelihood: Likelihood, families: Sequence[str] = tuple(CANDIDATES), num_items: int = 1000, seed: int = 0
) -> VisionLanguageResult:
    """Likelihood protocol on `num_items` held-out questions per family.

    Raises:
        ValueError: a family without candidates.
    """
    return ask_likelihood(likelihood, make_questions(families, num_items, seed, "held_out"), seed)


def ask(answer: Answerer, questions: QuestionSet, seed: int = 0, batch_size: int = _BATCH) -> VisionLanguageResult:
    """Ask every question of a set, `batch_size` of one family at a time: their answers are of like length.

    Raises:
        ValueError: the answerer returns another number of answers.
    """
    said = [""] * len(questions)
    order = sorted(range(len(questions)), key=lambda i: questions.questions[i].family)
    for start in tqdm(range(0, len(order), batch_size), "questions", unit="batch", disable=None, leave=False):
        indices = order[start : start + batch_size]
        answers = answer(questions.conversations(indices, is_answered=False))
        if len(answers) != len(indices):
            raise ValueError(f"the answerer gave {len(answers)} answers to {len(indices)} questions")
        for index, text in zip(indices, answers, strict=True):
            said[index] = text
    return _result("generation", seed, questions, said)


def ask_likelihood(
    likelihood: Likelihood, questions: QuestionSet, seed: int = 0, batch_size: int = _BATCH
) -> VisionLanguageResult:
    """Let a model choose among the candidates of every question of a set.

    Raises:
        ValueError: a question without candidates, or numbers that do not fit them or are NaN.
    """
    said: list[str] = []
    for start in range(0, len(questions), batch_size):
        indices = range(start, min(start + batch_size, len(questions)))
        candidates = [questions.questions[i].candidates for i in indices]
        if not all(candidates):
            free = next(questions.questions[i].family for i in indices if not questions.questions[i].candidates)
            raise ValueError(f"the family {free!r} has no candidates; those that have: {', '.join(CANDIDATES)}")
        said += choose(likelihood(questions.conversations(indices, is_answered=False), candidates), candidates)
    return _result("likelihood", seed, questions, said)


def choose(log_probabilities: Sequence[Sequence[float]], candidates: Sequence[Sequence[str]]) -> list[str]:
    """The most probable candidate of each row; the first among equals.

    Raises:
        ValueError: rows of another length, or NaN.
    """
    if len(log_probabilities) != len(candidates):
        raise ValueError(f"{len(log_probabilities)} rows of log probabilities for {len(candidates)} questions")
    chosen = []
    for values, names in zip(log_probabilities, candidates, strict=True):
        if len(values) != len(names) or np.isnan(values).any():
            raise ValueError(
                f"log probabilities of {', '.join(names)} must be {len(names)} numbers; got {list(values)}"
            )
        chosen.append(names[int(np.argmax(values))])
    return chosen


def compare(first: VisionLanguageResult, second: VisionLanguageResult) -> dict[str, PairedComparison]:
    """Accuracy of `first` minus that of `second` on the same questions, per family and over `all` of them.

    Raises:
        ValueError: they were not asked the same questions in the same way.
    """
    same = [(item.family, item.text, item.expected, item.group) for item in first.items] == [
        (item.family, item.text, item.expected, item.group) for item in second.items
    ]
    if not same or (first.protocol, first.seed) != (second.protocol, second.seed):
        raise ValueError(
            "a paired comparison needs the same questions and protocol; got "
            f"{len(first.items)} items (seed {first.seed}, {first.protocol}) and "
            f"{len(second.items)} (seed {second.seed}, {second.protocol})"
        )
    pairs = [(a.family, a.score.is_correct, b.score.is_correct) for a, b in zip(first.items, second.items, strict=True)]
    names = [row.family for row in first.summary]
    chosen = {name: [(a, b) for family, a, b in pairs if family == name] for name in names}
    chosen["all"] = [(a, b) for _, a, b in pairs]
    return {name: compare_paired([a for a, _ in rows], [b for _, b in rows]) for name, rows in chosen.items()}


def _result(protocol: Protocol, seed: int, questions: QuestionSet, said: Sequence[str]) -> VisionLanguageResult:
    asked = questions.questions
    items = tuple(
        Item(q.family, q.subset, q.text, q.answer, text, q.group, score(q, text))
        for q, text in zip(asked, said, strict=True)
    )
    families = dict.fromkeys(question.family for question in asked)
    ordered = [family for family in FAMILIES if family in families]
    summary = tuple(
        _summarise(
            family,
            [question for question in asked if question.family == family],
            [item for item in items if item.family == family],
        )
        for family in ordered
    )
    return VisionLanguageResult(protocol, seed, items, summary)


def _summarise(family: str, questions: Sequence[Question], items: Sequence[Item]) -> FamilySummary:
    num_correct = sum(item.score.is_correct for item in items)
    low, high = wilson_interval(num_correct, len(items))
    accuracy, chance = num_correct / len(items), constant_chance(questions)
    return FamilySummary(
        family=family,
        correct=num_correct,
        items=len(items),
        accuracy=accuracy,
        low=low,
        high=high,
        chance=chance,
        above_chance=(accuracy - chance) / (1.0 - chance) if chance < 1.0 else 0.0,
        readable=sum(item.score.is_readable for item in items) / len(items),
        details=_details(family, items),
    )


def _details(family: str, items: Sequence[Item]) -> dict[str, float]:
    if CANDIDATES.get(family) == ("yes", "no"):
        return _yes_no_details(items)
    if family == "choice":
        groups: dict[int, bool] = {}
        for item in items:
            groups[item.group] = groups.get(item.group, True) and item.score.is_correct
        return {"circular": sum(groups.values()) / len(groups)}
    if family == "box":
        return {"mean_iou": float(np.mean([item.score.overlap or 0.0 for item in items]))}
    return {}


def _yes_no_details(items: Sequence[Item]) -> dict[str, float]:
    """`yes` is the positive class; an unreadable answer is neither yes nor no."""
    said_yes = [item.score.is_readable and item.score.is_correct == (item.expected == "yes") for item in items]
    is_yes = [item.expected == "yes" for item in items]
    hits = sum(a and b for a, b in zip(said_yes, is_yes, strict=True))
    precision = hits / sum(said_yes) if any(said_yes) else 0.0
    recall = hits / sum(is_yes) if any(is_yes) else 0.0
    details = {
        "yes_rate": sum(said_yes) / len(items),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
    }
    for subset in sorted({item.subset for item in items} - {""}):
        chosen = [item.score.is_correct for item in items if item.subset == subset]
        details[f"accuracy_{subset}"] = sum(chosen) / len(chosen)
    return details
