"""What is compared: trainings that differ in one thing each, and ways to run a policy."""

from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT, EXPERT = "default", "expert"
MODES = ("prefix", "sync", "naive")
"""Of the executor, the most important one first."""


@dataclass(frozen=True)
class Training:
    """One of the trainings: what it is, in a few words, and which claim it is there for."""

    name: str
    title: str
    claim: str


_ALL = (
    Training(
        DEFAULT,
        "all stages: brain with conversations, cerebellum behind a band mask, action prefixes",
        "moving on while thinking, against waiting, with the same weights",
    ),
    Training(
        "rtc",
        "asynchronous post-training with clean prefixes only: causal mask, no errors weighed, nothing hidden",
        "the default variant against training-time real-time chunking",
    ),
    Training("no_talk", "brain stage without conversations", "conversations keep the brain's understanding"),
    Training("no_choice", "no brain stage: the cerebellum learns on the warmed-up brain", "Choice Policies teach the brain"),
)  # fmt: skip
TRAININGS: Mapping[str, Training] = {training.name: training for training in _ALL}
"""By name, in the order in which they are worth having."""
