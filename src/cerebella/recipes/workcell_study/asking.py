"""What a brain still understands: it answers questions about pictures of demonstrations that nobody has learnt from.

Numbers of a retention cell: `families`, family -> `right` ("0110...", a digit per question, the same questions for every
brain) and `blind`, see `blind_share`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from cerebella.data.grounding import Box, Point
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.envs.scenes.questions import UNANSWERED
from cerebella.envs.workcell.questions import Question, make_questions
from cerebella.envs.workcell.tasks import make_task
from cerebella.evaluation.answering import answerer
from cerebella.evaluation.scoring import MIN_IOU, read_caption, read_place
from cerebella.models.vla import VLA
from cerebella.policies import load_policy
from cerebella.processing.conversation import ConversationProcessor
from cerebella.recipes.workcell_attempt import GenerationSettings
from cerebella.recipes.workcell_data import generate
from cerebella.recipes.workcell_set import PICTURE, TRUTH, read_truth, truth_file
from cerebella.recipes.workcell_study.study import StudyWorkcell
from cerebella.types import IMAGE_PLACEHOLDER, Conversation

FIRST_SEED = 20_000_000
"""Of the held-out demonstrations; far from those that are learnt from."""
NEAR = 50
"""A point counts as found within so many thousandths of the picture's width and height."""
_BATCH = 50
_ARTICLES = {"a", "an", "the"}


def held_out_settings(study: StudyWorkcell) -> GenerationSettings:
    """As the demonstrations that are learnt from, with other seeds."""
    policy = study.policy
    return GenerationSettings(
        render_px=policy.render_px,
        randomisation=policy.randomisation,
        disturb_m=policy.disturb_m,
        first_seed=FIRST_SEED,
    )


def retention_settings(study: StudyWorkcell, weights: str) -> dict[str, Any]:
    """What decides the numbers of a cell."""
    return {
        "weights": weights,
        "task": study.policy.task,
        "held_out_episodes": study.held_out_episodes,
        "questions": study.questions,
        "first_seed": FIRST_SEED,
        "render_px": study.policy.render_px,
    }


def ask(study: StudyWorkcell, brain: Path) -> dict[str, Any]:
    """Make the held-out demonstrations if nobody has, and ask a brain; see the module."""
    generate(make_task(study.policy.task), study.held_out, study.held_out_episodes, held_out_settings(study))
    store = LeRobotStore(study.held_out)
    truths = [read_truth(truth_file(study.held_out / TRUTH, index)) for index in range(len(store))]
    policy = load_policy(brain)
    assert isinstance(policy.model, VLA)
    answer = answerer(policy.model, ConversationProcessor(policy.processor.tokenizer, policy.processor.images))

    def conversation(question: Question) -> Conversation:
        moments = [truths[question.episode].moments[moment] for moment in question.moments]
        pictures = [store.frames(question.episode, PICTURE + m.view, m.frame, m.frame + 1)[0] for m in moments]
        text = f"{IMAGE_PLACEHOLDER}\n" * len(pictures) + question.text
        return Conversation(tuple(pictures), (("user", text), ("assistant", UNANSWERED)), store.name)

    families: dict[str, list[Question]] = defaultdict(list)
    for question in make_questions(truths):
        families[question.family].append(question)
    found = {}
    for family, questions in tqdm(families.items(), "questions", leave=False, disable=not study.show_progress):
        asked = Random(family).sample(questions, min(study.questions, len(questions)))
        found[family] = {"right": _bits(asked, answer, conversation), "blind": round(blind_share(questions), 4)}
    return {"families": found}


def is_right(family: str, expected: str, said: str) -> bool:
    """Boxes: intersection over union of `MIN_IOU` or more. Points: within `NEAR`. Captions: the same kinds in the same numbers.
    Everything else: the same words, without capitals, punctuation and articles.
    """
    if family == "caption":
        return read_caption(said) == read_caption(expected)
    if family in ("box", "point"):
        found, truth = read_place(said), read_place(expected)
        if isinstance(found, Box) and isinstance(truth, Box):
            return found.overlap(truth) >= MIN_IOU
        if isinstance(found, Point) and isinstance(truth, Point):
            return max(abs(found.u - truth.u), abs(found.v - truth.v)) <= NEAR
        return False
    return _words(said) == _words(expected)


def blind_share(questions: Sequence[Question]) -> float:
    """Share of right answers (one family) of somebody who knows, for each key, the best constant answer to these very questions.

    More than an answerer without pictures can reach: it is chosen in hindsight. 0..1.
    """
    groups: dict[tuple[str, ...], list[Question]] = defaultdict(list)
    for question in questions:
        groups[question.key].append(question)
    best = 0
    for group in groups.values():
        answers = {question.answer for question in group}
        best += max(sum(is_right(q.family, q.answer, said) for q in group) for said in answers)
    return best / len(questions)


def _bits(
    asked: Sequence[Question],
    answer: Callable[[Sequence[Conversation]], Sequence[str]],
    conversation: Callable[[Question], Conversation],
) -> str:
    bits = ""
    for start in range(0, len(asked), _BATCH):
        batch = asked[start : start + _BATCH]
        said = answer([conversation(question) for question in batch])
        bits += "".join("01"[is_right(q.family, q.answer, text)] for q, text in zip(batch, said, strict=True))
    return bits


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+|\d+", text.lower()) if word not in _ARTICLES]
