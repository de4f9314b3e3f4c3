"""Sets of questions about scenes, with balanced answers, as conversations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from cerebella.data.grounding import grounding_text
from cerebella.envs.scenes.families import CANDIDATES, FAMILIES, Proposal, SceneView
from cerebella.envs.scenes.render import render
from cerebella.envs.scenes.scene import COLOURS, LOOKS, Scenes, Split, concatenate, scene_blocks
from cerebella.envs.scenes.shapes import HEIGHT_PX, SHAPES, Outline
from cerebella.envs.scenes.wording import LETTERS, RELATIONS, TEMPLATES, describe, options, with_article
from cerebella.types import IMAGE_PLACEHOLDER, Conversation, ImageArray, SceneTruth

UNANSWERED = "?"
"""Stands for the answer in a conversation that is still to be answered."""

KINDS = (*COLOURS, "gripper", *SHAPES)
"""What dense supervision tells apart; the first six are those of the conveyor's training pictures."""

_LEAD = 2
_MAX_SCENES_PER_QUESTION = 400


@dataclass(frozen=True)
class Question:
    """One question about one picture.

    Args:
        family: a name of `FAMILIES`. subset: a finer label, may be empty.
        text: as asked. answer: what is right, as a model should say it.
        candidates: all answers of the family; empty where it is answered freely.
        scene: index into the scenes of its set. target: place of the object it names first, -1 if none.
        group: rows of one question with rotated options share a group; elsewhere every row has its own.
        outline: of the object to ground; None elsewhere.
    """

    family: str
    subset: str
    text: str
    answer: str
    candidates: tuple[str, ...]
    scene: int
    target: int
    group: int
    outline: Outline | None = None


@dataclass(frozen=True, eq=False)
class QuestionSet:
    """Questions in random order, and the scenes they are about."""

    scenes: Scenes
    questions: tuple[Question, ...]
    source: str

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.questions)

    def images(self, indices: Sequence[int] | NDArray[np.integer], height: int = HEIGHT_PX) -> ImageArray:
        """Rendered now: uint8[n, height, 1.5 * height, 3] RGB."""
        return render(self.scenes.take([self.questions[i].scene for i in indices]), height)

    def conversations(
        self, indices: Sequence[int] | NDArray[np.integer], height: int = HEIGHT_PX, is_answered: bool = True
    ) -> list[Conversation]:
        """One picture, one question, one answer each; `UNANSWERED` in place of the answer if not `is_answered`."""
        pictures = self.images(indices, height)
        return [
            Conversation(
                images=(picture,),
                turns=(
                    ("user", f"{IMAGE_PLACEHOLDER}\n{question.text}"),
                    ("assistant", question.answer if is_answered else UNANSWERED),
                ),
                source=f"{self.source}/{question.family}/{index}",
            )
            for index, question, picture in zip(indices, (self.questions[i] for i in indices), pictures, strict=True)
        ]

    def truth(self, indices: Sequence[int] | NDArray[np.integer], height: int = HEIGHT_PX) -> SceneTruth:
        """Where everything is: every object once as its colour and once as its shape, and the gripper. Kinds: `KINDS`.

        Raises:
            ValueError: one of the questions names no single object.
        """
        chosen = [self.questions[i] for i in indices]
        nameless = next((question for question in chosen if question.target < 0), None)
        if nameless is not None:
            raise ValueError(f"a question of the family {nameless.family!r} names no object: {nameless.text!r}")
        scenes = self.scenes.take([question.scene for question in chosen])
        gripper = np.full((len(chosen), 1), KINDS.index("gripper"))
        has_gripper = scenes.look[:, None] == LOOKS.index("belt")
        kinds = np.concatenate([scenes.colour, KINDS.index(SHAPES[0]) + scenes.shape, gripper], axis=1)
        pixel = np.concatenate([scenes.centre, scenes.centre, scenes.gripper[:, None]], axis=1)
        return SceneTruth(
            is_present=np.concatenate([scenes.is_present, scenes.is_present, has_gripper], axis=1),
            class_index=kinds.astype(np.int64),
            pixel=pixel * np.float32(height / HEIGHT_PX),
            target_index=np.array([question.target for question in chosen], dtype=np.int64),
            num_classes=len(KINDS),
        )


