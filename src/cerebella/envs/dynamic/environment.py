"""One scene of a dynamic task as an `Environment`, and its expert as a `Policy` on top of it."""

import time
from collections.abc import Callable
from typing import Generic

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.lockstep import Lockstep
from cerebella.envs.dynamic.task import S, Task
from cerebella.interfaces import PolicyMetadata, Status
from cerebella.types import Action, ActionChunk, FloatArray, Observation

_NUM_KEPT_TICKS = 64


class DynamicEnvironment(Generic[S]):
    """One scene at control rate; fits the `Environment` protocol.

    Args:
        task: which.
        with_images: observations carry the `base` picture (64 x 96) and the robot's own numbers; without, the scene as
            numbers instead (`Task.state_embodiment`), and the camera costs nothing.
        perturbation: disturb the episode once. The same seed without it is the counterfactual twin: identical until that
            tick.
        clock_s: what stamps observations, monotonic seconds; the virtual time tick / control_hz if not given.
        lockstep: shared with other environments of the same task: a command takes effect when the first of them is looked
            at, for all in one batch. The numbers are the same.
    """

    def __init__(
        self,
        task: Task[S],
        with_images: bool = True,
        perturbation: bool = False,
        clock_s: Callable[[], float] | None = None,
        lockstep: Lockstep[S] | None = None,
    ) -> None:
        """See the class."""
        self.task = task
        self.with_images = with_images
        self.perturbation = perturbation
        self._clock_s = clock_s
        self._lockstep = lockstep or Lockstep(task)
        self._is_alone = lockstep is None
        self._is_waiting = False
        self._state: S | None = None
        self._history: dict[int, S] = {}
        self._path_m = 0.0

    @property
    def embodiment(self) -> Embodiment:
        """With or without a camera, as `with_images` says."""
        return self.task.embodiment if self.with_images else self.task.state_embodiment

    def reset(self, seed: int) -> None:
        """Start the episode that `seed` (0 or above) decides, at tick 0."""
        if self._is_waiting:
            self._lockstep.step()
        self._state = self.task.reset([seed], self.perturbation)
        self._history = {0: self._state}
        self._path_m = 0.0

    def observe(self) -> Observation:
        """What is measured at the current tick. No side effect.

        Raises:
            ValueError: before the first `reset`.
        """
        state = self._current()
        tick = int(state.tick[0])
        return Observation(
            state=self.task.observed(state, self.with_images)[0],
            prompt=self.task.prompts(state)[0],
            tick=tick,
            timestamp_s=tick / self.embodiment.control_hz if self._clock_s is None else self._clock_s(),
            images={"base": self.task.render(state)[0]} if self.with_images else {},
        )

    def apply(self, action: Action) -> None:
        """Execute the command of the current tick; one tick passes.

        Raises:
            ValueError: wrong shape, `action.tick` is not the current tick, or the episode is over.
        """
        state = self._current()
        tick = int(state.tick[0])
        self.embodiment.check_actions(action.values)
        if action.tick != tick:
            raise ValueError(f"{self.task.name}: the command is for tick {action.tick}, but the current tick is {tick}")
        if not state.is_running[0]:
            raise ValueError(
                f"{self.task.name}: the episode is over ({self.task.outcomes[state.outcome[0]]!r}) at tick {tick}; call "
                "reset"
            )
        self._lockstep.wait(state, action.values, self._arrive)
        self._is_waiting = True
        if self._is_alone:
            self._lockstep.step()

    def status(self) -> Status:
        """Where the episode stands.

        Metrics: `ticks`; `perturbation_tick` (-1 until or unless it happens); `path_m`, the tool's way so far; and those
        of the task.
        """
        state = self._current()
        outcome = int(state.outcome[0])
        perturbation_tick = int(state.perturbation_tick[0])
        has_happened = 0 <= perturbation_tick <= int(state.tick[0])
        metrics = {
            "ticks": float(state.tick[0]),
            "perturbation_tick": float(perturbation_tick if has_happened else -1),
            "path_m": self._path_m,
            **{name: float(values[0]) for name, values in self.task.metrics(state).items()},
        }
        return Status(
            is_done=not bool(state.is_running[0]),
            is_success=outcome == self.task.success,
            reason=self.task.outcomes[outcome],
            metrics=metrics,
        )

    def snapshot(self) -> S:
        """A copy of the current state (one scene), e.g. for `Task.render` at any size after the episode."""
        return self._current().take(slice(None))

    def state_at(self, tick: int) -> S:
        """The true state at one of the last 64 ticks.

        Raises:
            ValueError: the tick is older, or has not come yet.
        """
        self._current()
        if tick not in self._history:
            raise ValueError(
                f"{self.task.name}: tick {tick} is not kept; kept ticks: {min(self._history)}..{max(self._history)}"
            )
        return self._history[tick]

    def _current(self) -> S:
        if self._is_waiting:
            self._lockstep.step()
        if self._state is None:
            raise ValueError(f"{self.task.name}: call reset(seed) first")
        return self._state

    def _arrive(self, state: S) -> None:
        assert self._state is not None
        self._is_waiting = False
        self._path_m += float(np.linalg.norm(state.gripper - self._state.gripper))
        self._state = state
        tick = int(state.tick[0])
        self._history[tick] = state
        self._history.pop(tick - _NUM_KEPT_TICKS, None)


class DynamicExpert(Generic[S]):
    """The expert as a `Policy`. It reads the true state at `observation.tick` from the environment it is built on.

    Args:
        environment: whose episodes it solves.
        horizon: rows per chunk, H.
        style: one demonstrator's style, float32[1, k]; the steady one if not given.
        knows_future: it also foresees what nobody can: the best that is possible.
    """

    def __init__(
        self,
        environment: DynamicEnvironment[S],
        horizon: int = 30,
        style: FloatArray | None = None,
        knows_future: bool = False,
    ) -> None:
        """See the class."""
        if horizon < 2:
            raise ValueError(f"{type(self).__name__}: horizon must be 2 or more (rows); got {horizon}")
        self.environment = environment
        self.style = environment.task.steady_style(1) if style is None else style
        self.knows_future = knows_future
        self._metadata = PolicyMetadata(
            policy_id="expert",
            embodiment=environment.embodiment,
            horizon=horizon,
            mask_variant=None,
            max_trained_prefix=horizon - 1,
            statistics_hash="",
        )

    @property
    def metadata(self) -> PolicyMetadata:
        """Takes any prefix below its horizon."""
        return self._metadata

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """The prefix, then the law from where the prefix leaves the robot, in a world without surprises.

        Raises:
            ValueError: wrong shapes, a prefix of H rows or more, or an observation older than 64 ticks.
        """
        horizon, embodiment = self._metadata.horizon, self._metadata.embodiment
        embodiment.check_state(observation.state)
        embodiment.check_actions(action_prefix)
        if action_prefix.ndim != 2 or len(action_prefix) >= horizon:
            raise ValueError(
                f"{type(self).__name__}: action_prefix must be float32[0..{horizon - 1}, {embodiment.action_dim}]; "
                f"got {list(action_prefix.shape)}"
            )
        start_s = time.perf_counter()
        state = self.environment.state_at(observation.tick)
        rows = self.environment.task.expert_plan(
            state, self.style, horizon, action_prefix[None], knows_future=self.knows_future
        )[0]
        return ActionChunk(
            actions=rows,
            start_tick=observation.tick,
            observation_tick=observation.tick,
            prefix_length=len(action_prefix),
            policy_id=self._metadata.policy_id,
            duration_s=time.perf_counter() - start_s,
        )
