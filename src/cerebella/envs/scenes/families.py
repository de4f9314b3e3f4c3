"""What can be asked about one scene: every family proposes questions together with their exact answers.

A proposal carries a `key`, that part of its text which could betray the answer (the kind that is asked for, the
relation). `questions` admits proposals so that behind every key all answers are equally frequent: an answerer who reads
the question but is blind gains nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from random import Random

from cerebella.envs.scenes.scene import COLOURS, Scenes
from cerebella.envs.scenes.shapes import SHAPES
from cerebella.envs.scenes.wording import ANY, LETTERS, caption

MAX_COUNT = 4
"""Nobody is asked to count further."""
MARGIN_PX = 8.0
"""Two objects this far apart along an axis have a clear order along it."""
_DOMINANCE = 1.5
_POPULAR = tuple(product(range(2), range(2)))
"""Kinds of the two most frequent colours and shapes."""

Kind = tuple[int, int]
"""Indices of colour and shape, or `ANY`."""


@dataclass(frozen=True)
class Proposal:
    """One question about one scene.

    Args:
        key: what its text gives away. answer: text. first, second: what it names.
        target: place of the object named first, -1 if none. word: relation or attribute.
        subset: a finer label than the family.
    """

    key: object
    answer: str
    first: Kind = (ANY, ANY)
    second: Kind = (ANY, ANY)
    target: int = -1
    word: str = ""
    subset: str = ""


class SceneView:
    """One scene as plain Python: the places that hold an object, their kinds and positions (px)."""

    def __init__(self, scenes: Scenes, index: int) -> None:
        self.places = scenes.is_present[index].nonzero()[0].tolist()
        colour, shape = scenes.colour[index].tolist(), scenes.shape[index].tolist()
        self.centre: list[list[float]] = scenes.centre[index].tolist()
        self.kinds: list[Kind] = [(colour[place], shape[place]) for place in self.places]

    def count(self, kind: Kind) -> int:
        """How many objects fit the description."""
        return sum(kind[0] in (ANY, c) and kind[1] in (ANY, s) for c, s in self.kinds)

    def unique(self, colours: bool = True, shapes: bool = True) -> list[tuple[int, Kind]]:
        """(place, description) of the objects that one description with these words fits alone."""
        named = [(c if colours else ANY, s if shapes else ANY) for c, s in self.kinds]
        return [(place, kind) for place, kind in zip(self.places, named, strict=True) if named.count(kind) == 1]


Propose = Callable[[SceneView, Random], Iterator[Proposal]]


def _caption(view: SceneView, random: Random) -> Iterator[Proposal]:
    yield Proposal(key=None, answer=caption(view.kinds))


def _present(view: SceneView, random: Random) -> Iterator[Proposal]:
    """A kind, a colour or a shape. Absent ones are drawn at random or among the popular kinds, as POPE does (2305.10355)."""
    widths = random.choice([(True, True), (True, True), (True, False), (False, True)])
    colours = range(len(COLOURS)) if widths[0] else (ANY,)
    shapes = range(len(SHAPES)) if widths[1] else (ANY,)
    every = list(product(colours, shapes))
    asked = [("random", random.choice(every)), ("random", random.choice(every))]
    asked += [("random", (c if widths[0] else ANY, s if widths[1] else ANY)) for c, s in view.kinds[:2]]
    if all(widths):
        asked.append(("popular", random.choice(_POPULAR)))
    random.shuffle(asked)
    for subset, kind in asked:
        yield Proposal(key=(subset, kind), answer="yes" if view.count(kind) else "no", first=kind, subset=subset)


def _relation(view: SceneView, random: Random) -> Iterator[Proposal]:
    for first, kind, _, other, du, dv in _pairs(view, random):
        for low, high, distance in (("left", "right", du), ("above", "below", dv)):
            if abs(distance) >= MARGIN_PX:
                true, false = (low, high) if distance < 0 else (high, low)
                for word in random.sample((true, false), 2):
                    answer = "yes" if word == true else "no"
                    yield Proposal(key=word, answer=answer, first=kind, second=other, target=first, word=word)


def _where(view: SceneView, random: Random) -> Iterator[Proposal]:
    for first, kind, _, other, du, dv in _pairs(view, random):
        if max(abs(du), abs(dv)) < max(MARGIN_PX, _DOMINANCE * min(abs(du), abs(dv))):
            continue
        answer = ("left" if du < 0 else "right") if abs(du) > abs(dv) else ("above" if dv < 0 else "below")
        yield Proposal(key=None, answer=answer, first=kind, second=other, target=first)


def _count(view: SceneView, random: Random) -> Iterator[Proposal]:
    kinds = [(colour, ANY) for colour in range(len(COLOURS))] + [(ANY, shape) for shape in range(len(SHAPES))]
    random.shuffle(kinds)
    for kind in sorted(kinds, key=view.count, reverse=True):  # large numbers are rare
        if view.count(kind) <= MAX_COUNT:
            yield Proposal(key=kind, answer=str(view.count(kind)), first=kind)


def _colour(view: SceneView, random: Random) -> Iterator[Proposal]:
    for place, kind in _shuffled(view.unique(colours=False), random):
        colour = view.kinds[view.places.index(place)][0]
        yield Proposal(key=kind, answer=COLOURS[colour], first=kind, target=place)


def _shape(view: SceneView, random: Random) -> Iterator[Proposal]:
    for place, kind in _shuffled(view.unique(shapes=False), random):
        shape = view.kinds[view.places.index(place)][1]
        yield Proposal(key=kind, answer=SHAPES[shape], first=kind, target=place)


def _choice(view: SceneView, random: Random) -> Iterator[Proposal]:
    """`answer` is the value; the letters come with the rotations."""
    for attribute, propose in random.sample((("colour", _colour), ("shape", _shape)), 2):
        for proposal in propose(view, random):
            key = (attribute, proposal.key)
            yield Proposal(key, proposal.answer, proposal.first, target=proposal.target, word=attribute)


def _grounding(view: SceneView, random: Random) -> Iterator[Proposal]:
    """The answer text is made from the object's outline, see `questions`."""
    descriptions = [*view.unique(), *view.unique(shapes=False), *view.unique(colours=False)]
    for place, kind in _shuffled(descriptions, random):
        yield Proposal(key=None, answer="", first=kind, target=place)


FAMILIES: Mapping[str, Propose] = {
    "caption": _caption,
    "present": _present,
    "relation": _relation,
    "count": _count,
    "colour": _colour,
    "shape": _shape,
    "where": _where,
    "box": _grounding,
    "point": _grounding,
    "choice": _choice,
}
CANDIDATES: Mapping[str, tuple[str, ...]] = {
    "present": ("yes", "no"),
    "relation": ("yes", "no"),
    "count": tuple(str(number) for number in range(MAX_COUNT + 1)),
    "colour": COLOURS,
    "shape": SHAPES,
    "where": ("left", "right", "above", "below"),
    "choice": LETTERS,
}
"""All answers of a family, equally frequent; a family without an entry is answered freely."""


def _pairs(view: SceneView, random: Random) -> Iterator[tuple[int, Kind, int, Kind, float, float]]:
    """(place, description) of two objects, and how far the first lies right of and below the second, px."""
    unique = _shuffled(view.unique(), random)
    for place, kind in unique:
        for other_place, other in unique:
            if place != other_place:
                (u, v), (other_u, other_v) = view.centre[place], view.centre[other_place]
                yield place, kind, other_place, other, u - other_u, v - other_v


def _shuffled(entries: list[tuple[int, Kind]], random: Random) -> list[tuple[int, Kind]]:
    return random.sample(entries, len(entries))
