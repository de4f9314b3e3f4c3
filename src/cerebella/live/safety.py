"""The emergency stop and the watchdog of a run."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cerebella.interfaces import Environment
from cerebella.live.config import RunConfig
from cerebella.robots.registry import read_robot_file
from cerebella.runtime.emergency_stop import EmergencyStop, default_folder
from cerebella.runtime.stop_hook import StopHook, from_dict
from cerebella.runtime.watchdog import Watchdog

_SIMULATED_GRACE_S = 1.0
"""A simulated robot hurts nobody, and a laptop that draws its pictures stalls for longer than a robot may."""


@dataclass(frozen=True)
class Safety:
    """Where the latch lies, and how to tell the robot to stop when this process cannot.

    Args:
        folder: state of the emergency stop. hooks, grace_s: of the watchdog; None without one.
    """

    folder: Path
    hooks: tuple[StopHook, ...]
    grace_s: float | None


@contextmanager
def open_safety(config: RunConfig, environment: Environment) -> Iterator[tuple[Safety, EmergencyStop]]:
    """A robot's latch stays on the disk; a simulated environment's ends with the run.

    Raises:
        ValueError: the robot file says too little about stopping.
    """
    with ExitStack() as stack:
        if config.is_robot:
            folder = default_folder(environment.embodiment.name)
            hooks, grace_s = _of_robot(read_robot_file(config.target), config.target)
            safety = Safety(folder, hooks, grace_s)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cerebella-run-")))
            safety = Safety(folder, (), _SIMULATED_GRACE_S if config.has_watchdog else None)
        yield safety, stack.enter_context(EmergencyStop(safety.folder))


def make_watchdog(safety: Safety, control_hz: float) -> Watchdog | None:
    """For one episode: it acts from the first command on, and must not see the pause between two episodes."""
    if safety.grace_s is None:
        return None
    return Watchdog(safety.folder, control_hz, safety.hooks, safety.grace_s)


def _of_robot(content: Mapping[str, Any], source: str) -> tuple[tuple[StopHook, ...], float]:
    watchdog = content.get("watchdog")
    if not isinstance(watchdog, Mapping) or set(watchdog) != {"stop_hooks", "grace_s"}:
        raise ValueError(
            f"{source} needs 'watchdog' with 'stop_hooks' (how a second process stops the robot when this one cannot; [] "
            f"if it stands still by itself) and 'grace_s' (silence beyond two control periods); got {watchdog!r}"
        )
    try:
        return tuple(from_dict(hook) for hook in watchdog["stop_hooks"]), float(watchdog["grace_s"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: watchdog: {error}") from error
