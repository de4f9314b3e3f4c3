"""What a dynamic task is: scenes as arrays, a step without chance, an expert without memory.

A task knows N scenes at once. Everything random about an episode is drawn by `reset` from one seed, with the same number
of draws whatever happens; `step` is a pure function afterwards. So a scene behaves the same alone or among thousands,
and the same seed without its perturbation is the counterfactual twin: identical until that tick.

One implementation gives an `Environment` and an expert `Policy` (`environment`), Gymnasium environments (`gym`) and
training windows (`windows`). Lengths are in metres; x runs to the right of the camera picture, y down, from its upper left
corner; one tick is 1 / 30 s.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.landmarks import Landmarks
from cerebella.types import BoolArray, FloatArray, ImageArray

IntArray = NDArray[np.int32]
Indices = NDArray[np.integer] | NDArray[np.bool_] | slice
"""Chooses scenes: integers, a mask, or a slice."""

RUNNING = 0
"""The outcome of an episode that goes on; its name in `Task.outcomes` is empty."""
FIRST_PERTURBATION_TICK, LAST_PERTURBATION_TICK = 8, 30
"""A perturbation of any task falls into these ticks, both included."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskState:
    """N scenes at one tick each. Every field of every kind of state is an array with the scene as its first axis.

    Args:
        tick: int32[N]. gripper: float32[N, 2] metres, where the tool is.
        outcome: int32[N] into `Task.outcomes`; once set it stays.
        prompt_index: int32[N], which wording of the instruction.
        perturbation_tick: int32[N], -1 for none.
    """

    tick: IntArray
    gripper: FloatArray
    outcome: IntArray
    prompt_index: IntArray
    perturbation_tick: IntArray

    def __len__(self) -> int:
        """Number of scenes, N."""
        return len(self.tick)

    @property
    def is_running(self) -> BoolArray:
        """bool[N], true until an outcome is set."""
        return self.outcome == RUNNING

    def take(self, indices: Indices) -> Self:
        """The scenes at `indices` (integers, a boolean mask, or a slice), copied."""
        return type(self)(**{f.name: np.array(getattr(self, f.name)[indices]) for f in fields(self)})

    def with_scenes(self, indices: NDArray[np.integer], scenes: Self) -> Self:
        """A copy whose scenes at `indices` are replaced by `scenes`, in order."""
        changed = self.take(slice(None))
        for f in fields(self):
            getattr(changed, f.name)[indices] = getattr(scenes, f.name)
        return changed


S = TypeVar("S", bound=TaskState)


def concatenate(states: Sequence[S]) -> S:
    """Join scenes along the first axis."""
    names = [f.name for f in fields(states[0])]
    return type(states[0])(**{name: np.concatenate([getattr(s, name) for s in states]) for name in names})


