"""The vision-language companion of a set of demonstrations: conversations about its own pictures, from the truth beside them."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.records import write_records
from cerebella.envs.workcell.episode_truth import EpisodeTruth
from cerebella.envs.workcell.questions import Question, blind_accuracy, dialogues, make_questions
from cerebella.recipes.workcell_set import COMPANION, PICTURE, RECORDS, TRUTH, read_truth, truth_file
from cerebella.types import IMAGE_PLACEHOLDER, Conversation, ImageArray, Role


@dataclass(frozen=True)
class Companion:
    """What was written.

    Args:
        num_conversations: one picture each, or two. num_questions: in all of them.
        blind: family -> share of right answers of the best answerer without pictures, see `questions.blind_accuracy`.
    """

    num_conversations: int
    num_questions: int
    blind: dict[str, float]


def write_companion(directory: Path, seed: int = 0) -> Companion:
    """Write `companion/conversations.jsonl` and its pictures (JPEG) into a set that has a `truth/` folder.

    Pictures are those of the videos. An earlier companion is replaced, as a whole.

    Args:
        directory: a finished set. seed: of the choice among questions and wordings.
    """
    store = LeRobotStore(directory)
    truths = [read_truth(truth_file(directory / TRUTH, index)) for index in range(len(store))]
    questions = make_questions(truths, seed)
    groups = dialogues(questions)
    final, partial = directory / COMPANION, directory / f"{COMPANION}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    write_records(partial / RECORDS, _conversations(store, truths, groups), "jpg")
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    return Companion(len(groups), len(questions), blind_accuracy(questions))


def _conversations(
    store: LeRobotStore, truths: Sequence[EpisodeTruth], groups: Sequence[tuple[Question, ...]]
) -> Iterator[Conversation]:
    for number, group in enumerate(groups):
        truth, episode = truths[group[0].episode], group[0].episode
        pictures = tuple(_picture(store, truth, episode, moment) for moment in group[0].moments)
        turns: list[tuple[Role, str]] = []
        for question in group:
            start = "" if turns else f"{IMAGE_PLACEHOLDER}\n" * len(pictures)
            turns.append(("user", f"{start}{question.text}"))
            turns.append(("assistant", question.answer))
        yield Conversation(pictures, tuple(turns), f"{store.name}, conversation {number}")


def _picture(store: LeRobotStore, truth: EpisodeTruth, episode: int, index: int) -> ImageArray:
    moment = truth.moments[index]
    return store.frames(episode, PICTURE + moment.view, moment.frame, moment.frame + 1)[0]
