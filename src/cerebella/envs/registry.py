"""Environments by name, as the command line and the suites ask for them."""

import difflib
from collections.abc import Callable
from typing import Any

from cerebella.envs.dynamic.environment import DynamicEnvironment
from cerebella.envs.dynamic.lockstep import Lockstep
from cerebella.envs.dynamic.task import Task
from cerebella.envs.dynamic.tasks import TASKS
from cerebella.envs.workcell import tasks as workcell
from cerebella.interfaces import Environment

ENVIRONMENTS: tuple[str, ...] = tuple(TASKS)
"""Known names of environments that need nothing but this package."""
WORKCELL_ENVIRONMENTS: tuple[str, ...] = tuple(workcell.TASKS)
"""Known names of environments that need MuJoCo (extra `sim`)."""
ALL_ENVIRONMENTS: tuple[str, ...] = (*ENVIRONMENTS, *WORKCELL_ENVIRONMENTS)


def check_environment(name: str) -> None:
    """Raise a ValueError that offers the closest known name, and all of them, unless there is an environment `name`."""
    if name not in ALL_ENVIRONMENTS:
        closest = difflib.get_close_matches(name, ALL_ENVIRONMENTS, n=1)
        offer = f" Did you mean {closest[0]!r}?" if closest else ""
        raise ValueError(f"there is no environment {name!r}.{offer} Known: {', '.join(ALL_ENVIRONMENTS)}")


def make_environment(name: str, **options: Any) -> Environment:
    """Build the environment called `name`.

    Args:
        options: those of `DynamicEnvironment`, e.g. `perturbation=True`, or of
            `workcell.environment.WorkcellEnvironment`, e.g. `control_mode="joint"`.

    Raises:
        ValueError: the name is unknown, or the environment has no such option.
        ImportError: a workcell environment, and MuJoCo is not installed.
    """
    if name in WORKCELL_ENVIRONMENTS:
        make: Callable[..., Environment] = workcell.workcell_module("environment").WorkcellEnvironment
        task: Any = workcell.make_task(name)
    else:
        make, task = DynamicEnvironment, _task(name)
    try:
        return make(task, **options)
    except TypeError as error:
        raise ValueError(f"environment {name!r} cannot be made with {sorted(options)}: {error}") from error


def lockstep_environments(name: str, **options: Any) -> Callable[[], Environment]:
    """What makes environments called `name` that step together (`Lockstep`): the same numbers as one by one, for less.

    Cells do not: each has a simulation, and a graphics context, of its own.

    Args:
        options: as `make_environment`.

    Raises:
        ValueError: the name is unknown. The returned function: the environment has no such option.
    """
    if name in WORKCELL_ENVIRONMENTS:
        return lambda: make_environment(name, **options)
    lockstep = Lockstep(_task(name))
    return lambda: make_environment(name, lockstep=lockstep, **options)


def _task(name: str) -> Task[Any]:
    check_environment(name)
    return TASKS[name]()
