"""The conveyor as one `Environment`, and the expert as a `Policy` on top of it."""

import time
from collections.abc import Callable

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.conveyor import CONVEYOR, OUTCOMES, PICKED, ConveyorConfig, ConveyorState, step
from cerebella.envs.dynamic.conveyor_expert import ExpertStyle, expert_plan, steady_style
from cerebella.envs.dynamic.conveyor_prompts import prompts
from cerebella.envs.dynamic.conveyor_render import render
from cerebella.envs.dynamic.conveyor_reset import reset
from cerebella.interfaces import PolicyMetadata, Status
from cerebella.types import Action, ActionChunk, FloatArray, Observation

_NUM_KEPT_TICKS = 64


class Conveyor:
    """One scene at control rate; fits the `Environment` protocol.

    Args:
        with_images: whether observations carry the `base` picture (64 x 96); without, the camera costs nothing.
        perturbation: disturb the episode once: the belt changes its speed by a lot, or the target is pushed sideways.
            The same seed without it is the counterfactual twin: identical until that tick.
        config: the physical constants; the defaults if not given.
        clock_s: what stamps observations, monotonic seconds; the virtual time tick / control_hz if not given.
    """

    def __init__(
        self,
        with_images: bool = True,
        perturbation: bool = False,
        config: ConveyorConfig | None = None,
        clock_s: Callable[[], float] | None = None,
    ) -> None:
        """See the class."""
        self.with_images = with_images
        self.perturbation = perturbation
        self.config = config or ConveyorConfig()
        self._clock_s = clock_s
        self._state: ConveyorState | None = None
        self._history: dict[int, ConveyorState] = {}
        self._path_m = 0.0

    @property
    def embodiment(self) -> Embodiment:
        """`CONVEYOR`."""
        return CONVEYOR

    def reset(self, seed: int) -> None:
        """Start the episode that `seed` (0 or above) decides, at tick 0."""
        self._state = reset([seed], self.perturbation, self.config)
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
            state=state.proprioception[0],
            prompt=prompts(state)[0],
            tick=tick,
            timestamp_s=tick / self.config.control_hz if self._clock_s is None else self._clock_s(),
            images={"base": render(self.config, state)[0]} if self.with_images else {},
        )

    def apply(self, action: Action) -> None:
        """Execute the command of the current tick; one tick passes.

        Raises:
            ValueError: wrong shape, `action.tick` is not the current tick, or the episode is over.
        """
        state = self._current()
        tick = int(state.tick[0])
        CONVEYOR.check_actions(action.values)
        if action.tick != tick:
            raise ValueError(f"conveyor: the command is for tick {action.tick}, but the current tick is {tick}")
        if not state.is_running[0]:
            raise ValueError(
                f"conveyor: the episode is over ({OUTCOMES[state.outcome[0]]!r}) at tick {tick}; call reset"
            )
        self._state = step(self.config, state, action.values[None])
        self._path_m += float(np.linalg.norm(self._state.gripper - state.gripper))
        self._history[tick + 1] = self._state
        self._history.pop(tick + 1 - _NUM_KEPT_TICKS, None)

    def status(self) -> Status:
        """Where the episode stands.

        Metrics: `ticks`; `num_grasp_attempts` (closings of the gripper); `perturbation_tick` (-1 until or unless it
        happens); `belt_speed` (m/s) now; `gripper_distance_m` to the named part; `path_m`, the gripper's way so far.
        """
        state = self._current()
        outcome = int(state.outcome[0])
        perturbation_tick = int(state.perturbation_tick[0])
        has_happened = 0 <= perturbation_tick <= int(state.tick[0])
        metrics = {
            "ticks": float(state.tick[0]),
            "num_grasp_attempts": float(state.num_attempts[0]),
            "perturbation_tick": float(perturbation_tick if has_happened else -1),
            "belt_speed": float(state.belt_speed[0]),
            "gripper_distance_m": float(np.linalg.norm(state.target_position[0] - state.gripper[0])),
            "path_m": self._path_m,
        }
        return Status(
            is_done=not bool(state.is_running[0]),
            is_success=outcome == PICKED,
            reason=OUTCOMES[outcome],
            metrics=metrics,
        )

    def snapshot(self) -> ConveyorState:
        """A copy of the current state (one scene), e.g. for `render` at any size after the episode."""
        return self._current().take(slice(None))

    def state_at(self, tick: int) -> ConveyorState:
        """The true state at one of the last 64 ticks.

        Raises:
            ValueError: the tick is older, or has not come yet.
        """
        self._current()
        if tick not in self._history:
            raise ValueError(
                f"conveyor: tick {tick} is not kept; kept ticks: {min(self._history)}..{max(self._history)}"
            )
        return self._history[tick]

    def _current(self) -> ConveyorState:
        if self._state is None:
            raise ValueError("conveyor: call reset(seed) first")
        return self._state


class ConveyorExpert:
    """The expert as a `Policy`. It reads the true state at `observation.tick` from the environment it is built on.

    Args:
        environment: whose episodes it solves.
        horizon: rows per chunk, H.
        style: one demonstrator's style (N = 1); straight at 0.35 m/s if not given.
    """

    def __init__(self, environment: Conveyor, horizon: int = 30, style: ExpertStyle | None = None) -> None:
        """See the class."""
        if horizon < 2:
            raise ValueError(f"ConveyorExpert: horizon must be 2 or more (rows); got {horizon}")
        self.environment = environment
        self.style = steady_style(1) if style is None else style
        self._metadata = PolicyMetadata(
            policy_id="expert",
            embodiment=CONVEYOR,
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
        """The prefix, then the law from where the prefix leaves the robot, on a belt that keeps its current speed.

        Raises:
            ValueError: wrong shapes, a prefix of H rows or more, or an observation older than 64 ticks.
        """
        horizon = self._metadata.horizon
        CONVEYOR.check_state(observation.state)
        CONVEYOR.check_actions(action_prefix)
        if action_prefix.ndim != 2 or len(action_prefix) >= horizon:
            raise ValueError(
                f"ConveyorExpert: action_prefix must be float32[0..{horizon - 1}, 3]; got {list(action_prefix.shape)}"
            )
        start_s = time.perf_counter()
        state = self.environment.state_at(observation.tick)
        rows = expert_plan(self.environment.config, state, self.style, horizon, action_prefix[None])[0]
        return ActionChunk(
            actions=rows,
            start_tick=observation.tick,
            observation_tick=observation.tick,
            prefix_length=len(action_prefix),
            policy_id=self._metadata.policy_id,
            duration_s=time.perf_counter() - start_s,
        )
