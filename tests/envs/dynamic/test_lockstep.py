"""Environments that step together give what they give alone, bit for bit."""

from typing import Any

import numpy as np
import pytest

from cerebella.envs.dynamic.environment import DynamicEnvironment
from cerebella.envs.dynamic.lockstep import Lockstep
from cerebella.envs.dynamic.tasks import TASKS
from cerebella.types import Action

SEEDS = range(7)
NUM_TICKS = 40


def drive(environments: list[DynamicEnvironment[Any]]) -> list[tuple[Any, ...]]:
    """All with the same commands; an episode that ends early begins again with another seed, in the middle of the rest."""
    generator = np.random.default_rng(3)
    for seed, environment in zip(SEEDS, environments, strict=True):
        environment.reset(seed)
    seen = []
    for tick in range(NUM_TICKS):
        observations = [environment.observe() for environment in environments]
        for seed, environment, observation in zip(SEEDS, environments, observations, strict=True):
            low, high = (np.array([getattr(d, end) for d in environment.embodiment.actions]) for end in ("low", "high"))
            values = (low + (high - low) * generator.uniform(0, 1, len(low))).astype(np.float32)
            environment.apply(Action(values=values, tick=observation.tick))
            if tick == 11 and seed == 2:
                environment.reset(100)
        for observation, environment in zip(observations, environments, strict=True):
            status = environment.status()
            seen.append((observation.tick, observation.state.tobytes(), status))
            if status.is_done:
                environment.reset(200 + tick)
    return seen


@pytest.mark.parametrize("name", TASKS)
def test_together_equals_alone(name: str) -> None:
    task = TASKS[name]()
    lockstep = Lockstep(task)
    together = [DynamicEnvironment(task, False, True, lockstep=lockstep) for _ in SEEDS]
    alone = [DynamicEnvironment(task, False, True) for _ in SEEDS]
    assert drive(together) == drive(alone)
