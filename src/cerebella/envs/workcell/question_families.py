"""What can be asked about one moment of a demonstration: every family proposes questions together with their exact answers.

A proposal carries a `key`: all in its text that could betray the answer (what it names, the instruction, the view). `questions`
admits proposals so that behind a key no answer stands out: an answerer who reads the question but is blind gains little.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from cerebella.arms import Side
from cerebella.data.grounding import FULL_SCALE, Box, Point, grounding_text, to_relative_1000
from cerebella.envs.scenes.wording import RELATIONS, with_article
from cerebella.envs.scenes.wording import TEMPLATES as SCENE_TEMPLATES
from cerebella.envs.workcell.episode_truth import SIDES, EpisodeTruth, Hold, Moment, Sighting

CLEAR_SHARE = 0.6
"""An object of which so much is seen is in the picture; one of which nothing is seen is not. Between them: not asked about."""
MIN_AREA_SHARE = 0.0006
"""Of the picture, for the box around an object that is asked about (30 px in 224 x 224)."""
MARGIN_SHARE = 0.06
"""Two boxes whose middles are this far apart (of the picture's height) have a clear order along that axis."""
MARGIN_M = 0.05
"""An arm is nearer than the other by at least this."""
MARGIN_FRAMES = 3
"""Nothing is asked about a grip so near its start or end."""
PROGRESS = ("beginning", "middle", "end")
NOTHING = "nothing"
_DOMINANCE = 1.5
_CELLS = 10

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    **{name: SCENE_TEMPLATES[name] for name in ("present", "relation", "count", "colour", "where", "box", "point")},
    "caption": (
        "Describe the objects in the picture.",
        "Which objects are in the picture, and how many of each?",
        "List the objects that you see.",
    ),
    "held": (
        "What does the {side} gripper hold?",
        "Which object is in the {side} gripper?",
        "Name what the {side} gripper holds.",
    ),
    "nearer": (
        "Which gripper is nearer to the {first}: left or right?",
        "Left or right: which gripper is closer to the {first}?",
    ),
    "subtask": (
        'The task is "{prompt}". What is the {side} arm to do at this moment?',
        'The robot was told "{prompt}". Which step is the {side} arm at?',
    ),
    "progress": (
        'The task is "{prompt}". Is this the beginning, the middle or the end of it?',
        'The robot was told "{prompt}". Beginning, middle or end: how far is it?',
    ),
}
"""Family -> how it is asked."""


@dataclass(frozen=True)
class Proposal:
    """One question.

    Args:
        key: what its text gives away, together with the view. answer: as a model should say it. words: for the template.
        evened: what has to be even behind a key, if it is not the answer itself.
    """

    key: tuple[str, ...]
    answer: str
    words: Mapping[str, str]
    evened: str = ""


class MomentView:
    """One moment as it can be asked about.

    Attributes:
        clear: objects that are in the picture for certain. is_certain: every other object is not in it, for certain.
        unique: description -> the only object that it fits.
    """

    def __init__(self, truth: EpisodeTruth, moment: Moment) -> None:
        """See the class."""
        self.truth, self.moment = truth, moment
        height, width = moment.size_px
        in_picture = [s for s in moment.sightings if s.box_px is not None and s.seen > 0]
        self.clear = [s for s in in_picture if s.seen >= CLEAR_SHARE and _area(s) >= MIN_AREA_SHARE * height * width]
        self._unclear = {describe(s) for s in in_picture if s not in self.clear}
        self.is_certain = not self._unclear
        described = Counter(describe(s) for s in in_picture)
        self.unique = {describe(s): s for s in self.clear if described[describe(s)] == 1}

    def count(self, description: str) -> int | None:
        """How many are in the picture, None if that is not certain."""
        return None if description in self._unclear else [describe(s) for s in self.clear].count(description)

    def held(self, side: Side) -> str | None:
        """Name of what the arm holds, empty if nothing, None if that begins or ends about now."""
        frame = self.moment.frame
        for hold in self._holds(side):
            if any(abs(frame - edge) < MARGIN_FRAMES for edge in (hold.start, hold.stop) if edge < self._last):
                return None
            if hold.start <= frame < hold.stop:
                return hold.name
        return ""

    def next_hold(self, side: Side) -> Hold | None:
        """The next grip of an arm that begins after this moment."""
        return next((hold for hold in self._holds(side) if hold.start > self.moment.frame), None)

    def description_of(self, name: str) -> str | None:
        """Of the object with this name; None if it is not in the scene yet."""
        return next((describe(s) for s in self.moment.sightings if s.name == name), None)

    @property
    def _last(self) -> int:
        return self.truth.num_frames

    def _holds(self, side: Side) -> list[Hold]:
        return [hold for hold in self.truth.holds if hold.side == side]


Propose = Callable[[MomentView, Sequence[str], Random], Iterator[Proposal]]


def describe(seen: Sighting) -> str:
    """E.g. `red brick`."""
    return f"{seen.colour} {seen.kind}".strip()


def plural(noun: str) -> str:
    """E.g. `red bricks`, `boxes`."""
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def caption(descriptions: Sequence[str]) -> str:
    """Every kind with its number, in alphabetical order: `1 blue brick, 2 red bricks`."""
    counts = sorted(Counter(descriptions).items())
    return ", ".join(f"{n} {what if n == 1 else plural(what)}" for what, n in counts) or NOTHING


