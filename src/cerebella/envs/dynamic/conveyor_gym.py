"""The conveyor behind the Gymnasium API: one scene (`cerebella/Conveyor-v0`) or many at once.

Reward 1 when the part is picked, else 0. Episodes terminate on picked, wrong part and left the belt, and are truncated
after 120 ticks.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from cerebella.envs.dynamic.conveyor import CONVEYOR, OUTCOMES, PICKED, TIME, ConveyorConfig, ConveyorState, step
from cerebella.envs.dynamic.conveyor_prompts import all_prompts, prompts
from cerebella.envs.dynamic.conveyor_render import render
from cerebella.envs.dynamic.conveyor_reset import reset
from cerebella.types import BoolArray, FloatArray

GYMNASIUM_ID = "cerebella/Conveyor-v0"
_MAX_SEED = 2**31 - 1

Observations = dict[str, Any]


def register_conveyor() -> None:
    """Make `gymnasium.make("cerebella/Conveyor-v0")` known; importing `cerebella.envs` does. A second call changes nothing."""
    if GYMNASIUM_ID not in gymnasium.registry:
        gymnasium.register(
            id=GYMNASIUM_ID,
            entry_point=f"{__name__}:ConveyorGym",
            vector_entry_point=f"{__name__}:ConveyorVectorEnv",
        )


def _observation_space(with_images: bool) -> spaces.Dict:
    low = np.array([d.low for d in CONVEYOR.states], dtype=np.float32)
    high = np.array([d.high for d in CONVEYOR.states], dtype=np.float32)
    texts = all_prompts()
    entries: dict[str, spaces.Space[Any]] = {
        "state": spaces.Box(low, high, dtype=np.float32),
        "prompt": spaces.Text(
            max_length=max(map(len, texts)), min_length=1, charset="".join(sorted(set("".join(texts))))
        ),
    }
    if with_images:
        entries["base"] = spaces.Box(0, 255, (64, 96, 3), dtype=np.uint8)
    return spaces.Dict(entries)


def _action_space() -> spaces.Space[Any]:
    low = np.array([d.low for d in CONVEYOR.actions], dtype=np.float32)
    high = np.array([d.high for d in CONVEYOR.actions], dtype=np.float32)
    return spaces.Box(low, high, dtype=np.float32)


class ConveyorGym(gymnasium.Env[Observations, FloatArray]):
    """One scene. Observation: `state` float32[4], `prompt` text, `base` uint8[64, 96, 3]; action float32[3].

    Args:
        with_images: whether there is a `base` picture. perturbation: see `Conveyor`.
        render_mode: None or `rgb_array` (384 x 576).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, with_images: bool = True, perturbation: bool = False, render_mode: str | None = None) -> None:
        """See the class."""
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"conveyor: unknown render_mode {render_mode!r}; known modes: rgb_array")
        self.render_mode = render_mode
        self.with_images = with_images
        self.perturbation = perturbation
        self.config = ConveyorConfig()
        self.observation_space = _observation_space(with_images)
        self.action_space = _action_space()
        self._state: ConveyorState | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode; with the same seed, the same one. Without a seed the next one of the seeded sequence."""
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(_MAX_SEED))
        self._state = reset([episode_seed], self.perturbation, self.config)
        return self._observation(), {"episode_seed": episode_seed}

    def step(self, action: FloatArray) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One tick.

        Raises:
            ValueError: wrong shape, not finite, or no episode is running.
        """
        if self._state is None or not self._state.is_running[0]:
            raise ValueError("conveyor: no episode is running; call reset")
        self._state = step(self.config, self._state, np.asarray(action, dtype=np.float32)[None])
        outcome = int(self._state.outcome[0])
        is_terminated = outcome not in (0, TIME)
        reward = float(outcome == PICKED)
        return self._observation(), reward, is_terminated, outcome == TIME, {"reason": OUTCOMES[outcome]}

    def render(self) -> NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene from above, uint8[384, 576, 3], in the mode `rgb_array`; None otherwise."""
        if self.render_mode is None or self._state is None:
            return None
        return render(self.config, self._state, 384, 576)[0]

    def _observation(self) -> Observations:
        assert self._state is not None
        observations = _observe(self.config, self._state, self.with_images)
        return {key: value[0] for key, value in observations.items()}


class ConveyorVectorEnv(gymnasium.vector.VectorEnv[Observations, FloatArray, NDArray[Any]]):
    """Many scenes in one array program, with Gymnasium's `NEXT_STEP` autoreset.

    A scene that ended ignores its next action: that step starts its next episode and returns the first observation,
    reward 0. `step` takes float32[num_envs, 3]; observations are stacked, `prompt` is a tuple of strings.

    Args:
        num_envs: scenes. with_images, perturbation: as in `ConveyorGym`. render_mode: None only.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        with_images: bool = True,
        perturbation: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """See the class."""
        if num_envs < 1:
            raise ValueError(f"ConveyorVectorEnv: num_envs must be 1 or more; got {num_envs}")
        if render_mode is not None:
            raise ValueError(f"ConveyorVectorEnv: unknown render_mode {render_mode!r}; it only knows None")
        self.num_envs = num_envs
        self.render_mode = None
        self.with_images = with_images
        self.perturbation = perturbation
        self.config = ConveyorConfig()
        self.single_observation_space = _observation_space(with_images)
        self.single_action_space = _action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._state: ConveyorState | None = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode in every scene.

        Raises:
            ValueError: `seed` is a list: one number seeds the whole vector.
        """
        if isinstance(seed, list):
            raise ValueError(f"ConveyorVectorEnv: seed must be one integer or None; got a list of {len(seed)}")
        super().reset(seed=seed)
        self._state = self._new_scenes(self.num_envs)
        return _observe(self.config, self._state, self.with_images), {}

    def step(
        self, actions: FloatArray
    ) -> tuple[Observations, NDArray[np.float64], BoolArray, BoolArray, dict[str, Any]]:
        """One tick in every scene; scenes that had ended start anew instead.

        Raises:
            ValueError: wrong shape, not finite, or before the first `reset`.
        """
        if self._state is None:
            raise ValueError("ConveyorVectorEnv: call reset first")
        was_over = ~self._state.is_running
        state = step(self.config, self._state, np.asarray(actions, dtype=np.float32))
        if was_over.any():
            state = state.with_scenes(np.flatnonzero(was_over), self._new_scenes(int(was_over.sum())))
        self._state = state
        is_truncated = state.outcome == TIME
        is_terminated = ~state.is_running & ~is_truncated
        reward = (state.outcome == PICKED).astype(np.float64)
        info = {"reason": np.array(OUTCOMES)[state.outcome]}
        return _observe(self.config, state, self.with_images), reward, is_terminated, is_truncated, info

    def _new_scenes(self, count: int) -> ConveyorState:
        return reset(self.np_random.integers(_MAX_SEED, size=count), self.perturbation, self.config)


def _observe(config: ConveyorConfig, state: ConveyorState, with_images: bool) -> Observations:
    observations: Observations = {"state": state.proprioception, "prompt": tuple(prompts(state))}
    if with_images:
        observations["base"] = render(config, state)
    return observations
