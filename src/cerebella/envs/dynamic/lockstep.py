"""Scenes of one task that take their steps together: one call of the physics for all instead of one each."""

from collections.abc import Callable
from typing import Generic

import numpy as np

from cerebella.envs.dynamic.task import S, Task, concatenate
from cerebella.types import FloatArray

Arrived = Callable[[S], None]
"""Called with the scene (N = 1) one tick later."""


class Lockstep(Generic[S]):
    """Collects the steps that several environments want, and takes them in one batch when the first result is needed.

    A scene behaves the same alone or among others (see `Task`), so only the cost changes.

    Args:
        task: the one that all of them run.
    """

    def __init__(self, task: Task[S]) -> None:
        """See the class."""
        self._task = task
        self._waiting: list[tuple[S, FloatArray, Arrived[S]]] = []

    def wait(self, scene: S, action: FloatArray, arrived: Arrived[S]) -> None:
        """Ask for one step of one scene (N = 1) under `action`, float32[A]; taken at the next `step`."""
        self._waiting.append((scene, action, arrived))

    def step(self) -> None:
        """Take all steps that wait."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        scenes, actions, receivers = zip(*waiting, strict=True)
        following = self._task.step(concatenate(scenes), np.stack(actions))
        for row, arrived in enumerate(receivers):
            arrived(following.take(slice(row, row + 1)))
