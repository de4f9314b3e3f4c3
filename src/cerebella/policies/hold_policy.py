"""The smallest citizen of `Policy`: it always answers with "hold still". The floor that every other policy must beat."""

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.interfaces import PolicyMetadata
from cerebella.types import ActionChunk, FloatArray, Observation


class HoldPolicy:
    """Holds still for `horizon` ticks; continues an action prefix by repeating its last row."""

    def __init__(self, embodiment: Embodiment, horizon: int) -> None:
        self.metadata = PolicyMetadata(
            policy_id="zero",
            embodiment=embodiment,
            horizon=horizon,
            mask_variant=None,
            max_trained_prefix=horizon - 1,
            statistics_hash="none",
        )

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """A chunk whose rows all hold still."""
        hold = self.metadata.embodiment.hold(observation, last_command=None).values
        rest = action_prefix[-1] if len(action_prefix) else hold
        actions = np.tile(rest, (self.metadata.horizon, 1)).astype(np.float32)
        actions[: len(action_prefix)] = action_prefix
        return ActionChunk(
            actions=actions,
            start_tick=observation.tick,
            observation_tick=observation.tick,
            prefix_length=len(action_prefix),
            policy_id=self.metadata.policy_id,
            duration_s=0.0,
        )
