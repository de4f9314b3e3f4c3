"""How a person asks for it."""

from collections.abc import Sequence

PROMPTS: Sequence[str] = (
    "take the bricks apart and sort them by colour",
    "pull the bricks apart and put each one into the bin of its colour",
    "disassemble the brick model and sort the pieces by colour",
    "separate all the bricks and drop them into the matching bins",
    "break up the assembly and put every brick in the bin with the same colour",
    "sort the bricks by colour after you have taken them apart",
    "dismantle the bricks and clear them into the coloured bins",
    "take these apart then put the red blue yellow and green bricks in their bins",
)
"""The instruction and its paraphrases: lower case, no punctuation."""
HOLD_STILL = "Repeat the last targets of both arms: the grippers keep what they hold, and bricks on the table or in an assembly stay."
