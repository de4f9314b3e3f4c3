"""The tagged policy: every action says from which call and row it comes, and for which tick it was meant.

Whatever a client does to a plan (a row too far, a swap, a row twice, an old plan again) shows in the commands that it
sends, without a look inside.
"""

from dataclasses import dataclass, field

import numpy as np

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.types import ActionChunk, FloatArray, Observation

LIMIT = 1e6
"""Range of every channel, well below 2^24, so that float32 holds each tag exactly."""

UNLIMITED = 1e12
"""Of velocity, acceleration and jerk: tags jump, and must not be smoothed."""
CHANNELS = ("chunk", "row", "intended_tick", "value")


def make_embodiment(limit: float = LIMIT, policy_hz: float = 30.0, control_hz: float = 30.0) -> Embodiment:
    """Four numbers, all held by repeating the last command; `limit` bounds the fourth, `value`."""
    states = tuple(
        Dimension(f"{c}_measured", "m", "position", "world", i, -LIMIT, LIMIT) for i, c in enumerate(CHANNELS)
    )
    ranges = (LIMIT, LIMIT, LIMIT, limit)
    actions = tuple(
        ActionDimension(
            c,
            "m",
            "position",
            "world",
            i,
            -ranges[i],
            ranges[i],
            UNLIMITED,
            UNLIMITED,
            UNLIMITED,
            "last",
            f"{c}_measured",
            relative=False,
        )
        for i, c in enumerate(CHANNELS)
    )
    return Embodiment("tagged", "joint", states, actions, (), policy_hz, control_hz)


def make_metadata(horizon: int, max_trained_prefix: int, embodiment: Embodiment | None = None) -> PolicyMetadata:
    """Metadata of a tagged policy, for the tagged robot unless another is given."""
    return PolicyMetadata("tagged", embodiment or make_embodiment(), horizon, None, max_trained_prefix, "none")


def make_observation(tick: int, value: float = 0.0) -> Observation:
    """What the tagged robot measures: no tag (-1), and the number `value`; stamped at 30 Hz."""
    state = np.array([-1, -1, -1, value], dtype=np.float32)
    return Observation(state=state, prompt="count", tick=tick, timestamp_s=tick / 30.0)


@dataclass
class TaggedPolicy:
    """Row i of call k is (k, i, observation tick + i, observed value).

    Rows inside the prefix repeat the prefix, up to the rounding of a policy that normalises and decodes it. Guided, it
    answers as without a prefix.

    Calls whose number is in `failures` raise; those in `nans` return a chunk with a NaN, which the noun refuses; those
    in `forgets` return a prefix that is not the promised one.
    """

    metadata: PolicyMetadata
    failures: frozenset[int] = frozenset()
    nans: frozenset[int] = frozenset()
    forgets: frozenset[int] = frozenset()
    num_calls: int = 0
    seen_prefixes: list[FloatArray] = field(default_factory=list)
    seen_guidances: list[Guidance] = field(default_factory=list)

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """The next tagged chunk; see `Policy.infer`."""
        call = self.num_calls
        self.num_calls += 1
        self.seen_prefixes.append(action_prefix)
        if call in self.failures:
            raise OSError(f"call {call}: the server is gone")
        rows = np.arange(self.metadata.horizon, dtype=np.float32)
        actions = np.empty((self.metadata.horizon, len(CHANNELS)), dtype=np.float32)
        actions[:, 0] = call
        actions[:, 1] = rows
        actions[:, 2] = observation.tick + rows
        actions[:, 3] = observation.state[3]
        actions[: len(action_prefix)] = action_prefix
        actions[: len(action_prefix), 3] += 1e-5
        if call in self.forgets:
            actions[: len(action_prefix)] += 1000.0
        if call in self.nans:
            actions[-1, 3] = np.nan
        return ActionChunk(actions, observation.tick, observation.tick, len(action_prefix), "tagged", 0.01)

    def infer_guided(self, observation: Observation, guidance: Guidance) -> ActionChunk:
        """The next tagged chunk without a prefix; `seen_guidances` remembers what it was to be pulled towards."""
        self.seen_guidances.append(guidance)
        return self.infer(observation, np.zeros((0, len(CHANNELS)), dtype=np.float32))
