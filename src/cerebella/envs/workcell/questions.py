"""Questions with exact answers about the pictures of demonstrations, evened out over all of them.

A pure function of what was written down (`EpisodeTruth`): no simulator and no picture is needed.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

from cerebella.envs.workcell.episode_truth import EpisodeTruth
from cerebella.envs.workcell.question_families import FAMILIES, TEMPLATES, MomentView, Proposal, describe

LATER = ("first", "second")
_LATER_TEMPLATES = (
    'Both pictures are of one attempt at "{prompt}". Which was taken later: the first or the second?',
    'First or second: which picture shows "{prompt}" further on?',
)
_MIN_APART = 0.1
_MOVED_M = 0.03
_MOST_PROPOSALS = 16


@dataclass(frozen=True)
class Question:
    """One question.

    Args:
        family: a name of `FAMILIES`, or `later`, which is about two pictures. key: see `Proposal`, with the view.
        text: as asked. answer: what is right.
        episode: which of the episodes. moments: which of its moments: one, or two.
    """

    family: str
    key: tuple[str, ...]
    text: str
    answer: str
    episode: int
    moments: tuple[int, ...]


def make_questions(truths: Sequence[EpisodeTruth], seed: int = 0) -> tuple[Question, ...]:
    """At most one question of each family about each moment, decided by (truths, seed), in order of family.

    Behind every key the answers are `evened`. What never changes in these episodes is not asked: whoever has seen the others
    would answer it blindly.
    """
    vocabulary = sorted({describe(s) for truth in truths for moment in truth.moments for s in moment.sightings})
    asked: list[Question] = []
    for family, propose in FAMILIES.items():
        random = Random(f"{seed}/{family}")
        found: list[tuple[int, int, Proposal]] = []
        for episode, truth in enumerate(truths):
            for index, moment in enumerate(truth.moments):
                proposed = propose(MomentView(truth, moment), vocabulary, random)
                if proposals := list(islice(proposed, _MOST_PROPOSALS)):
                    found.append((episode, index, random.choice(proposals)))
        keys = [(truths[e].moments[m].view, *proposal.key) for e, m, proposal in found]
        values = [proposal.evened or proposal.answer for _, _, proposal in found]
        for row in evened(keys, values, random):
            episode, index, proposal = found[row]
            text = random.choice(TEMPLATES[family]).format(**proposal.words)
            asked.append(Question(family, keys[row], text, proposal.answer, episode, (index,)))
    return (*asked, *_which_is_later(truths, Random(f"{seed}/later")))


def evened(keys: Sequence[tuple[str, ...]], values: Sequence[str], random: Random) -> list[int]:
    """Rows to keep, in order, so that behind each key no value stands out.

    Of the values of a key, the j most frequent are cut to the same number, that of the j-th; rarer ones stay. j is at least 2
    and keeps the most rows, so whoever always gives the most frequent value is right in at most 1 of j. A key with one
    value is left out.
    """
    groups: dict[tuple[str, ...], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (key, value) in enumerate(zip(keys, values, strict=True)):
        groups[key][value].append(row)
    kept: list[int] = []
    for by_value in groups.values():
        sizes = sorted((len(rows) for rows in by_value.values()), reverse=True)
        if len(sizes) < 2:
            continue
        most = max(sizes[1:], key=lambda size: size * sum(other >= size for other in sizes))
        for rows in by_value.values():
            kept += rows if len(rows) <= most else random.sample(rows, most)
    return sorted(kept)


def blind_accuracy(questions: Sequence[Question]) -> dict[str, float]:
    """Per family, how often the most frequent answer behind its key is right: the best that an answerer without picture can
    do. 0..1."""
    groups: dict[tuple[str, tuple[str, ...]], Counter[str]] = defaultdict(Counter)
    for question in questions:
        groups[question.family, question.key][question.answer] += 1
    right, total = Counter[str](), Counter[str]()
    for (family, _), answers in groups.items():
        right[family] += max(answers.values())
        total[family] += sum(answers.values())
    return {family: right[family] / total[family] for family in total}


def dialogues(questions: Sequence[Question]) -> list[tuple[Question, ...]]:
    """All questions about one picture together, in random order with captions last; those about two pictures alone. In order
    of episode and moment.
    """
    groups: dict[tuple[int, tuple[int, ...]], list[Question]] = defaultdict(list)
    for question in questions:
        groups[question.episode, question.moments].append(question)
    return [tuple(_ordered(groups[place], Random(str(place)))) for place in sorted(groups)]


def _ordered(questions: list[Question], random: Random) -> list[Question]:
    return sorted(random.sample(questions, len(questions)), key=lambda question: question.family == "caption")


def _which_is_later(truths: Sequence[EpisodeTruth], random: Random) -> Iterator[Question]:
    """One pair of an episode's moments of each view, a tenth of the episode or more apart, between which something moved; both
    answers as often, to within one.
    """
    right = LATER.index(random.choice(LATER))
    for episode, truth in enumerate(truths):
        for view in sorted({moment.view for moment in truth.moments}):
            frames = {index: moment.frame for index, moment in enumerate(truth.moments) if moment.view == view}
            apart = max(1, _MIN_APART * truth.num_frames)
            pairs = [(a, b) for a in frames for b in frames if frames[b] - frames[a] >= apart and _differ(truth, a, b)]
            if pairs:
                early, late = random.choice(pairs)
                right = 1 - right
                shown = (early, late) if right else (late, early)
                text = random.choice(_LATER_TEMPLATES).format(prompt=truth.prompt)
                yield Question("later", (), text, LATER[right], episode, shown)


def _differ(truth: EpisodeTruth, first: int, second: int) -> bool:
    """Whether a tool or an object moved between two moments."""
    one, other = (
        [*m.tool_m.values(), *(s.position_m for s in m.sightings)]
        for m in (truth.moments[first], truth.moments[second])
    )
    return any(math.dist(a, b) >= _MOVED_M for a, b in zip(one, other, strict=False))
