"""How the questions are put: several wordings each, and the words for the objects."""

from collections.abc import Mapping, Sequence

from cerebella.envs.scenes.scene import COLOURS
from cerebella.envs.scenes.shapes import SHAPES

ANY = -1
"""Stands for "any colour" or "any shape" in a description."""

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "caption": (
        "Describe the picture.",
        "What is in the picture?",
        "List the objects that you see.",
        "Say what is there.",
    ),
    "present": (
        "Is there {a} in the picture?",
        "Do you see {a}?",
        "Does the picture show {a}?",
        "Can {a} be seen here?",
    ),
    "relation": (
        "Is the {first} {relation} the {second}?",
        "Does the {first} lie {relation} the {second}?",
        "Do you see the {first} {relation} the {second}?",
    ),
    "count": (
        "How many {plural} are there?",
        "Count the {plural}.",
        "How many {plural} do you see?",
        "What is the number of {plural}?",
    ),
    "colour": (
        "What colour is the {first}?",
        "Which colour does the {first} have?",
        "Name the colour of the {first}.",
    ),
    "shape": (
        "What shape is the {first}?",
        "Which shape does the {first} have?",
        "Name the shape of the {first}.",
    ),
    "where": (
        "Where is the {first}, seen from the {second}: left, right, above or below?",
        "On which side of the {second} is the {first}: left, right, above or below?",
        "Left, right, above or below: where does the {first} lie, seen from the {second}?",
    ),
    "box": (
        "Give the bounding box of the {first}.",
        "Where is the {first}? Answer with a box.",
        "Put a box around the {first}.",
    ),
    "point": (
        "Point at the {first}.",
        "Where is the {first}? Answer with a point.",
        "Show me the {first} with a point.",
    ),
    "choice": (
        "What {attribute} is the {first}? {options} Answer with the letter.",
        "Which {attribute} does the {first} have? {options} Answer with the letter.",
    ),
}
RELATIONS: Mapping[str, str] = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
LETTERS = ("A", "B", "C", "D")


def describe(colour: int, shape: int, count: int = 1) -> str:
    """E.g. `red disc`, `red objects`, `discs`; `ANY` leaves a word out."""
    noun = "object" if shape == ANY else SHAPES[shape]
    noun += "" if count == 1 else "s"
    return noun if colour == ANY else f"{COLOURS[colour]} {noun}"


def with_article(words: str) -> str:
    """E.g. `a red disc`, `an object`."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def caption(kinds: Sequence[tuple[int, int]]) -> str:
    """Every kind with its number, in the order of `COLOURS` and `SHAPES`: `2 red discs, 1 blue bar`."""
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    return ", ".join(f"{count} {describe(*kind, count)}" for kind, count in counts.items())


def options(values: Sequence[str]) -> str:
    """`A. red B. blue C. white D. green`."""
    return " ".join(f"{letter}. {value}" for letter, value in zip(LETTERS, values, strict=True))
