"""Environments by name, as the command line and the suites ask for them."""

from collections.abc import Callable
from typing import Any

from cerebella.envs.dynamic.environment import DynamicEnvironment
from cerebella.envs.dynamic.lockstep import Lockstep
from cerebella.envs.dynamic.task import Task
from cerebella.envs.dynamic.tasks import TASKS
from cerebella.interfaces import Environment

ENVIRONMENTS: tuple[str, ...] = tuple(TASKS)
"""Known names."""


def make_environment(name: str, **options: Any) -> Environment:
    """Build the environment called `name`; `options` are those of `DynamicEnvironment`, e.g. `perturbation=True`.

    Raises:
        ValueError: the name is unknown, or the environment has no such option.
    """
    task = _task(name)
    try:
        return DynamicEnvironment(task, **options)
    except TypeError as error:
        raise ValueError(f"environment {name!r} cannot be made with {sorted(options)}: {error}") from error


def lockstep_environments(name: str, **options: Any) -> Callable[[], Environment]:
    """What makes environments called `name` that step together (`Lockstep`): the same numbers as one by one, for less.

    Args:
        options: as `make_environment`.

    Raises:
        ValueError: the name is unknown. The returned function: the environment has no such option.
    """
    lockstep = Lockstep(_task(name))
    return lambda: make_environment(name, lockstep=lockstep, **options)


def _task(name: str) -> Task[Any]:
    if name not in TASKS:
        raise ValueError(f"unknown environment {name!r}; known environments: {', '.join(ENVIRONMENTS)}")
    return TASKS[name]()
