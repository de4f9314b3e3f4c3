"""The public tagged policy, and a one-number robot for it."""

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Status
from cerebella.runtime.instruments.tagged import (
    CHANNELS,
    LIMIT,
    TaggedPolicy,
    make_embodiment,
    make_metadata,
    make_observation,
)
from cerebella.types import Action, Observation

__all__ = ["CHANNELS", "LIMIT", "Robot", "TaggedPolicy", "make_embodiment", "make_metadata", "make_observation"]


class Robot:
    """An `Environment`: its measured value is a random walk that no command influences; ends after `num_ticks`."""

    def __init__(self, num_ticks: int, embodiment: Embodiment | None = None) -> None:
        self.embodiment = embodiment or make_embodiment()
        self.sent: list[Action] = []
        self._num_ticks = num_ticks
        self._values = np.zeros(num_ticks + 1)

    def reset(self, seed: int) -> None:
        self.sent.clear()
        self._values = np.random.default_rng(seed).normal(size=self._num_ticks + 1).cumsum()

    def observe(self) -> Observation:
        return make_observation(len(self.sent), float(self._values[len(self.sent)]))

    def apply(self, action: Action) -> None:
        if action.tick != len(self.sent):
            raise ValueError(f"tick {action.tick} commanded at tick {len(self.sent)}")
        self.sent.append(action)

    def status(self) -> Status:
        is_done = len(self.sent) >= self._num_ticks
        return Status(is_done, is_done, "end" if is_done else "")
