"""Instruments: a policy whose actions say where they come from, a one-number robot, and scripted trouble."""

from dataclasses import dataclass, field

import numpy as np

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.interfaces import PolicyMetadata, Status
from cerebella.types import Action, ActionChunk, FloatArray, Observation

LIMIT = 1e6
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
            1.0,
            1.0,
            1.0,
            "last",
            f"{c}_measured",
            relative=False,
        )
        for i, c in enumerate(CHANNELS)
    )
    return Embodiment("tagged", "joint", states, actions, (), policy_hz, control_hz)


def make_metadata(horizon: int, max_trained_prefix: int, embodiment: Embodiment | None = None) -> PolicyMetadata:
    return PolicyMetadata("tagged", embodiment or make_embodiment(), horizon, None, max_trained_prefix, "none")


def make_observation(tick: int, value: float = 0.0) -> Observation:
    state = np.array([-1, -1, -1, value], dtype=np.float32)
    return Observation(state=state, prompt="count", tick=tick, timestamp_s=tick / 30.0)


@dataclass
class TaggedPolicy:
    """Row i of call k is (k, i, observation tick + i, observed value).

    Rows inside the prefix repeat the prefix, up to the rounding of a policy that normalises and decodes it.

    Calls whose number is in `failures` raise; those in `nans` return a chunk with a NaN, which the noun refuses; those
    in `forgets` return a prefix that is not the promised one.
    """

    metadata: PolicyMetadata
    failures: frozenset[int] = frozenset()
    nans: frozenset[int] = frozenset()
    forgets: frozenset[int] = frozenset()
    num_calls: int = 0
    seen_prefixes: list[FloatArray] = field(default_factory=list)

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
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
