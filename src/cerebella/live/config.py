"""What to run."""

import math
from dataclasses import dataclass
from pathlib import Path

from cerebella.robots.registry import SUFFIXES
from cerebella.runtime.executor_config import MODES, Mode


@dataclass(frozen=True)
class RunConfig:
    """One run in real time.

    Args:
        target: an environment, e.g. `dynamic/conveyor`, or a robot file (`.json`, `.toml`).
        policy: a policy directory, `owner/name` on a hub, the ws:// or wss:// address of a server, `expert`, or `hold`.
        mode: one of `executor_config.MODES`.
        execute_horizon: actions executed before the next chunk takes over; if left out, `default_execute_horizon`.
        episodes: how many; if left out one, or of an environment as many as fit into `duration_s`.
        seed: of the first episode (an environment's); it counts up.
        duration_s: end with a controlled stop after so many seconds, all episodes together; None never does.
        latency_ms: let every reply take at least so long; a policy in this process only.
        prompt: the instruction; the environment's, or the robot file's, if left out.
        record: write a recording (`*.mcap`); further episodes get `-2`, `-3`, ... before the suffix.
        json: write the report here.
        token: what a server asks for.
        is_confirmed: start without asking.
        has_watchdog: a second process watches this one; may be false only for a simulated environment.
    """

    target: str
    policy: str
    mode: Mode = "prefix"
    execute_horizon: int | None = None
    episodes: int | None = None
    seed: int = 0
    duration_s: float | None = None
    latency_ms: float | None = None
    prompt: str | None = None
    record: Path | None = None
    json: Path | None = None
    token: str | None = None
    is_confirmed: bool = False
    has_watchdog: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.mode not in MODES:
            raise ValueError(f"unknown mode {self.mode!r}; known modes: {', '.join(MODES)}")
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"episodes must be 1 or more; got {self.episodes}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more; got {self.seed}")
        for name, unit in (("duration_s", "s"), ("latency_ms", "ms")):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0 {unit}; got {value}")
        if self.latency_ms is not None and self.is_remote:
            raise ValueError("latency_ms is for a policy in this process; a server's replies take as long as they take")
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError(f"an instruction must have a text; got {self.prompt!r}")
        if self.record is not None and self.record.suffix != ".mcap":
            raise ValueError(f"a recording ends in .mcap; got {self.record}")
        if self.is_robot and not self.has_watchdog:
            raise ValueError("a robot is never driven without a watchdog; only a simulated environment may be")
        if self.is_robot and self.policy == "expert":
            raise ValueError("there is no expert for a robot: it would have to know the true state")

    @property
    def num_episodes(self) -> int | None:
        """How many at most; None is for as long as there is time."""
        return self.episodes if self.episodes or (self.duration_s is not None and not self.is_robot) else 1

    @property
    def is_robot(self) -> bool:
        """The target is a robot file."""
        return self.target.endswith(SUFFIXES)

    @property
    def is_remote(self) -> bool:
        """The policy is a server."""
        return self.policy.startswith(("ws://", "wss://"))

    def record_path(self, episode: int) -> Path | None:
        """Where the recording of an episode (0, 1, ...) goes."""
        if self.record is None or episode == 0:
            return self.record
        return self.record.with_stem(f"{self.record.stem}-{episode + 1}")
