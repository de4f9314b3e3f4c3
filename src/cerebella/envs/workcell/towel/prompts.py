"""What a person says for each task; `{}` stands for the towel's colour."""

from cerebella.envs.workcell.towel.towels import TOWELS

FOLD_PROMPTS = (
    "fold the towel in half",
    "fold the {} towel in half",
    "take the near edge of the towel and lay it on the far edge",
    "fold the {} cloth once",
)
FLATTEN_PROMPTS = ("flatten the towel", "spread out the {} towel", "smooth the {} cloth out on the table")
LINE_PROMPTS = (
    "fold one towel after the other and put each on the place in front of you",
    "keep folding towels in half and draw them to the mat",
    "fold every towel that comes and lay it on the mat",
)


def every_prompt(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Prompts with each colour that a towel can have, without repetitions."""
    colours = [towel.colour for towel in TOWELS]
    return tuple(dict.fromkeys(pattern.format(colour) for pattern in patterns for colour in colours))
