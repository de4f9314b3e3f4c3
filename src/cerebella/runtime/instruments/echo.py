"""The echo policy: it answers with what it was asked. A prefix, delay or stamp that gets lost on the way shows at once.

Rows of the prefix come back as they are. In all others the last channel, `fingerprint`, is a number made from everything
that the policy was given, which the test computes on its own side from what it sent; the other channels hold still.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.types import ActionChunk, FloatArray, Observation

FINGERPRINT = "fingerprint"
NUM_FINGERPRINTS = 1 << 24
"""Fingerprints are whole numbers below 2^24, which float32 holds exactly."""


def echo_embodiment(num_channels: int = 2, policy_hz: float = 30.0, control_hz: float = 30.0) -> Embodiment:
    """`num_channels` positions in metres, each held at its last command, and the fingerprint behind them."""
    limit = float(NUM_FINGERPRINTS)
    names = [*(f"channel_{i}" for i in range(num_channels)), FINGERPRINT]
    states = tuple(
        Dimension(f"{name}_measured", "m", "position", "world", i, -limit, limit) for i, name in enumerate(names)
    )
    rates = (limit * control_hz, limit * control_hz**2, limit * control_hz**3)
    actions = tuple(
        ActionDimension(
            name, "m", "position", "world", i, -limit, limit, *rates, "last", f"{name}_measured", relative=False
        )
        for i, name in enumerate(names)
    )
    return Embodiment("echo", "joint", states, actions, (), policy_hz, control_hz)


def fingerprint(observation: Observation, action_prefix: FloatArray, guidance: Guidance | None = None) -> float:
    """A whole number in 0 .. 2^24 - 1 from all that a policy is given: every bit of every array, text and stamp counts.

    The number of frozen rows of a guidance counts as well; without guidance the delay is the length of the prefix.
    """
    digest = hashlib.sha256(f"{observation.tick} {float(observation.timestamp_s).hex()}".encode())
    digest.update(observation.prompt.encode())
    arrays: list[NDArray[Any]] = [observation.state, action_prefix]
    for readings in (observation.images, observation.tactile):
        for name in sorted(readings):
            digest.update(name.encode())
            arrays.append(readings[name])
    if guidance is not None:
        numbers = (guidance.num_frozen, guidance.execute_horizon, guidance.use_jacobian, guidance.num_candidates)
        digest.update(str(numbers).encode())
        arrays.append(guidance.plan)
    for array in arrays:
        digest.update(f"{array.dtype}{list(array.shape)}".encode())
        digest.update(array.tobytes())
    return float(int.from_bytes(digest.digest()[:3], "big"))


class EchoPolicy:
    """See the module.

    Args:
        horizon: H. embodiment: any whose last action dimension may take a fingerprint; `echo_embodiment` if not given.

    Raises:
        ValueError: the range of the embodiment's last action dimension is too small for a fingerprint.
    """

    def __init__(self, horizon: int, embodiment: Embodiment | None = None) -> None:
        embodiment = embodiment or echo_embodiment()
        last = embodiment.actions[-1]
        if last.low > 0 or last.high < NUM_FINGERPRINTS - 1:
            raise ValueError(
                f"the last action dimension carries fingerprints, 0..{NUM_FINGERPRINTS - 1}; {last.name!r} of "
                f"{embodiment.name!r} has the range {last.low:g}..{last.high:g}"
            )
        self.metadata = PolicyMetadata(
            policy_id="echo",
            embodiment=embodiment,
            horizon=horizon,
            mask_variant=None,
            max_trained_prefix=horizon - 1,
            statistics_hash="none",
            supports_guidance=True,
        )

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """The prefix, then rows that hold still and carry the fingerprint.

        Raises:
            ValueError: a prefix of another width, or one that fills the chunk.
        """
        return self._answer(observation, action_prefix, fingerprint(observation, action_prefix))

    def infer_guided(self, observation: Observation, guidance: Guidance) -> ActionChunk:
        """Rows that hold still and carry the fingerprint; no prefix."""
        nothing = np.zeros((0, self.metadata.embodiment.action_dim), dtype=np.float32)
        return self._answer(observation, nothing, fingerprint(observation, nothing, guidance))

    def _answer(self, observation: Observation, action_prefix: FloatArray, tag: float) -> ActionChunk:
        horizon, embodiment = self.metadata.horizon, self.metadata.embodiment
        if len(action_prefix) >= horizon:
            raise ValueError(f"action_prefix must be shorter than the horizon {horizon}; got {len(action_prefix)} rows")
        embodiment.check_actions(action_prefix)
        rest = action_prefix[-1] if len(action_prefix) else embodiment.hold(observation, last_command=None).values
        actions = np.tile(rest, (horizon, 1)).astype(np.float32)
        actions[:, -1] = tag
        actions[: len(action_prefix)] = action_prefix
        return ActionChunk(
            actions=actions,
            start_tick=observation.tick,
            observation_tick=observation.tick,
            prefix_length=len(action_prefix),
            policy_id=self.metadata.policy_id,
            duration_s=0.0,
        )
