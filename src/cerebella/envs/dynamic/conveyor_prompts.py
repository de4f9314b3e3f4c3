"""The instruction: which part to pick, in one of many wordings. Colours are unique in a scene, so a colour is enough."""

from itertools import product

from cerebella.envs.dynamic.conveyor import COLOURS, SHAPES, ConveyorState

TEMPLATES = (
    "pick the {}",
    "pick up the {}",
    "grab the {}",
    "catch the {}",
    "take the {} off the belt",
    "please pick the {} from the belt",
    "grasp the {} as it passes",
    "get me the {}",
    "i need the {}",
    "could you fetch the {}",
)
NAMINGS = ("{colour} part", "{colour} piece", "{colour} one", "{colour} {shape}", "{shape} that is {colour}")
NUM_PROMPTS = len(TEMPLATES) * len(NAMINGS)
"""Wordings per target; `ConveyorState.prompt_index` is below it."""


def prompt_text(prompt_index: int, colour: int, shape: int) -> str:
    """The words: lower case, no punctuation.

    Args:
        prompt_index: 0..NUM_PROMPTS - 1. colour: into `COLOURS`. shape: into `SHAPES`.

    Raises:
        ValueError: `prompt_index` is out of range.
    """
    if not 0 <= prompt_index < NUM_PROMPTS:
        raise ValueError(f"prompt_index must be in 0..{NUM_PROMPTS - 1}; got {prompt_index}")
    template, naming = divmod(prompt_index, len(NAMINGS))
    name = NAMINGS[naming].format(colour=COLOURS[colour], shape=SHAPES[shape])
    return TEMPLATES[template].format(name)


def prompts(state: ConveyorState) -> list[str]:
    """The instruction of every scene."""
    rows = zip(state.prompt_index, state.target_colour, state.target_shape, strict=True)
    return [prompt_text(int(index), int(colour), int(shape)) for index, colour, shape in rows]


def all_prompts() -> list[str]:
    """Every instruction that can occur (for a tokenizer or a text space), without repetitions, in a fixed order."""
    choices = product(range(NUM_PROMPTS), range(len(COLOURS)), range(len(SHAPES)))
    return list(dict.fromkeys(prompt_text(*choice) for choice in choices))
