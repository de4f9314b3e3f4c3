"""What every real robot offers beyond `Environment`, and what all of them count: ticks, failures, faults."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Environment, Status
from cerebella.types import Action

logger = logging.getLogger(__name__)

_ALTERED = 1e-4
"""A command counts as altered by the robot beyond this share of a dimension's range."""


class Robot(Environment, Protocol):
    """An `Environment` that has a plug. All calls come from the control thread, except `stop`.

    A fault (a lost connection, a sensor that stays silent) is latched: `status` says so, nothing is sent any more, and
    only `connect` clears it. `reset` does not move a robot.
    """

    @property
    def exposures_s(self) -> Mapping[str, float]:
        """When each part of the last observation was measured, monotonic seconds: `state`, and each view."""
        ...

    @property
    def last_sent(self) -> Action | None:
        """The command that the robot really got last (it may clip), raw units; None before the first one."""
        ...

    def connect(self) -> None:
        """Open it and see that everything the mapping names is there. We send nothing.

        Raises:
            ValueError: something is missing, or does not answer.
        """
        ...

    def disconnect(self) -> None:
        """Close it. May be called twice, and after a fault. Whether motors stay stiff is the driver's affair."""
        ...

    def hold(self) -> None:
        """Ask it to stay where it was told to be last (the desired, not the measured pose, so that nothing jumps).

        Velocities become 0. Nothing is sent before the first command, nor after a fault.
        """
        ...

    def stop(self, reason: str) -> None:
        """An operator ends the episode: `status` says so from now on. From any thread."""
        ...


class ControlTicks:
    """Counts commands: tick n of a robot is its command n since `reset`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.now = 0

    def check(self, action: Action) -> None:
        """Raise a ValueError unless the command is for the current tick: an old point is never sent."""
        if action.tick != self.now:
            raise ValueError(f"{self._name}: the command is for tick {action.tick}, but the current tick is {self.now}")

    def advance(self) -> None:
        """The command of this tick was dealt with."""
        self.now += 1


class RobotHealth:
    """Faults that end an episode, and failures that do not yet.

    Args:
        name: of the robot, for messages.
        max_failures: so many failures of one kind in a row are bridged; the next one is a fault.
    """

    def __init__(self, name: str, max_failures: int) -> None:
        if max_failures < 0:
            raise ValueError(f"max_failures must be 0 or more; got {max_failures}")
        self._name = name
        self._max_failures = max_failures
        self._in_a_row: Counter[str] = Counter()
        self.clear()

    def clear(self) -> None:
        """A new connection."""
        self.num_failures = 0
        self._in_a_row.clear()
        self._fault = ""
        self._stopped_by = ""

    def forget_stop(self) -> None:
        """A new episode; a fault stays."""
        self._stopped_by = ""

    @property
    def fault_reason(self) -> str:
        """Empty while there is none; otherwise nothing may be sent any more."""
        return self._fault

    def succeeded(self, what: str) -> None:
        """A `read` or a `write` went well."""
        self._in_a_row[what] = 0

    def failed(self, what: str, error: Exception) -> None:
        """A `read` or a `write` went wrong."""
        self.num_failures += 1
        self._in_a_row[what] += 1
        message = f"{what} failed: {type(error).__name__}: {error}"
        logger.warning("%s: %s", self._name, message)
        if self._in_a_row[what] > self._max_failures:
            self.fault(message)

    def fault(self, reason: str) -> None:
        """Something that nothing can bridge. The first one stays."""
        if not self._fault:
            logger.error("%s: fault: %s", self._name, reason)
            self._fault = reason

    def stop(self, reason: str) -> None:
        """An operator ends the episode."""
        self._stopped_by = reason

    def status(self, metrics: dict[str, float]) -> Status:
        """A robot knows faults and operators, never success."""
        reason = self._fault or self._stopped_by
        return Status(is_done=bool(reason), is_success=False, reason=reason, metrics=metrics)


def held(last_sent: Action, embodiment: Embodiment) -> Action:
    """The command that keeps a robot where it was told to be: absolute targets again, velocities 0."""
    values = [value if a.hold == "last" else 0.0 for a, value in zip(embodiment.actions, last_sent.values, strict=True)]
    return Action(np.asarray(values, dtype=np.float32), last_sent.tick)


def is_altered(wanted: Action, sent: Action, embodiment: Embodiment) -> bool:
    """Whether a robot changed a command by more than rounding."""
    span = np.asarray([dimension.high - dimension.low for dimension in embodiment.actions], dtype=np.float32)
    return bool((np.abs(wanted.values - sent.values) > _ALTERED * span).any())
