"""One episode of a run: the loop of `runtime.drive` with an operator, an emergency stop and a watchdog around it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Environment, Status
from cerebella.live.console import StatusLine
from cerebella.live.orders import Orders
from cerebella.live.pace import Pace
from cerebella.robots.robot import Robot
from cerebella.runtime.clock import Clock
from cerebella.runtime.drive import Pacing, drive
from cerebella.runtime.emergency_stop import EmergencyStop, EmergencyStopLatched
from cerebella.runtime.executor import Executor, InferenceFailure
from cerebella.runtime.watchdog import Watchdog, WatchdogFailure
from cerebella.types import Action, Observation

MAX_STOP_S = 10.0
"""An end that was ordered waits so long for the robot to come to rest."""
_FOREVER = 2**62


class Endable:
    """An environment whose episode can be ended from outside."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.reason = ""

    @property
    def embodiment(self) -> Embodiment:
        """Of the environment."""
        return self._environment.embodiment

    def reset(self, seed: int) -> None:
        """Of the environment."""
        self._environment.reset(seed)

    def observe(self) -> Observation:
        """Of the environment."""
        return self._environment.observe()

    def apply(self, action: Action) -> None:
        """Of the environment."""
        self._environment.apply(action)

    def status(self) -> Status:
        """Of the environment; done with our reason once there is one."""
        status = self._environment.status()
        return status if status.is_done or not self.reason else Status(True, False, self.reason, status.metrics)


@dataclass
class EpisodeReport:
    """How an episode went.

    Args:
        seed, prompt: what it was. is_success, reason: how it ended. is_safe_end: no emergency stop, no fault.
        metrics: of the environment. counters: of the executor. pacing, jitter_ms: of the loop.
        recording, recording_failure: its file, and why it is not whole; empty if there is none, or nothing is wrong.
    """

    seed: int
    prompt: str
    is_success: bool
    reason: str
    is_safe_end: bool
    metrics: dict[str, float] = field(default_factory=dict)
    counters: dict[str, Any] = field(default_factory=dict)
    pacing: dict[str, float] = field(default_factory=dict)
    jitter_ms: dict[str, float] = field(default_factory=dict)
    recording: str = ""
    recording_failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


class EpisodeLoop:
    """Carries out an operator's orders between the ticks, and ends when it is time.

    A controlled stop is `executor.pause()`: the robot comes to rest within its limits, then the episode ends. It stays
    where it is; nothing drives it home.
    """

    def __init__(
        self,
        environment: Environment,
        executor: Executor,
        orders: Orders,
        clock: Clock,
        duration_s: float,
    ) -> None:
        self.environment = Endable(environment)
        self.executor = executor
        self.pace = Pace(1.0 / environment.embodiment.control_hz)
        self.wants_to_quit = False
        self.is_time_over = False
        self._orders = orders
        self._clock = clock
        self._duration_s = duration_s
        self._end_s = float("inf")
        self._ending = ""
        self._give_up_s = float("inf")

    def run(
        self, emergency_stop: EmergencyStop, watchdog: Watchdog | None, status_line: StatusLine, robot: Robot | None
    ) -> tuple[Pacing | None, str]:
        """Until the end: the pacing, and the failure that ended it (then there is no pacing); empty after a good end.

        After a failure nothing more is sent, and the watchdog is not told goodbye: it runs its stop hooks.

        Raises:
            ValueError: the policy is for another robot. WatchdogFailure: it does not start.
        """
        guards = [emergency_stop.check, *([watchdog.check] if watchdog else [])]
        try:
            with watchdog or nullcontext():
                pacing = drive(
                    self.environment,
                    self.executor,
                    self._clock,
                    _FOREVER,
                    self._after_tick(watchdog, status_line),
                    guards=guards,
                    counts_missed_ticks=robot is not None,
                    last_sent=None if robot is None else lambda: robot.last_sent,
                )
        except (EmergencyStopLatched, WatchdogFailure, InferenceFailure) as error:
            return None, str(error)
        finally:
            status_line.end()
        return pacing, ""

    def _after_tick(self, watchdog: Watchdog | None, status_line: StatusLine) -> Callable[[Observation, Action], None]:
        def after_tick(observation: Observation, action: Action) -> None:
            if watchdog is not None:
                watchdog.beat()
            now_s = self._clock.now_s()
            self._end_s = min(self._end_s, now_s + self._duration_s)  # counted from the first command
            self.pace.add(now_s)
            for order in self._orders.take():
                self._obey(order.kind, order.text)
            if now_s >= self._end_s:
                self.is_time_over = True
                self._begin_to_end("the time is over")
            if self._ending and (self.executor.trace[-1].state == "hold" or now_s >= self._give_up_s):
                self.environment.reason = self._ending
            status_line.update()

        return after_tick

    def _obey(self, kind: str, text: str) -> None:
        if kind == "quit":
            self.wants_to_quit = True
            self._begin_to_end(f"stopped by the operator{f' ({text})' if text else ''}")
        elif kind == "pause" and not self._ending:
            if self.executor.is_paused:
                self.executor.resume()
            else:
                self.executor.pause()
        elif kind == "task":
            self.executor.set_prompt(text)

    def _begin_to_end(self, reason: str) -> None:
        if not self._ending:
            self._ending = reason
            self._give_up_s = self._clock.now_s() + MAX_STOP_S
            self.executor.pause()
