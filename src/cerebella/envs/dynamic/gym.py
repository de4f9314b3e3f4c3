"""Every dynamic task behind the Gymnasium API: one scene (e.g. `cerebella/Conveyor-v0`) or many at once.

Reward 1 when the episode succeeds, else 0. Episodes terminate on every outcome but the time limit, which truncates them.
"""

from typing import Any, Generic

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from cerebella.envs.dynamic.task import S, Task
from cerebella.envs.dynamic.tasks import TASKS
from cerebella.types import BoolArray, FloatArray

_MAX_SEED = 2**31 - 1

Observations = dict[str, Any]


def gymnasium_id(name: str) -> str:
    """E.g. `dynamic/jammed_drawer` -> `cerebella/JammedDrawer-v0`."""
    words = name.removeprefix("dynamic/").split("_")
    return f"cerebella/{''.join(word.capitalize() for word in words)}-v0"


def register_tasks() -> None:
    """Make the names known to `gymnasium.make`; importing `cerebella.envs` does. A second call changes nothing."""
    for name in TASKS:
        if gymnasium_id(name) not in gymnasium.registry:
            gymnasium.register(
                id=gymnasium_id(name),
                entry_point=f"{__name__}:TaskGym",
                vector_entry_point=f"{__name__}:TaskVectorEnv",
                kwargs={"name": name},
            )


class TaskGym(gymnasium.Env[Observations, FloatArray], Generic[S]):
    """One scene. Observation: `state` float32[D], `prompt` text, `base` uint8[64, 96, 3]; action float32[A].

    Args:
        name: which task, e.g. `dynamic/conveyor`.
        with_images: whether there is a `base` picture; without, `state` has the scene as numbers.
        perturbation: disturb every episode once. render_mode: None or `rgb_array` (384 x 576).

    Raises:
        ValueError: an unknown task or render_mode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(
        self, name: str, with_images: bool = True, perturbation: bool = False, render_mode: str | None = None
    ) -> None:
        """See the class."""
        self.task: Task[S] = _make_task(name)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"{name}: unknown render_mode {render_mode!r}; known modes: rgb_array")
        self.render_mode = render_mode
        self.with_images = with_images
        self.perturbation = perturbation
        self.observation_space = _observation_space(self.task, with_images)
        self.action_space = _action_space(self.task)
        self._state: S | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode; with the same seed, the same one. Without a seed the next one of the seeded sequence."""
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(_MAX_SEED))
        self._state = self.task.reset([episode_seed], self.perturbation)
        return self._observation(), {"episode_seed": episode_seed}

    def step(self, action: FloatArray) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One tick.

        Raises:
            ValueError: wrong shape, not finite, or no episode is running.
        """
        if self._state is None or not self._state.is_running[0]:
            raise ValueError(f"{self.task.name}: no episode is running; call reset")
        self._state = self.task.step(self._state, np.asarray(action, dtype=np.float32)[None])
        outcome = int(self._state.outcome[0])
        is_truncated = outcome == self.task.timeout
        is_terminated = not self._state.is_running[0] and not is_truncated
        reward = float(outcome == self.task.success)
        return self._observation(), reward, is_terminated, is_truncated, {"reason": self.task.outcomes[outcome]}

    def render(self) -> NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene from above, uint8[384, 576, 3], in the mode `rgb_array`; None otherwise."""
        if self.render_mode is None or self._state is None:
            return None
        return self.task.render(self._state, 384, 576)[0]

    def _observation(self) -> Observations:
        assert self._state is not None
        observations = _observe(self.task, self._state, self.with_images)
        return {key: value[0] for key, value in observations.items()}


