"""A task of the workcell behind the Gymnasium API, e.g. `cerebella/Lego-v0`.

Many at once, one process each: `gymnasium.make_vec("cerebella/Lego-v0", num_envs=8, vectorization_mode="async")`.
Reward 1 when the episode succeeds, else 0. Episodes terminate on every outcome but the time limit, which truncates them.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cerebella.arms import ControlMode
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.randomisation import Randomisation
from cerebella.envs.workcell.task import WorkcellTask
from cerebella.envs.workcell.tasks import make_task
from cerebella.types import Action, FloatArray

_MAX_SEED = 2**31 - 1

Observations = dict[str, Any]


class WorkcellGym(gymnasium.Env[Observations, FloatArray]):
    """One cell. Observation: `state` float32[26], `prompt` text, and the views uint8[h, w, 3]; action float32[14].

    Args:
        task: its name, or the task itself.
        control_mode, with_images, render_size, randomisation: as in `WorkcellEnvironment`.
        render_mode: None or `rgb_array` (the view `base`).

    Raises:
        ValueError: an unknown task, render_mode or option.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(
        self,
        task: str | WorkcellTask[Any],
        control_mode: ControlMode = "end_effector",
        with_images: bool = True,
        render_size: tuple[int, int] = (224, 224),
        randomisation: Randomisation | str = "none",
        render_mode: str | None = None,
    ) -> None:
        """See the class."""
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}; known modes: rgb_array")
        made = make_task(task) if isinstance(task, str) else task
        self.render_mode = render_mode
        self.cell_environment = WorkcellEnvironment(made, control_mode, with_images, render_size, randomisation)
        self.observation_space = _observation_space(self.cell_environment)
        actions = self.cell_environment.embodiment.actions
        low, high = (np.array([getattr(d, end) for d in actions], dtype=np.float32) for end in ("low", "high"))
        self.action_space = spaces.Box(low, high, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode; with the same seed, the same one. Without a seed the next one of the seeded sequence."""
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(_MAX_SEED))
        self.cell_environment.reset(episode_seed)
        return self._observation(), {"episode_seed": episode_seed}

    def step(self, action: FloatArray) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One tick.

        Raises:
            ValueError: wrong shape, not finite, or no episode is running.
        """
        tick = self.cell_environment.cell.tick
        self.cell_environment.apply(Action(values=np.asarray(action, dtype=np.float32), tick=tick))
        status = self.cell_environment.status()
        is_truncated = status.is_done and status.reason == "time"
        info = {"reason": status.reason, **status.metrics}
        is_terminated = status.is_done and not is_truncated
        return self._observation(), float(status.is_done and status.is_success), is_terminated, is_truncated, info

    def render(self) -> NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The view `base` in the mode `rgb_array`; None otherwise."""
        return None if self.render_mode is None else self.cell_environment.draw()["base"]

    def close(self) -> None:
        """Give the graphics memory back."""
        self.cell_environment.close()

    def _observation(self) -> Observations:
        observed = self.cell_environment.observe()
        return {"state": observed.state, "prompt": observed.prompt, **observed.images}


def _observation_space(environment: WorkcellEnvironment[Any]) -> spaces.Dict:
    texts = environment.task.all_prompts()
    charset = "".join(sorted(set("".join(texts))))
    entries: dict[str, spaces.Space[Any]] = {
        "state": spaces.Box(-np.inf, np.inf, (environment.embodiment.state_dim,), dtype=np.float32),
        "prompt": spaces.Text(max_length=max(map(len, texts)), min_length=1, charset=charset),
    }
    for view in environment.embodiment.views:
        entries[view] = spaces.Box(0, 255, (*environment.render_size, 3), dtype=np.uint8)
    return spaces.Dict(entries)
