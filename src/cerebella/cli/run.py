"""`cerebella run`: an environment or a robot in real time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from cerebella.cli.errors import EXIT_FAILED_CHECK
from cerebella.runtime.executor_config import Mode


@dataclass(frozen=True)
class Run:
    """Drive an environment or a robot in real time, on the wall clock.

    At a terminal: space pauses and goes on, t TEXT Enter changes the task, q stops and ends, e is the emergency stop.
    Ctrl-C stops within the robot's limits and ends; a second one is the emergency stop. Nothing ever drives a robot home.
    """

    target: Annotated[Positional[str], arg(metavar="ENV|ROBOT.json")]
    """an environment, e.g. dynamic/conveyor, or a robot file (docs/robots.md)"""
    policy: Annotated[str, arg(metavar="DIR|HUB_ID|ws://HOST:PORT|expert|hold")]
    """a policy directory, owner/name on a hub, a server, or one of the built-in policies"""
    mode: Mode = "prefix"
    """sync waits for each chunk; the others ask while the robot moves; prefix continues what is promised"""
    execute_horizon: int | None = None
    """actions executed before the next chunk takes over (default: the delay of an answer and two; in sync half a chunk)"""
    episodes: int | None = None
    """number of episodes (default: 1, or of an environment as many as fit into --duration-s)"""
    seed: int = 0
    """seed of the first episode (environments only)"""
    duration_s: float | None = None
    """stop within the limits after so many seconds"""
    latency_ms: float | None = None
    """let every answer take at least so long, to see what a slower policy would do"""
    prompt: str | None = None
    """the instruction (default: the environment's or the robot file's)"""
    record: Annotated[Path | None, arg(metavar="FILE.mcap")] = None
    """write everything that the executor saw and did"""
    json: Path | None = None
    """write the report to this file"""
    token: str | None = None
    """what the server asks for"""
    yes: FlagCreatePairsOff[bool] = False
    """start a robot without asking"""
    no_watchdog: FlagCreatePairsOff[bool] = False
    """no second process that watches this one; simulated environments only"""

    def run(self) -> int:
        """Drive; exit code 1 after an emergency stop or a fault."""
        from cerebella.live.config import RunConfig
        from cerebella.live.run import run

        config = RunConfig(
            target=self.target,
            policy=self.policy,
            mode=self.mode,
            execute_horizon=self.execute_horizon,
            episodes=self.episodes,
            seed=self.seed,
            duration_s=self.duration_s,
            latency_ms=self.latency_ms,
            prompt=self.prompt,
            record=self.record,
            json=self.json,
            token=self.token,
            is_confirmed=self.yes,
            has_watchdog=not self.no_watchdog,
        )
        return 0 if run(config) else EXIT_FAILED_CHECK
