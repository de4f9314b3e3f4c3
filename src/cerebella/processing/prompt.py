"""The robot prompt: the one text in which every Xiaomi-Robotics-0 checkpoint was trained and asked.

The strings are an interface constant, byte for byte those of the released quick start (README of XiaomiRobotics/
Xiaomi-Robotics-0); the tests compare their SHA-256.
"""

from collections.abc import Sequence

IMAGE_PLACEHOLDER = "<|vision_start|><|image_pad|><|vision_end|>"
IMAGE_TOKEN = "<|image_pad|>"
HEADINGS = {
    "base": "# Base View",
    "ego": "# Ego View",
    "left_wrist": "# Left-Wrist View",
    "right_wrist": "# Right-Wrist View",
}


def robot_prompt(views: Sequence[str], task: str) -> str:
    """The whole conversation that precedes the actions: one user turn with a heading per view, one closed answer.

    Args:
        views: names of the cameras in the order in which their images follow; keys of `HEADINGS`.
        task: the instruction, as given.

    Raises:
        ValueError: an unknown view.
    """
    unknown = [view for view in views if view not in HEADINGS]
    if unknown:
        raise ValueError(f"no heading for the view {unknown[0]!r}; known views: {', '.join(HEADINGS)}")
    images = "".join(f"{HEADINGS[view]}\n{IMAGE_PLACEHOLDER}\n" for view in views)
    return (
        "<|im_start|>user\nThe following observations are captured from multiple views.\n"
        f"{images}Generate robot actions for the task:\n{task} /no_cot<|im_end|>\n"
        "<|im_start|>assistant\n<cot></cot><|im_end|>\n"
    )
