"""What an operator may order: pause and resume, another task, take over by hand and hand back.

Whatever the policy had thought before an order is dropped: the running plan, and the answer under way. The robot comes to
rest within its limits first; the next plan starts from there with an empty prefix.
"""

import numpy as np

from cerebella.interfaces import PolicyMetadata
from cerebella.types import FloatArray


class Operator:
    """The orders of an executor; called from the control thread.

    Attributes:
        prompt: the instruction that replaces the observation's; None leaves it.
        human_values: what the human commands now, float32[action_dim]; None unless taken over.
        is_paused: no request is made and no plan is played.
    """

    metadata: PolicyMetadata

    def __init__(self) -> None:
        self.prompt: str | None = None
        self.human_values: FloatArray | None = None
        self.is_paused = False
        self._is_taken = False

    @property
    def is_idle(self) -> bool:
        """The policy has nothing to say now."""
        return self.is_paused or self._is_taken

    def pause(self) -> None:
        """Come to rest, and stay."""
        if not self.is_paused:
            self.is_paused = True
            self._drop_plan("pause")
            self._tell("pause")

    def resume(self) -> None:
        """Go on, with a new plan."""
        if self.is_paused:
            self.is_paused = False
            self._tell("resume")

    def set_prompt(self, prompt: str) -> None:
        """Follow another instruction from the next observation on.

        Raises:
            ValueError: an empty text.
        """
        if not prompt.strip():
            raise ValueError(f"an instruction must have a text; got {prompt!r}")
        self.prompt = prompt
        self._drop_plan("task")
        self._tell("task", prompt=prompt)

    def take_over(self) -> None:
        """The human drives: come to rest until the first `human_command`."""
        if not self._is_taken:
            self._is_taken = True
            self._drop_plan("take over")
            self._tell("take over")

    def human_command(self, values: FloatArray) -> None:
        """Where the human wants the robot to be; followed within the limits until the next one.

        Args:
            values: float32[action_dim], absolute targets in raw units.

        Raises:
            ValueError: wrong shape or not finite. RuntimeError: nobody has taken over.
        """
        if not self._is_taken:
            raise RuntimeError("human_command() needs take_over() first")
        if not isinstance(values, np.ndarray):
            raise ValueError(f"a human command must be an array, float32[action_dim]; got a {type(values).__name__}")
        self.metadata.embodiment.check_actions(values)
        if values.dtype != np.float32 or values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(
                f"a human command must be finite float32[action_dim]; got {values.dtype}{list(values.shape)}"
            )
        self.human_values = values.copy()
        self._tell("human command", values=" ".join(repr(float(value)) for value in values))

    def hand_back(self) -> None:
        """The policy drives again, with a new plan from where the robot is."""
        if self._is_taken:
            self._is_taken = False
            self.human_values = None
            self._tell("hand back")

    def _drop_plan(self, reason: str) -> None:
        raise NotImplementedError

    def _tell(self, name: str, **details: str | float | bool) -> None:
        raise NotImplementedError
