"""The three seams of the acting side: a policy thinks, an environment (or robot) acts, a filter may correct.

Each is a protocol of one to four methods; anything with these methods fits, there is nothing to inherit from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cerebella.embodiment import Embodiment
from cerebella.types import Action, ActionChunk, FloatArray, Observation


@dataclass(frozen=True)
class PolicyMetadata:
    """What an executor must know about a policy before it lets it move anything.

    Args:
        policy_id: name and weights hash; written into every chunk and result.
        embodiment: what the numbers mean.
        horizon: rows in a chunk (H).
        mask_variant: attention rule that the weights were trained with; None for a policy without attention.
        max_trained_prefix: longest action prefix seen in training; 0 if it takes none.
        statistics_hash: identifies the normalisation; two policies that share it can be swapped in place.
    """

    policy_id: str
    embodiment: Embodiment
    horizon: int
    mask_variant: str | None
    max_trained_prefix: int
    statistics_hash: str


class Policy(Protocol):
    """Observation in, chunk of absolute actions out. Called from one worker thread at a time."""

    @property
    def metadata(self) -> PolicyMetadata:
        """What an executor must know; constant."""
        ...

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """Compute the next chunk; row 0 belongs to `observation.tick`.

        Args:
            observation: the newest one.
            action_prefix: float32[p, action_dim], absolute, raw units: commands sent or promised for the ticks
                `observation.tick ... + p - 1`. p = 0 is an empty array, never zeros.

        Raises:
            ValueError: wrong shapes or p > H - 1.
        """
        ...


@dataclass(frozen=True)
class Status:
    """Where an episode stands. `reason` is empty while it runs; `metrics` are named numbers for the result row."""

    is_done: bool
    is_success: bool
    reason: str
    metrics: Mapping[str, float] = field(default_factory=dict)


class Environment(Protocol):
    """A robot or a simulator at control rate. `apply` is followed by time passing: one tick."""

    @property
    def embodiment(self) -> Embodiment:
        """What states and actions mean here; constant."""
        ...

    def reset(self, seed: int) -> None:
        """Start a new episode at tick 0; the seed decides everything that happens in it."""
        ...

    def observe(self) -> Observation:
        """What is measured at the current tick. No side effect."""
        ...

    def apply(self, action: Action) -> None:
        """Execute the command of the current tick.

        Raises:
            ValueError: wrong shape, or `action.tick` is not the current tick.
        """
        ...

    def status(self) -> Status:
        """Where the episode stands at the current tick. No side effect."""
        ...


@dataclass(frozen=True)
class Takeover:
    """A filter's claim on the robot: it sends `action` now and owns the next `remaining_ticks` ticks."""

    action: Action
    remaining_ticks: int
    reason: str


class ActionFilter(Protocol):
    """Sits between executor and safety, at control rate; sees each command before it is sent."""

    def filter(self, observation: Observation, action: Action) -> Action | Takeover:
        """The command to send instead (often `action` itself), or a claim on the next ticks."""
        ...