def make_questions(families: Sequence[str], num_per_family: int, seed: int, split: Split) -> QuestionSet:
    """`num_per_family` questions of each family, decided by (families, num_per_family, seed, split).

    Every answer of a family with `CANDIDATES` is given equally often (to within one), and behind every `Proposal.key`
    to within a few. `choice` asks each question four times with rotated options and is rounded up to whole groups.

    Raises:
        ValueError: an unknown family, or fewer than one question.
    """
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or not families or num_per_family < 1:
        raise ValueError(
            f"scenes: families must be some of {', '.join(FAMILIES)} and num_per_family 1 or more; "
            f"got {', '.join(families) or 'none'} and {num_per_family}"
        )
    pool = _Pool(seed, split)
    rows: list[Question] = []
    for family in families:
        random = Random(f"{seed}/{split}/{family}")
        num_proposals = -(-num_per_family // len(LETTERS)) if family == "choice" else num_per_family
        for index, proposal in _balanced(family, num_proposals, pool, random):
            rows += _questions(family, index, proposal, pool.scenes, random, len(rows))
    Random(f"{seed}/{split}").shuffle(rows)
    used = sorted({question.scene for question in rows})
    place = {scene: k for k, scene in enumerate(used)}
    questions = tuple(
        Question(q.family, q.subset, q.text, q.answer, q.candidates, place[q.scene], q.target, q.group, q.outline)
        for q in rows
    )
    return QuestionSet(pool.scenes.take(used), questions, f"scenes/{split}/{seed}")


class _Pool:
    """An endless sequence of scenes, drawn as far as needed."""

    def __init__(self, seed: int, split: Split) -> None:
        self._blocks = scene_blocks(seed, split)
        self.scenes = next(self._blocks)

    def reach(self, index: int) -> None:
        """Make sure that there is a scene `index`; doubles what there is."""
        if index >= len(self.scenes):
            new: list[Scenes] = []
            while sum(len(block) for block in new) < len(self.scenes):
                new.append(next(self._blocks))
            self.scenes = concatenate([self.scenes, *new])


def _balanced(family: str, num: int, pool: _Pool, random: Random) -> list[tuple[int, Proposal]]:
    """(scene, proposal), at most one per scene, no answer ahead of the others behind its key."""
    candidates = ("",) if family == "choice" else CANDIDATES.get(family, ())
    values = (*COLOURS, *SHAPES) if family == "choice" else candidates
    quota = {answer: num // len(values) + (k < num % len(values)) for k, answer in enumerate(values)}
    behind: dict[object, Counter[str]] = {}
    admitted: list[tuple[int, Proposal]] = []
    index = 0
    while len(admitted) < num:
        if index > _MAX_SCENES_PER_QUESTION * (num + 10):
            raise RuntimeError(f"family {family!r}: {len(admitted)} of {num} questions after {index} scenes")
        pool.reach(index)
        for proposal in FAMILIES[family](SceneView(pool.scenes, index), random):
            if quota and not _admits(proposal, quota, behind):
                continue
            admitted.append((index, proposal))
            break
        index += 1
    return admitted


def _admits(proposal: Proposal, quota: dict[str, int], behind: dict[object, Counter[str]]) -> bool:
    """Whether the answer is still wanted; if so, counts it."""
    if not quota[proposal.answer]:
        return False
    seen = behind.setdefault(proposal.key, Counter())
    rivals = COLOURS if proposal.answer in COLOURS else SHAPES if proposal.answer in SHAPES else tuple(quota)
    if seen[proposal.answer] >= min(seen[rival] for rival in rivals) + _LEAD:
        return False
    quota[proposal.answer] -= 1
    seen[proposal.answer] += 1
    return True


def _questions(
    family: str, scene: int, proposal: Proposal, scenes: Scenes, random: Random, group: int
) -> list[Question]:
    """The rows of one proposal: one, or four rotations."""
    template = random.choice(TEMPLATES[family])
    words = {
        "a": with_article(describe(*proposal.first)),
        "first": describe(*proposal.first),
        "second": describe(*proposal.second),
        "plural": describe(*proposal.first, 2),
        "relation": RELATIONS.get(proposal.word, ""),
        "attribute": proposal.word,
    }
    answers = {"": proposal.answer}
    outline = None
    if family == "choice":
        values = COLOURS if proposal.word == "colour" else SHAPES
        others = random.sample([value for value in values if value != proposal.answer], len(LETTERS) - 1)
        first = random.sample([proposal.answer, *others], len(LETTERS))
        turned = [first[k:] + first[:k] for k in range(len(LETTERS))]
        answers = {options(row): LETTERS[row.index(proposal.answer)] for row in turned}
    elif family in ("box", "point"):
        outline = scenes.outline(scene, proposal.target)
        place = outline.box(words["first"]) if family == "box" else outline.point(words["first"])
        answers = {"": grounding_text([place])}
    return [
        Question(
            family=family,
            subset=proposal.subset,
            text=template.format(**words, options=row),
            answer=answer,
            candidates=CANDIDATES.get(family, ()),
            scene=scene,
            target=proposal.target,
            group=group,
            outline=outline,
        )
        for row, answer in answers.items()
    ]
