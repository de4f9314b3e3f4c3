"""A policy that moves: every number to and fro about the middle of its range, at half of its limits of motion at most.

With it a run shows by its commands whether something jumped: the path is known, smooth, and the same for every chunk.
"""

import math
import time

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.interfaces import PolicyMetadata
from cerebella.types import ActionChunk, FloatArray, Observation

FREQUENCY_HZ = 0.25
_SHARE = 0.5


class SwayPolicy:
    """Row i belongs to tick `observation.tick + i` of one endless path; the prefix is repeated.

    Args:
        embodiment, horizon: as of any policy.
        policy_id: who it says that it is.
        infer_s: how long it takes to answer, seconds.
    """

    def __init__(self, embodiment: Embodiment, horizon: int, policy_id: str = "sway", infer_s: float = 0.0) -> None:
        self.metadata = PolicyMetadata(policy_id, embodiment, horizon, None, horizon - 1, "none")
        self._infer_s = infer_s
        omega = 2 * math.pi * FREQUENCY_HZ
        self._middle = np.asarray([(a.low + a.high) / 2 for a in embodiment.actions])
        self._amplitude = np.asarray(
            [
                _SHARE
                * min(
                    (a.high - a.low) / 2, a.max_velocity / omega, a.max_acceleration / omega**2, a.max_jerk / omega**3
                )
                for a in embodiment.actions
            ]
        )

    def path(self, ticks: FloatArray) -> FloatArray:
        """Where the path is, float32[n, action_dim] raw units, at these policy ticks, float[n]."""
        angle = 2 * math.pi * FREQUENCY_HZ / self.metadata.embodiment.policy_hz * ticks
        return (self._middle + self._amplitude * np.sin(angle)[:, None]).astype(np.float32)

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """See `Policy.infer`."""
        start_s = time.perf_counter()
        time.sleep(self._infer_s)
        tick = observation.tick
        actions = self.path(tick + np.arange(self.metadata.horizon, dtype=np.float32))
        actions[: len(action_prefix)] = action_prefix
        duration_s = time.perf_counter() - start_s
        return ActionChunk(actions, tick, tick, len(action_prefix), self.metadata.policy_id, duration_s)
