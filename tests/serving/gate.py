"""Policies that wait for the test, and a robot with cameras."""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.types import ActionChunk, FloatArray, Observation
from tests.runtime.tagged import make_embodiment, make_metadata

WAIT_S = 60.0
HORIZON = 8
NO_PREFIX: FloatArray = np.zeros((0, 4), dtype=np.float32)


def with_views(*views: str) -> Embodiment:
    """The tagged robot with cameras."""
    return dataclasses.replace(make_embodiment(), views=views)


def guided_metadata() -> PolicyMetadata:
    return dataclasses.replace(make_metadata(HORIZON, 4), supports_guidance=True)


class BatchPolicy:
    """Answers at once; row i repeats the observed state plus i, so that an answer shows whose it is.

    Attributes:
        batches: the ticks of every inference.
    """

    def __init__(self, metadata: PolicyMetadata | None = None) -> None:
        self.metadata = metadata or make_metadata(HORIZON, 4)
        self.batches: list[list[int]] = []

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        return self.infer_batch([observation], [action_prefix])[0]

    def infer_batch(self, observations: Sequence[Observation], prefixes: Sequence[FloatArray]) -> list[ActionChunk]:
        self.batches.append([observation.tick for observation in observations])
        return [self._chunk(*pair) for pair in zip(observations, prefixes, strict=True)]

    def infer_guided_batch(
        self, observations: Sequence[Observation], guidances: Sequence[Guidance]
    ) -> list[ActionChunk]:
        self.batches.append([observation.tick for observation in observations])
        chunks = [self._chunk(observation, NO_PREFIX) for observation in observations]
        for chunk, guidance in zip(chunks, guidances, strict=True):
            chunk.actions[0] = guidance.plan[0]
        return chunks

    def _chunk(self, observation: Observation, prefix: FloatArray) -> ActionChunk:
        rows = np.arange(self.metadata.horizon, dtype=np.float32)[:, None]
        actions = (observation.state[None, :] + rows).astype(np.float32)
        actions[: len(prefix)] = prefix
        tick = observation.tick
        return ActionChunk(actions, tick, tick, len(prefix), self.metadata.policy_id, 0.001)


class GatedPolicy(BatchPolicy):
    """A `BatchPolicy` whose every inference after the warm-up waits until the test lets it go.

    Attributes:
        entered: released once per inference that begins; `go` lets one inference end.
    """

    def __init__(self, metadata: PolicyMetadata | None = None, num_free: int = 0) -> None:
        super().__init__(metadata)
        self.entered = threading.Semaphore(0)
        self._go = threading.Semaphore(0)
        self._num_free = num_free

    def infer_batch(self, observations: Sequence[Observation], prefixes: Sequence[FloatArray]) -> list[ActionChunk]:
        if len(self.batches) >= self._num_free:
            self.entered.release()
            if not self._go.acquire(timeout=WAIT_S):
                raise TimeoutError("the test did not let this inference go")
        return super().infer_batch(observations, prefixes)

    def go(self, number: int = 1) -> None:
        """Let so many inferences end."""
        self._go.release(number)

    def wait_until_busy(self) -> None:
        """Return when an inference has begun."""
        assert self.entered.acquire(timeout=WAIT_S)


def wait_until(condition: Callable[[], bool], patience_s: float = WAIT_S) -> None:
    """For what another thread does after it has answered; sleeps in between, so that the other thread can."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {patience_s} s"
        time.sleep(0.002)


def observed(tick: int, value: float = 0.0, views: Sequence[str] = (), side_px: int = 8) -> Observation:
    """What the tagged robot sees; `value` is in all of its numbers."""
    images = {view: np.full((side_px, side_px, 3), 7, dtype=np.uint8) for view in views}
    return Observation(np.full(4, value, dtype=np.float32), "count", tick, tick / 30.0, images)
