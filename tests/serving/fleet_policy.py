"""A policy whose answers say which process gave them."""

import os
import time

import numpy as np

from cerebella.interfaces import PolicyMetadata
from cerebella.runtime.instruments.tagged import make_metadata
from cerebella.types import ActionChunk, FloatArray, Observation

HORIZON = 8


class ProcessPolicy:
    """Row i is (process id, version, observation tick + i, observed value); takes `infer_s`, whatever the batch."""

    def __init__(self, version: int = 1, infer_s: float = 0.0) -> None:
        self.metadata: PolicyMetadata = make_metadata(HORIZON, HORIZON - 1)
        self._version = version
        self._infer_s = infer_s

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        return self.infer_batch([observation], [action_prefix])[0]

    def infer_batch(self, observations: list[Observation], prefixes: list[FloatArray]) -> list[ActionChunk]:
        time.sleep(self._infer_s)
        return [self._chunk(*pair) for pair in zip(observations, prefixes, strict=True)]

    def _chunk(self, observation: Observation, prefix: FloatArray) -> ActionChunk:
        actions = np.empty((HORIZON, 4), dtype=np.float32)
        actions[:] = (os.getpid(), self._version, 0, observation.state[3])
        actions[:, 2] = observation.tick + np.arange(HORIZON)
        actions[: len(prefix)] = prefix
        return ActionChunk(actions, observation.tick, observation.tick, len(prefix), "tagged", self._infer_s)