def _caption(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    if view.is_certain:
        yield Proposal((), caption([describe(s) for s in view.clear]), {})


def _present(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    for what in random.sample(vocabulary, len(vocabulary)):
        if (count := view.count(what)) is not None:
            yield Proposal((what,), "yes" if count else "no", {"a": with_article(what)})


def _count(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    for what in random.sample(vocabulary, len(vocabulary)):
        if (count := view.count(what)) is not None:
            yield Proposal((what,), str(count), {"plural": plural(what)})


def _colour(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    kinds = Counter(s.kind for s in view.moment.sightings if s.seen > 0)
    for seen in random.sample(view.clear, len(view.clear)):
        if kinds[seen.kind] == 1 and seen.colour:
            yield Proposal((seen.kind,), seen.colour, {"first": seen.kind})


def _relation(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    for first, second, du, dv in _pairs(view, random):
        for low, high, distance in (("left", "right", du), ("above", "below", dv)):
            if abs(distance) >= MARGIN_SHARE:
                true, false = (low, high) if distance < 0 else (high, low)
                for word in random.sample((true, false), 2):
                    words = {"first": first, "second": second, "relation": RELATIONS[word]}
                    yield Proposal((first, second, word), "yes" if word == true else "no", words)


def _where(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    for first, second, du, dv in _pairs(view, random):
        if max(abs(du), abs(dv)) >= max(MARGIN_SHARE, _DOMINANCE * min(abs(du), abs(dv))):
            answer = ("left" if du < 0 else "right") if abs(du) > abs(dv) else ("above" if dv < 0 else "below")
            yield Proposal((first, second), answer, {"first": first, "second": second})


def _box(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    for what, box in _boxes(view, random):
        yield Proposal((what,), grounding_text([box]), {"first": what}, _cell(box))


def _point(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    for what, box in _boxes(view, random):
        point = Point(what, (box.left + box.right) // 2, (box.top + box.bottom) // 2)
        yield Proposal((what,), grounding_text([point]), {"first": what}, _cell(box))


def _held(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    for side in _sides(view, random):
        name = view.held(side)
        if name is None:
            continue
        if not name:
            yield Proposal((side,), NOTHING, {"side": side})
        elif what := view.description_of(name):
            yield Proposal((side,), f"the {what}", {"side": side})


def _nearer(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    if view.moment.view != "base":
        return
    for what, seen in random.sample(list(view.unique.items()), len(view.unique)):
        left, right = (math.dist(view.moment.tool_m[side], seen.position_m) for side in SIDES)
        if abs(left - right) >= MARGIN_M:
            yield Proposal((what,), "left" if left < right else "right", {"first": what})


def _subtask(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    """Which grip an arm is in or goes for, from what really happened later in the demonstration."""
    for side in _sides(view, random):
        name, coming = view.held(side), view.next_hold(side)
        if name is None:
            continue
        target = name or (coming.name if coming else "")
        what = view.description_of(target) if target else None
        if target and what is None:
            continue  # what comes next is not here yet
        answer = NOTHING if what is None else f"{'hold and bring' if name else 'fetch'} the {what}"
        prompt = view.truth.prompt
        yield Proposal((side, prompt), answer, {"side": side, "prompt": prompt})


def _progress(view: MomentView, vocabulary: Sequence[str], random: Random) -> Iterator[Proposal]:
    """Thirds of the demonstration's time."""
    third = min(2, 3 * view.moment.frame // view.truth.num_frames)
    yield Proposal((view.truth.prompt,), PROGRESS[third], {"prompt": view.truth.prompt})


FAMILIES: Mapping[str, Propose] = {
    "caption": _caption,
    "present": _present,
    "count": _count,
    "colour": _colour,
    "relation": _relation,
    "where": _where,
    "box": _box,
    "point": _point,
    "held": _held,
    "nearer": _nearer,
    "subtask": _subtask,
    "progress": _progress,
}


def _boxes(view: MomentView, random: Random) -> Iterator[tuple[str, Box]]:
    """Boxes of the objects that a description fits alone, 0..1000."""
    height, width = view.moment.size_px
    for what, seen in random.sample(list(view.unique.items()), len(view.unique)):
        assert seen.box_px is not None
        left, top, right, bottom = to_relative_1000([seen.box_px[:2], seen.box_px[2:]], width, height).ravel().tolist()
        if left < right and top < bottom:
            yield what, Box(what, left, top, right, bottom)


def _cell(box: Box) -> str:
    """In which of 10 x 10 parts of the picture its middle is."""
    u, v = ((low + high) / 2 for low, high in ((box.left, box.right), (box.top, box.bottom)))
    return f"{int(u * _CELLS / FULL_SCALE)}/{int(v * _CELLS / FULL_SCALE)}"


def _pairs(view: MomentView, random: Random) -> Iterator[tuple[str, str, float, float]]:
    """Two descriptions, and how far the first lies right of and below the second, in heights of the picture."""
    names = random.sample(list(view.unique), len(view.unique))
    for first in names:
        for second in names:
            if first != second:
                (u, v), (other_u, other_v) = _middle(view.unique[first]), _middle(view.unique[second])
                height = view.moment.size_px[0]
                yield first, second, (u - other_u) / height, (v - other_v) / height


def _sides(view: MomentView, random: Random) -> list[Side]:
    """The arms whose grippers this view shows."""
    shown: list[Side] = [side for side in SIDES if view.moment.view in ("base", f"{side}_wrist")]
    return random.sample(shown, len(shown))


def _middle(seen: Sighting) -> tuple[float, float]:
    assert seen.box_px is not None
    left, top, right, bottom = seen.box_px
    return (left + right) / 2, (top + bottom) / 2


def _area(seen: Sighting) -> float:
    assert seen.box_px is not None
    left, top, right, bottom = seen.box_px
    return (right - left) * (bottom - top)