class TaskVectorEnv(gymnasium.vector.VectorEnv[Observations, FloatArray, NDArray[Any]], Generic[S]):
    """Many scenes in one array program, with Gymnasium's `NEXT_STEP` autoreset.

    A scene that ended ignores its next action: that step starts its next episode and returns the first observation,
    reward 0. `step` takes float32[num_envs, A]; observations are stacked, `prompt` is a tuple of strings.

    Args:
        name: which task. num_envs: scenes. with_images, perturbation: as in `TaskGym`. render_mode: None only.

    Raises:
        ValueError: an unknown task or render_mode, or no scene.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        name: str,
        num_envs: int = 1,
        with_images: bool = True,
        perturbation: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """See the class."""
        self.task: Task[S] = _make_task(name)
        if num_envs < 1:
            raise ValueError(f"{name}: num_envs must be 1 or more; got {num_envs}")
        if render_mode is not None:
            raise ValueError(f"{name}: unknown render_mode {render_mode!r}; many scenes at once only know None")
        self.num_envs = num_envs
        self.render_mode = None
        self.with_images = with_images
        self.perturbation = perturbation
        self.single_observation_space = _observation_space(self.task, with_images)
        self.single_action_space = _action_space(self.task)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._state: S | None = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode in every scene.

        Raises:
            ValueError: `seed` is a list: one number seeds the whole vector.
        """
        if isinstance(seed, list):
            raise ValueError(f"{self.task.name}: seed must be one integer or None; got a list of {len(seed)}")
        super().reset(seed=seed)
        self._state = self._new_scenes(self.num_envs)
        return _observe(self.task, self._state, self.with_images), {}

    def step(
        self, actions: FloatArray
    ) -> tuple[Observations, NDArray[np.float64], BoolArray, BoolArray, dict[str, Any]]:
        """One tick in every scene; scenes that had ended start anew instead.

        Raises:
            ValueError: wrong shape, not finite, or before the first `reset`.
        """
        if self._state is None:
            raise ValueError(f"{self.task.name}: call reset first")
        was_over = ~self._state.is_running
        state = self.task.step(self._state, np.asarray(actions, dtype=np.float32))
        if was_over.any():
            state = state.with_scenes(np.flatnonzero(was_over), self._new_scenes(int(was_over.sum())))
        self._state = state
        is_truncated = state.outcome == self.task.timeout
        is_terminated = ~state.is_running & ~is_truncated
        reward = (state.outcome == self.task.success).astype(np.float64)
        info = {"reason": np.array(self.task.outcomes)[state.outcome]}
        return _observe(self.task, state, self.with_images), reward, is_terminated, is_truncated, info

    def _new_scenes(self, count: int) -> S:
        return self.task.reset(self.np_random.integers(_MAX_SEED, size=count), self.perturbation)


def _make_task(name: str) -> Task[Any]:
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; known tasks: {', '.join(TASKS)}")
    return TASKS[name]()


def _observation_space(task: Task[Any], with_images: bool) -> spaces.Dict:
    states = (task.embodiment if with_images else task.state_embodiment).states
    low = np.array([d.low for d in states], dtype=np.float32)
    high = np.array([d.high for d in states], dtype=np.float32)
    texts = task.all_prompts()
    entries: dict[str, spaces.Space[Any]] = {
        "state": spaces.Box(low, high, dtype=np.float32),
        "prompt": spaces.Text(
            max_length=max(map(len, texts)), min_length=1, charset="".join(sorted(set("".join(texts))))
        ),
    }
    if with_images:
        entries["base"] = spaces.Box(0, 255, (64, 96, 3), dtype=np.uint8)
    return spaces.Dict(entries)


def _action_space(task: Task[Any]) -> spaces.Space[Any]:
    low = np.array([d.low for d in task.embodiment.actions], dtype=np.float32)
    high = np.array([d.high for d in task.embodiment.actions], dtype=np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def _observe(task: Task[S], state: S, with_images: bool) -> Observations:
    observations: Observations = {"state": task.observed(state, with_images), "prompt": tuple(task.prompts(state))}
    if with_images:
        observations["base"] = task.render(state)
    return observations
