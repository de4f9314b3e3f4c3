"""Every answer is worked out again here, from the words of the question and what was true, by other means."""

import json
import random
import re
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from cerebella.envs.workcell.episode_truth import EpisodeTruth, Hold, Moment, Sighting
from cerebella.envs.workcell.question_families import FAMILIES, plural
from cerebella.envs.workcell.questions import Question, blind_accuracy, dialogues, evened, make_questions

CLOSED = (
    "caption",
    "present",
    "count",
    "colour",
    "relation",
    "where",
    "held",
    "nearer",
    "subtask",
    "progress",
    "later",
)
KINDS = [f"{colour} {kind}" for colour in ("red", "blue", "green") for kind in ("brick", "box")]
PROMPTS = ("take it apart", "sort the bricks")


def make_truth(seed: int) -> EpisodeTruth:
    """An episode that nobody played: objects jump about, some are hidden."""
    rng = random.Random(seed)
    num_frames = rng.randint(60, 120)
    colours, kinds = ("red", "blue", "green"), ("brick", "box")
    objects = [(f"thing_{i}", rng.choice(colours), rng.choice(kinds)) for i in range(rng.randint(2, 5))]
    holds = tuple(
        Hold(side, rng.choice(objects)[0], start, start + 12)
        for side in ("left", "right")
        for start in range(rng.randint(0, 20), num_frames - 12, 30)
        if rng.random() < 0.8
    )
    moments = tuple(make_moment(rng, frame, objects) for frame in range(rng.randint(0, 5), num_frames, 6))
    return EpisodeTruth(rng.choice(PROMPTS), num_frames, holds, moments)


def make_moment(rng: random.Random, frame: int, objects: list[tuple[str, str, str]]) -> Moment:
    seen = []
    for name, colour, kind in objects:
        left, top = rng.uniform(0, 200), rng.uniform(0, 150)
        box = (left, top, left + rng.uniform(5, 24), top + rng.uniform(5, 10))
        share = rng.choice([0.0, 0.3, 0.7, 1.0, 1.0])
        place = (rng.uniform(0.2, 0.4), rng.uniform(-0.2, 0.2), 0.01)
        seen.append(Sighting(name, kind, colour, place, None if rng.random() < 0.1 else box, share))
    view = rng.choice(["base", "base", "left_wrist", "right_wrist"])
    return Moment(frame, view, (160, 224), tuple(seen), {"left": (0.3, 0.1, 0.2), "right": (0.3, -0.1, 0.2)})


@pytest.fixture(scope="module")
def truths() -> list[EpisodeTruth]:
    return [make_truth(seed) for seed in range(30)]


@pytest.fixture(scope="module")
def questions(truths: list[EpisodeTruth]) -> tuple[Question, ...]:
    return make_questions(truths, seed=1)


def named(moment: Moment, text: str) -> list[Sighting]:
    """The visible objects that a question names, in the order in which it does; each must fit one object only."""
    places = {}
    for what in {f"{s.colour} {s.kind}" for s in moment.sightings}:
        if what in text:
            (places[text.index(what)],) = [
                s for s in moment.sightings if f"{s.colour} {s.kind}" == what and is_there(s)
            ]
    return [places[place] for place in sorted(places)]


def is_there(seen: Sighting) -> bool:
    return seen.box_px is not None and seen.seen > 0.0


def middle(seen: Sighting) -> tuple[float, float]:
    assert seen.box_px is not None
    return (seen.box_px[0] + seen.box_px[2]) / 2, (seen.box_px[1] + seen.box_px[3]) / 2


