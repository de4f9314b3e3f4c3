"""Environments by name, as the command line and the suites ask for them."""

from typing import Any

from cerebella.envs.dynamic.environment import DynamicEnvironment
from cerebella.envs.dynamic.tasks import TASKS
from cerebella.interfaces import Environment

ENVIRONMENTS: tuple[str, ...] = tuple(TASKS)
"""Known names."""


def make_environment(name: str, **options: Any) -> Environment:
    """Build the environment called `name`; `options` are those of `DynamicEnvironment`, e.g. `perturbation=True`.

    Raises:
        ValueError: the name is unknown, or the environment has no such option.
    """
    if name not in TASKS:
        raise ValueError(f"unknown environment {name!r}; known environments: {', '.join(ENVIRONMENTS)}")
    try:
        return DynamicEnvironment(TASKS[name](), **options)
    except TypeError as error:
        raise ValueError(f"environment {name!r} cannot be made with {sorted(options)}: {error}") from error
