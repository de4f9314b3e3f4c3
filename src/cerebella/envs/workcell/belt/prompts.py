"""The instruction: which kinds belong in which bin, in several wordings."""

from collections.abc import Mapping

from cerebella.arms import Side
from cerebella.envs.workcell.belt.parts import KINDS, Kind

ONE_KIND: tuple[str, ...] = (
    "put the {kind} into the {bin} bin",
    "pick the {kind} from the belt and put them into the {bin} bin",
    "all {kind} go into the {bin} bin",
    "please sort the {kind} into the {bin} bin",
    "take the {kind} off the belt and drop them in the {bin} bin",
    "collect the {kind} in the {bin} bin",
)
TWO_KINDS: tuple[str, ...] = (
    "put the {left} into the left bin and the {right} into the right bin",
    "the {left} go left and the {right} go right",
    "sort the {left} into the left bin and the {right} into the right bin",
    "collect the {right} in the right bin and the {left} in the left bin",
)
NUM_WORDINGS = 12
"""A wording index is below it, whatever the number of kinds."""


def prompt_text(wanted: Mapping[Kind, Side], wording: int) -> str:
    """The words: lower case, no punctuation.

    Args:
        wanted: one kind, or two with different bins. wording: 0..NUM_WORDINGS - 1.

    Raises:
        ValueError: another number of kinds, two kinds for one bin, or a wording out of range.
    """
    if not 0 <= wording < NUM_WORDINGS:
        raise ValueError(f"wording must be in 0..{NUM_WORDINGS - 1}; got {wording}")
    by_bin = {side: kind.plural for kind, side in wanted.items()}
    if len(by_bin) != len(wanted) or len(wanted) not in (1, 2):
        raise ValueError(f"wanted must hold one kind, or two with a bin each; got {dict(wanted)}")
    if len(wanted) == 2:
        return TWO_KINDS[wording % len(TWO_KINDS)].format(**by_bin)
    ((side, kind),) = by_bin.items()
    return ONE_KIND[wording % len(ONE_KIND)].format(kind=kind, bin=side)


def all_prompts() -> tuple[str, ...]:
    """Every instruction that can occur, without repetitions, in a fixed order."""
    one: list[dict[Kind, Side]] = [{kind: side} for kind in KINDS for side in ("left", "right")]
    two: list[dict[Kind, Side]] = [{a: "left", b: "right"} for a in KINDS for b in KINDS if a != b]
    texts = [prompt_text(wanted, wording) for wanted in (*one, *two) for wording in range(NUM_WORDINGS)]
    return tuple(dict.fromkeys(texts))
