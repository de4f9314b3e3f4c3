"""Several questions about one picture in one conversation: the picture is encoded once, so training costs less."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.scenes.questions import QuestionSet
from cerebella.envs.scenes.shapes import HEIGHT_PX
from cerebella.types import IMAGE_PLACEHOLDER, Conversation, Role


@dataclass(frozen=True, eq=False)
class Dialogues:
    """Conversations about one picture each. For training; an evaluation asks one question at a time.

    Args:
        questions: the set. groups: indices into it, those of one group about one scene, in the order asked.
    """

    questions: QuestionSet
    groups: tuple[tuple[int, ...], ...]
    height: int = HEIGHT_PX

    def __len__(self) -> int:
        """Number of conversations."""
        return len(self.groups)

    def conversations(self, indices: Sequence[int] | NDArray[np.integer]) -> list[Conversation]:
        """By index; pictures are rendered now."""
        chosen = [self.groups[i] for i in indices]
        pictures = self.questions.images([group[0] for group in chosen], self.height)
        return [
            Conversation((picture,), self._turns(group), f"{self.questions.source}/dialogue/{index}")
            for index, group, picture in zip(indices, chosen, pictures, strict=True)
        ]

    def _turns(self, group: tuple[int, ...]) -> tuple[tuple[Role, str], ...]:
        turns: list[tuple[Role, str]] = []
        for question in (self.questions.questions[i] for i in group):
            start = "" if turns else f"{IMAGE_PLACEHOLDER}\n"
            turns.append(("user", f"{start}{question.text}"))
            turns.append(("assistant", question.answer))
        return tuple(turns)


def make_dialogues(questions: QuestionSet, max_turns: int = 4, height: int = HEIGHT_PX) -> Dialogues:
    """Every question of the set exactly once, those about one scene together, at most `max_turns` at a time.

    Raises:
        ValueError: `max_turns` below 1.
    """
    if max_turns < 1:
        raise ValueError(f"max_turns must be 1 or more; got {max_turns}")
    by_scene: dict[int, list[int]] = {}
    for index, question in enumerate(questions.questions):
        by_scene.setdefault(question.scene, []).append(index)
    groups = [
        tuple(asked[start : start + max_turns])
        for asked in by_scene.values()
        for start in range(0, len(asked), max_turns)
    ]
    return Dialogues(questions, tuple(groups), height)
