"""Every task of the workcell by its name, without importing any of them: they need MuJoCo, a name does not."""

import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium

TASKS: Mapping[str, str] = {
    "workcell/lego": "lego.task:Lego",
    "workcell/lego_2": "lego.task:Lego2",
    "workcell/lego_10": "lego.task:Lego10",
    "workcell/lego_20": "lego.task:Lego20",
    "workcell/lego_34": "lego.task:Lego34",
    "workcell/belt": "belt.task:Belt",
    "workcell/belt_stream": "belt.task:BeltStream",
    "workcell/insert": "insert.task:Insert",
    "workcell/towel": "towel.task:TowelTask",
    "workcell/towel_moved": "towel.task:MovedTowelTask",
    "workcell/towel_flatten": "towel.task:FlattenTask",
    "workcell/towel_line": "towel.line:TowelLineTask",
}
"""Name, e.g. `workcell/lego` -> `module:class` in `cerebella.envs.workcell`; the class is made without arguments."""

_PACKAGE = __name__.rpartition(".")[0]


def make_task(name: str) -> Any:
    """The `WorkcellTask` of that name.

    Raises:
        ValueError: an unknown name. ImportError: MuJoCo is not installed.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; known tasks: {', '.join(TASKS)}")
    module, _, class_name = TASKS[name].partition(":")
    return getattr(workcell_module(module), class_name)()


def workcell_module(name: str) -> Any:
    """A module of this package that needs MuJoCo.

    Raises:
        ImportError: MuJoCo is not installed; says how to.
    """
    try:
        return importlib.import_module(f"{_PACKAGE}.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "mujoco":
            raise
        raise ImportError("the workcell needs MuJoCo; install it with: pip install 'cerebella[sim]'") from error


def gymnasium_id(name: str) -> str:
    """E.g. `workcell/lego` -> `cerebella/Lego-v0`."""
    words = name.removeprefix("workcell/").split("_")
    return f"cerebella/{''.join(word.capitalize() for word in words)}-v0"


def register_tasks() -> None:
    """Make the names known to `gymnasium.make`; importing `cerebella.envs` does. A second call changes nothing."""
    for name in TASKS:
        if gymnasium_id(name) not in gymnasium.registry:
            gymnasium.register(id=gymnasium_id(name), entry_point=f"{_PACKAGE}.gym:WorkcellGym", kwargs={"task": name})
