"""Environments by name, as the command line and the suites ask for them."""

from collections.abc import Callable
from typing import Any

from cerebella.envs.dynamic.conveyor_env import Conveyor
from cerebella.interfaces import Environment

_FACTORIES: dict[str, Callable[..., Environment]] = {"dynamic/conveyor": Conveyor}

ENVIRONMENTS: tuple[str, ...] = tuple(_FACTORIES)
"""Known names."""


def make_environment(name: str, **options: Any) -> Environment:
    """Build the environment called `name`; `options` are the arguments of its class.

    Raises:
        ValueError: the name is unknown, or the environment has no such option.
    """
    if name not in _FACTORIES:
        raise ValueError(f"unknown environment {name!r}; known environments: {', '.join(ENVIRONMENTS)}")
    try:
        return _FACTORIES[name](**options)
    except TypeError as error:
        raise ValueError(f"environment {name!r} cannot be made with {sorted(options)}: {error}") from error
