"""A benchmark of the vla-evaluation-harness without a simulator; runs under an interpreter that has `vla-eval`.

The state grows by one with every step. A policy whose row i is the first seven numbers of the state of its observation,
plus i, then answers every step n with the first seven numbers of the first state, plus n, wherever its chunks begin.
"""

from typing import Any

import numpy as np
from vla_eval.benchmarks.base import (  # pyright: ignore[reportMissingImports]
    StepBenchmark,
    StepResult,
    repeat_last_hold,
)
from vla_eval.specs import (  # pyright: ignore[reportMissingImports]
    GRIPPER_CLOSE_POS,
    IMAGE_RGB,
    LANGUAGE,
    POSITION_DELTA,
    ROTATION_AA,
    STATE_EEF_POS_AA_GRIP,
)

STATE = np.linspace(-0.5, 0.5, 8)


class CountingBenchmark(StepBenchmark):
    """Succeeds if every action is the one of its step (sync), or of a step that is not older than `max_age` (live)."""

    def __init__(
        self, num_steps: int = 20, max_age: int = 0, send_state: bool = False, send_wrist_image: bool = False
    ) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.max_age = max_age
        self.send_state = send_state
        self.send_wrist_image = send_wrist_image
        self._rng = np.random.default_rng(0)
        self._step = 0
        self._num_wrong = 0
        self._num_held = 0

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": "Count."}, {"name": "Count again."}]

    def reset(self, task: Any) -> Any:
        self._step = self._num_wrong = self._num_held = 0
        return {}

    def step(self, action: Any) -> Any:
        values = np.asarray(action["actions"], dtype=np.float64)
        if values.shape == (7,) and not values.any():
            self._num_held += 1  # the harness holds before the first answer
        else:
            ages = self._step - (values - STATE[:7]) if values.shape == (7,) else np.array([np.inf])
            is_right = ages.min() > -1e-5 and ages.max() < self.max_age + 1e-5 and np.ptp(ages) < 1e-5
            self._num_wrong += not is_right
        self._step += 1
        return StepResult(obs={}, reward=0.0, done=self._step >= self.num_steps, info={})

    def make_obs(self, raw_obs: Any, task: Any) -> dict[str, Any]:
        picture = self._rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        images = {"agentview": picture}
        if self.send_wrist_image:
            images["wrist"] = picture
        observation: dict[str, Any] = {"images": images, "task_description": task["name"]}
        if self.send_state:
            observation["states"] = STATE + self._step
        return observation

    def get_step_result(self, step_result: Any) -> dict[str, Any]:
        is_success = self._num_wrong == 0 and self._num_held <= self.num_steps // 2
        return {"success": bool(is_success), "num_wrong": int(self._num_wrong), "num_held": int(self._num_held)}

    def get_metric_keys(self) -> dict[str, str]:
        return {"success": "mean", "num_wrong": "sum", "num_held": "sum"}

    def get_metadata(self) -> dict[str, Any]:
        return {"max_steps": self.num_steps}

    def get_action_spec(self) -> dict[str, Any]:
        return {"position": POSITION_DELTA, "rotation": ROTATION_AA, "gripper": GRIPPER_CLOSE_POS}

    def get_observation_spec(self) -> dict[str, Any]:
        return {"agentview": IMAGE_RGB, "language": LANGUAGE, "state": STATE_EEF_POS_AA_GRIP}

    def get_hold_action(self, last_action: Any) -> Any:
        return repeat_last_hold(last_action, 7)
