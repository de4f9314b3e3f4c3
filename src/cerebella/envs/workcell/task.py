"""What a task of the workcell is: things on the table, an instruction, success, and an expert that works from the truth.

    class Lego(WorkcellTask[LegoEpisode]): ...

A task is made once per environment and keeps nothing about an episode in itself: `reset` returns an episode, and every
other method is given it. Physical state lives in MuJoCo's data (`cell.data`), everything else in the episode.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import mujoco
import numpy as np

from cerebella.envs.workcell.cell import Cell
from cerebella.geometry import Array
from cerebella.interfaces import Status


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One thing that a sentence can be about.

    Args:
        name: unique in its scene, e.g. `brick_3`. kind: what a person calls it, e.g. `brick`. colour: e.g. `red`.
        position_m: of its middle in the world frame, float64[3].
        size_m: edge lengths of the box around it, in the world's axes, float64[3].
    """

    name: str
    kind: str
    colour: str
    position_m: Array
    size_m: Array


@dataclass(kw_only=True)
class Episode:
    """What a task remembers about the running episode; tasks add their fields.

    Args:
        prompt: the instruction, as a person would say it: lower case, no punctuation.
    """

    prompt: str


E = TypeVar("E", bound=Episode)


class ArmTarget(NamedTuple):
    """Where one arm should be at the end of a tick: `T_world_tool` float64[4, 4], opening 0 closed .. 1 open."""

    T_world_tool: Array
    opening: float


class Targets(NamedTuple):
    """What an expert asks of both arms for one tick."""

    left: ArmTarget
    right: ArmTarget


Plan = Generator[Targets, None, None]
"""An expert at work: one `Targets` per tick. Between two of them the tick has passed, so that it can look again."""


class WorkcellTask(ABC, Generic[E]):
    """One task.

    Attributes:
        name: e.g. `workcell/lego`.
        steps_per_tick: physics steps per control tick of 1/30 s, a whole number: 16 for bricks, 8 for cloth.
        max_ticks: length limit of an episode.
        hold_still: how to hold still in this task, for people.
    """

    name: str
    steps_per_tick: int
    max_ticks: int
    hold_still: str

    @abstractmethod
    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add bodies, tendons and equalities to the room, and set physics options; called once, before compiling.

        Everything that any episode needs is there from the start; `reset` only moves, hides and recolours. The time step
        follows from `steps_per_tick`.
        """

    @abstractmethod
    def reset(self, cell: Cell, rng: np.random.Generator) -> E:
        """Place things for a new episode, by `rng` alone.

        The model's arrays are as compiled (apart from randomised light, colours, cameras and friction), the data are reset,
        the arms are at home; all of these may be changed here. Nothing is recompiled.
        """

    def after_physics_step(self, cell: Cell, episode: E) -> None:
        """Called after each physics step: break a weld, drive a belt. The default does nothing."""

    def after_tick(self, cell: Cell, episode: E) -> None:
        """Called once per tick, after its last physics step, e.g. to count what is done. The default does nothing."""

    @abstractmethod
    def status(self, cell: Cell, episode: E) -> Status:
        """Where the episode stands, with metrics such as throughput. No side effect.

        The limit `max_ticks` is the environment's business: there, a running episode ends with the reason `time`.
        """

    @abstractmethod
    def all_prompts(self) -> tuple[str, ...]:
        """Every instruction that can occur, paraphrases included, without repetitions, in a fixed order."""

    @abstractmethod
    def truth(self, cell: Cell, episode: E) -> tuple[SceneObject, ...]:
        """The things in the scene now, in a fixed order."""

    def named(self, cell: Cell, episode: E) -> tuple[str, ...]:
        """Names of the things that the instruction is about and that still have to be handled, the next one first.

        All of them are in `truth` now. The default names none.
        """
        return ()

    @abstractmethod
    def expert(self, cell: Cell, episode: E, rng: np.random.Generator) -> Plan:
        """A demonstrator that solves the episode; `rng` varies its style. It reads `cell` and `episode`, and changes neither."""