def is_right(question: Question, truth: EpisodeTruth) -> bool:
    moment = truth.moments[question.moments[0]]
    text, answer = question.text, question.answer
    there = Counter(f"{s.colour} {s.kind}" for s in moment.sightings if is_there(s))
    if question.family == "caption":
        parts = [] if answer == "nothing" else [part.split(" ", 1) for part in answer.split(", ")]
        return {what: int(n) for n, what in parts} == {(k if n == 1 else plural(k)): n for k, n in there.items()}
    if question.family == "present":
        (what,) = [kind for kind in KINDS if re.search(rf"\b{kind}\b", text)]
        return (answer == "yes") == (there[what] > 0)
    if question.family == "count":
        (what,) = [kind for kind in KINDS if plural(kind) in text]
        return int(answer) == there[what]
    if question.family == "colour":
        (kind,) = [kind for kind in ("brick", "box") if kind in text]
        return [s.colour for s in moment.sightings if s.kind == kind and is_there(s)] == [answer]
    if question.family in ("relation", "where"):
        first, second = named(moment, text)
        if text.startswith("On which side of"):
            first, second = second, first
        (u, v), (other_u, other_v) = middle(first), middle(second)
        holds = {"left": u < other_u, "right": u > other_u, "above": v < other_v, "below": v > other_v}
        if question.family == "where":
            return holds[answer]
        (word,) = [word for word in holds if f" {word} " in text]
        return holds[word] == (answer == "yes")
    if question.family == "box":
        (entry,) = json.loads(answer)
        (seen,) = named(moment, text)
        assert seen.box_px is not None
        scaled = [value / size * 1000 for value, size in zip(seen.box_px, (224, 160, 224, 160), strict=True)]
        return all(0 <= a <= 1000 and abs(a - b) <= 0.51 for a, b in zip(entry["bbox_2d"], scaled, strict=True))
    if question.family == "point":
        (entry,) = json.loads(answer)
        (seen,) = named(moment, text)
        assert seen.box_px is not None
        u, v = entry["point_2d"][0] * 0.224, entry["point_2d"][1] * 0.16
        return seen.box_px[0] <= u <= seen.box_px[2] and seen.box_px[1] <= v <= seen.box_px[3]
    if question.family == "nearer":
        (seen,) = named(moment, text)
        return answer == ("left" if seen.position_m[1] > 0 else "right")
    if question.family == "progress":
        share = moment.frame / truth.num_frames
        return answer == ("beginning" if share < 1 / 3 else "middle" if share < 2 / 3 else "end")
    if question.family == "later":
        first, second = (truth.moments[m] for m in question.moments)
        return first.view == second.view and (first.frame > second.frame) == (answer == "first")
    (side,) = [side for side in ("left", "right") if f"the {side} " in text]
    mine = [hold for hold in truth.holds if hold.side == side]
    kinds = {s.name: f"the {s.colour} {s.kind}" for s in moment.sightings}
    now = [kinds[hold.name] for hold in mine if hold.start <= moment.frame < hold.stop]
    if question.family == "held":
        return answer == (now[0] if now else "nothing")
    coming = [kinds[hold.name] for hold in mine if hold.start > moment.frame]
    return answer == (f"hold and bring {now[0]}" if now else f"fetch {coming[0]}" if coming else "nothing")


def test_every_answer_is_right(truths: list[EpisodeTruth], questions: tuple[Question, ...]) -> None:
    wrong = [question for question in questions if not is_right(question, truths[question.episode])]
    assert wrong == []
    asked = Counter(question.family for question in questions)
    assert set(asked) == {*FAMILIES, "later"}
    assert min(asked.values()) >= 10


def test_a_blind_answerer_gains_little(questions: tuple[Question, ...]) -> None:
    blind = blind_accuracy(questions)
    for family in CLOSED:
        assert blind[family] <= 0.51, family
    behind = defaultdict(Counter)
    for question in questions:
        if question.family in ("present", "relation"):
            behind[question.family, question.key][question.answer] += 1
    assert all(answers["yes"] == answers["no"] > 0 for answers in behind.values())


def test_questions_depend_on_the_seed_alone(truths: list[EpisodeTruth], questions: tuple[Question, ...]) -> None:
    assert make_questions(truths, seed=1) == questions
    assert make_questions(truths, seed=2) != questions


def test_evened_keeps_as_many_rows_as_it_can() -> None:
    values = ["a"] * 9 + ["b"] * 4 + ["c"] * 1 + ["d"] * 5
    keys = [("x",)] * 14 + [("only d",)] * 5
    kept = Counter(values[row] for row in evened(keys, values, random.Random(0)))
    assert kept == {"a": 4, "b": 4, "c": 1}


def test_dialogues_hold_every_question_once_captions_last(questions: tuple[Question, ...]) -> None:
    groups = dialogues(questions)
    assert sorted(map(str, questions)) == sorted(str(question) for group in groups for question in group)
    assert all(len({(q.episode, q.moments) for q in group}) == 1 for group in groups)
    assert all(question.family != "caption" for group in groups for question in group[:-1])


def test_a_part_that_is_not_here_yet_is_not_asked_about(truths: list[EpisodeTruth]) -> None:
    """A belt brings parts that the pictures before did not have: the next grip may be of one of them."""
    start = truths[0]
    late = replace(start.moments[-1].sightings[0], name="late", colour="green")
    first, *others = start.moments
    others = [replace(moment, sightings=(*moment.sightings, late)) for moment in others]
    hold = Hold("left", "late", start.num_frames - 20, start.num_frames)
    truth = replace(start, holds=(hold,), moments=(replace(first, view="left_wrist"), *others))
    made = make_questions([truth] * 8, seed=0)
    asked = [question for question in made if question.family == "subtask"]
    assert any(question.moments[0] > 0 for question in asked)
    assert all(question.moments[0] > 0 for question in asked if "left" in question.text)
