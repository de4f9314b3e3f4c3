"""What the serving bench asks and what answers: a two-armed robot's observation of 452 kB, and policies without a model."""

import time

import numpy as np

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.interfaces import PolicyMetadata
from cerebella.types import ActionChunk, FloatArray, Observation

from .serving_robots import ServiceLaw

HORIZON, DIM = 30, 14
VIEWS = ("base", "left_wrist", "right_wrist")
SIDE_PX = 224
EMPTY: FloatArray = np.zeros((0, DIM), dtype=np.float32)


def embodiment() -> Embodiment:
    """Two seven-joint arms and three cameras."""
    names = [f"joint_{i}" for i in range(DIM)]
    states = tuple(Dimension(name, "rad", "joint", "base", i, -3.0, 3.0) for i, name in enumerate(names))
    actions = tuple(
        ActionDimension(name, "rad", "joint", "base", i, -3.0, 3.0, 3.0, 30.0, 300.0, "last", name, False)
        for i, name in enumerate(names)
    )
    return Embodiment("bench_arm", "joint", states, actions, VIEWS, 30.0, 30.0)


def metadata() -> PolicyMetadata:
    """Of the stub policies."""
    return PolicyMetadata("stub", embodiment(), HORIZON, None, HORIZON - 1, "none")


def observation(tick: int = 0, side_px: int = SIDE_PX) -> Observation:
    """Three pictures of noise and a state that says the tick; 452 kB at 224 px."""
    rng = np.random.default_rng(tick)
    images = {view: rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8) for view in VIEWS}
    return Observation(state_of(tick), "put the red cube into the box", tick, tick / 30.0, images)


def state_of(tick: int) -> FloatArray:
    """A state from which an answer can be told to belong to its question."""
    return np.full(DIM, (tick % 1000) / 1000.0, dtype=np.float32)


class StubPolicy:
    """Answers at once: every row is the state."""

    def __init__(self) -> None:
        self.metadata = metadata()

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """See `Policy.infer`."""
        return self.infer_batch([observation], [action_prefix])[0]

    def infer_batch(self, observations: list[Observation], prefixes: list[FloatArray]) -> list[ActionChunk]:
        """One chunk each."""
        return [
            ActionChunk(np.tile(seen.state, (HORIZON, 1)), seen.tick, seen.tick, len(prefix), "stub", 0.0)
            for seen, prefix in zip(observations, prefixes, strict=True)
        ]


class SleepingPolicy(StubPolicy):
    """Takes as long as a service law says."""

    def __init__(self, law: ServiceLaw) -> None:
        super().__init__()
        self._law = law
        self._rng = np.random.default_rng(0)

    def infer_batch(self, observations: list[Observation], prefixes: list[FloatArray]) -> list[ActionChunk]:
        """Sleeps, then answers."""
        time.sleep(self._law.draw_s(len(observations), self._rng))
        return super().infer_batch(observations, prefixes)