class Task(ABC, Generic[S]):
    """One dynamic task; stateless.

    Attributes:
        name: e.g. `dynamic/intercept`. embodiment: with a camera: `state` is what the robot itself measures, the scene is
            in the picture `base`. state_embodiment: without: the same numbers, then the scene as numbers.
        outcomes: what `TaskState.outcome` indexes, "" first. success: the outcome that counts. timeout: the outcome of an
            episode that only ran out of time.
        max_ticks: length limit of an episode. landmark_names: kinds of things in the picture, see `landmarks`.
    """

    name: str
    embodiment: Embodiment
    state_embodiment: Embodiment
    outcomes: tuple[str, ...]
    success: int
    timeout: int
    max_ticks: int
    landmark_names: tuple[str, ...]

    @abstractmethod
    def reset(self, seeds: Sequence[int] | NDArray[np.int64], perturbation: bool) -> S:
        """One scene per seed (0 or above), at tick 0.

        Args:
            perturbation: whether the scene is disturbed once, in the ticks 8..30.

        Raises:
            ValueError: a seed is negative or no integer, or there is none.
        """

    @abstractmethod
    def step(self, state: S, actions: FloatArray, with_events: bool = True) -> S:
        """Let one tick pass in every scene, also in those that have an outcome already; `state` is not changed.

        Args:
            actions: float32[N, A], absolute targets, clipped to the workspace.
            with_events: false leaves out what nobody can foresee (scheduled changes and the perturbation).

        Raises:
            ValueError: wrong shape or a number that is not finite.
        """

    @abstractmethod
    def proprioception(self, state: S) -> FloatArray:
        """What the robot itself measures, float32[N, embodiment.state_dim]."""

    @abstractmethod
    def scene_numbers(self, state: S) -> FloatArray:
        """What a camera shows, as numbers: float32[N, state_embodiment.state_dim - embodiment.state_dim].

        Nothing that lies in the future, and nothing that one look at the scene (and the last tick's motion) cannot tell.
        """

    @abstractmethod
    def prompts(self, state: S) -> list[str]:
        """The instruction of every scene: lower case, no punctuation."""

    @abstractmethod
    def all_prompts(self) -> list[str]:
        """Every instruction that can occur, without repetitions, in a fixed order."""

    @abstractmethod
    def render(self, state: S, height: int = 64, width: int = 96) -> ImageArray:
        """Pictures of all scenes from above, uint8[N, height, width, 3] RGB; the ratio is 2 : 3.

        Raises:
            ValueError: another ratio, or fewer than 32 rows.
        """

    @abstractmethod
    def landmarks(self, state: S) -> Landmarks:
        """What the pictures show and where, the same K things in every scene: all that one look tells about what to do."""

    @abstractmethod
    def steady_style(self, num_scenes: int) -> FloatArray:
        """The same demonstrator everywhere, float32[N, k]."""

    @abstractmethod
    def random_style(self, num_scenes: int, generator: np.random.Generator) -> FloatArray:
        """Demonstrators that differ (speed, which side, ...), float32[N, k]: two styles seen from one state are two right
        answers.
        """

    @abstractmethod
    def expert_command(self, state: S, style: FloatArray) -> FloatArray:
        """The expert's command of this tick, float32[N, A]: a law of the true state and the style alone."""

    @abstractmethod
    def metrics(self, state: S) -> Mapping[str, FloatArray]:
        """Named numbers of every scene, float[N] each, for result rows."""

    def observed(self, state: S, with_images: bool) -> FloatArray:
        """The state vectors of an observation, float32[N, D]: of `embodiment`, or of `state_embodiment` without images."""
        own = self.proprioception(state)
        return own if with_images else np.concatenate([own, self.scene_numbers(state)], axis=1, dtype=np.float32)

    def expert_plan(
        self,
        state: S,
        style: FloatArray,
        horizon: int,
        prefix: FloatArray | None = None,
        prefix_length: NDArray[np.integer] | None = None,
        knows_future: bool = False,
    ) -> FloatArray:
        """Roll the law and the dynamics forward: float32[N, horizon, A].

        Args:
            horizon: number of rows; row 0 is `expert_command(state, style)` without a prefix.
            prefix: float32[N, p, A], commands that are executed first, whatever the law says; they are the first rows.
            prefix_length: int[N], how many rows of `prefix` count per scene; all of them if not given.
            knows_future: let the events happen that nobody can foresee: the best that any policy could do.

        Raises:
            ValueError: `horizon` is below 1 or the prefix has a wrong shape.
        """
        width = self.embodiment.action_dim
        if horizon < 1:
            raise ValueError(f"expert_plan: horizon must be 1 or more (rows); got {horizon}")
        if prefix is None:
            prefix = np.zeros((len(state), 0, width), dtype=np.float32)
        if prefix.shape != (len(state), prefix.shape[1], width) or prefix.shape[1] > horizon:
            raise ValueError(
                f"expert_plan: prefix must be float32[{len(state)}, 0..{horizon}, {width}]; got {list(prefix.shape)}"
            )
        lengths = np.full(len(state), prefix.shape[1]) if prefix_length is None else prefix_length
        rows = np.empty((len(state), horizon, width), dtype=np.float32)
        for i in range(horizon):
            command = self.expert_command(state, style)
            if i < prefix.shape[1]:
                command = np.where((i < lengths)[:, None], prefix[:, i], command).astype(np.float32)
            rows[:, i] = command
            state = self.step(state, command, with_events=knows_future)
        return rows

    def check_actions(self, actions: FloatArray, num_scenes: int) -> None:
        """Raise a ValueError unless `actions` is a finite float32[num_scenes, A]."""
        names = ", ".join(f"{d.name} [{d.unit}]" for d in self.embodiment.actions)
        if actions.shape != (num_scenes, self.embodiment.action_dim) or actions.dtype != np.float32:
            raise ValueError(
                f"{self.name}: actions must be float32[{num_scenes}, {self.embodiment.action_dim}] ({names}); "
                f"got {actions.dtype}{list(actions.shape)}"
            )
        if not np.isfinite(actions).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(actions))[0])
            raise ValueError(
                f"{self.name}: actions must be finite; scene {row} dimension {column} is {actions[row, column]}"
            )
