"""Every dynamic task by its name: environments, Gymnasium names, tests, benches and the study read this list."""

from collections.abc import Mapping
from typing import Any

from cerebella.envs.dynamic.balance import Balance
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.insert_moving import InsertMoving
from cerebella.envs.dynamic.intercept import Intercept
from cerebella.envs.dynamic.jammed_drawer import JammedDrawer
from cerebella.envs.dynamic.mode_switch import ModeSwitch
from cerebella.envs.dynamic.task import Task

_CLASSES: tuple[type[Task[Any]], ...] = (ConveyorTask, Intercept, Balance, JammedDrawer, ModeSwitch, InsertMoving)

TASKS: Mapping[str, type[Task[Any]]] = {task.name: task for task in _CLASSES}
"""Name, e.g. `dynamic/conveyor` -> class, made without arguments."""
