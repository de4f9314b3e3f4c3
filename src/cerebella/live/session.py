"""The episodes of a run, one after the other, on one robot with one policy."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields, replace
from itertools import count
from typing import Any

import numpy as np

from cerebella.interfaces import Environment
from cerebella.live.brain import Brain, measure_latencies
from cerebella.live.config import RunConfig
from cerebella.live.console import StatusLine, confirm
from cerebella.live.episode import EpisodeLoop, EpisodeReport
from cerebella.live.orders import Orders, taking_keys, taking_signals
from cerebella.live.safety import Safety, make_watchdog
from cerebella.robots.robot import Robot
from cerebella.runtime.camera_check import CameraCheck
from cerebella.runtime.clock import Clock
from cerebella.runtime.delay import DelayEstimator, to_ticks
from cerebella.runtime.drive import Pacing, check_embodiment
from cerebella.runtime.emergency_stop import EmergencyStop
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig, check_mode, default_execute_horizon
from cerebella.runtime.preflight import preflight
from cerebella.runtime.recording.construction import describe_run
from cerebella.runtime.recording.recorder import Recorder, RecordingFailure
from cerebella.runtime.trace import Counters

_NUM_PREFLIGHT_CALLS = 10
_NUM_KEPT = 20_000
_QUANTILE = 0.95
_MAX_PICTURE_AGE_S = 0.5
_BLIND_AFTER_S = 0.3
_NUM_EQUAL_FRAMES = 5


class Session:
    """Checks first, then drives.

    Attributes:
        metadata: of the policy, with the robot's own limits: those of its training may be wider.
        executor_config: how chunks are run; an execute horizon that nobody gave is set by `check`. checked: what `check` found, plain JSON types.
        estimator: of the delay; lives over all episodes.

    Raises:
        ValueError: policy, mode and robot do not fit.
    """

    def __init__(
        self, config: RunConfig, environment: Environment, robot: Robot | None, brain: Brain, clock: Clock
    ) -> None:
        check_embodiment(brain.metadata.embodiment, environment.embodiment)
        check_mode(config.mode, brain.metadata)
        self.metadata = replace(brain.metadata, embodiment=environment.embodiment)
        self._config = config
        self.executor_config = self._configure(delay=0)
        self.estimator = DelayEstimator(initial=0)
        self.checked: dict[str, Any] = {}
        self._environment, self._robot = environment, robot
        self._brain, self._clock = brain, clock
        self._remaining_s = float("inf") if config.duration_s is None else config.duration_s

    def check(self) -> None:
        """Ask the policy a few times, without moving, and say whether its delay fits.

        Sets the delay estimate and, where it was left out, the execute horizon.

        Raises:
            ValueError: the policy fails, or the mode cannot work on a robot.
        """
        self._environment.reset(self._config.seed)
        transport = self._brain.connect()
        try:
            latencies_s = measure_latencies(
                transport,
                self._environment.observe(),
                self.metadata.embodiment.action_dim,
                _NUM_PREFLIGHT_CALLS,
                self._clock,
            )
        finally:
            transport.close()
        delay = to_ticks(
            float(np.quantile(latencies_s, _QUANTILE, method="higher")), 1.0 / self.metadata.embodiment.policy_hz
        )
        self.executor_config = self._configure(delay)
        self.estimator = DelayEstimator(initial=delay, num_warmup=0)
        violations = preflight(self.metadata, self.executor_config, latencies_s, _QUANTILE)
        self.checked = {"latencies_s": latencies_s, "violations": [asdict(violation) for violation in violations]}
        embodiment, config = self.metadata.embodiment, self.executor_config
        print(
            f"{self._config.target}: {embodiment.name}, {embodiment.policy_hz:g} Hz rows, {embodiment.control_hz:g} Hz "
            f"commands\npolicy {self.metadata.policy_id}: horizon {self.metadata.horizon}, mode {config.mode}, "
            f"{config.execute_horizon} rows per chunk\nanswers take {1e3 * np.median(latencies_s):.1f} ms, "
            f"{1e3 * max(latencies_s):.1f} ms at worst of {len(latencies_s)}"
        )
        for violation in violations:
            print(f"{'does not work' if violation.is_fatal else 'does not fit'}: {violation}")
        if self._robot is not None and any(violation.is_fatal for violation in violations):
            raise ValueError(f"the mode {config.mode!r} cannot work here: {violations[0]}")

    def _configure(self, delay: int) -> ExecutorConfig:
        """For answers that take `delay` ticks."""
        given = self._config.execute_horizon
        horizon = default_execute_horizon(self._config.mode, delay, self.metadata.horizon) if given is None else given
        return ExecutorConfig(self._config.mode, horizon, num_kept=_NUM_KEPT)

    def run(self, safety: Safety, emergency_stop: EmergencyStop) -> list[EpisodeReport]:
        """Every episode, until an operator or a failure ends it all.

        Raises:
            KeyboardInterrupt: the operator does not want it to move at all.
        """
        orders = Orders(lambda reason: emergency_stop.latch("operator", reason))
        episodes: list[EpisodeReport] = []
        wants_more = True
        with taking_signals(orders) if self._robot is None else nullcontext():
            for number in count() if self._config.num_episodes is None else range(self._config.num_episodes):
                if not wants_more:
                    break
                self._environment.reset(self._config.seed + number)
                if not self._may_move(is_first=number == 0):
                    break
                with taking_signals(orders) if self._robot is not None else nullcontext():
                    report, wants_more = self._episode(number, safety, emergency_stop, orders)
                episodes.append(report)
        return episodes

    def _may_move(self, is_first: bool) -> bool:
        """Ask. A no ends the run; before the first episode there is nothing to report about it."""
        try:
            confirm(self._config)
        except KeyboardInterrupt:
            if is_first:
                raise
            return False
        return True

    def _episode(
        self, number: int, safety: Safety, emergency_stop: EmergencyStop, orders: Orders
    ) -> tuple[EpisodeReport, bool]:
        camera_check = self._camera_check()
        recorder = self._recorder(number, camera_check)
        with self._executor(recorder, camera_check) as executor, taking_keys(orders) as keyboard:
            if self._config.prompt is not None:
                executor.set_prompt(self._config.prompt)
            loop = EpisodeLoop(self._environment, executor, orders, self._clock, self._remaining_s)
            watchdog = make_watchdog(safety, self.metadata.embodiment.control_hz)
            status_line = StatusLine(executor, loop.pace, keyboard)
            pacing, failure = loop.run(emergency_stop, watchdog, status_line, self._robot)
        report = self._report(number, executor, loop, pacing, failure)
        if recorder is not None:
            report.recording, report.recording_failure = str(recorder.path), _closed(recorder)
        self._remaining_s -= loop.pace.duration_s()
        return report, report.is_safe_end and not loop.wants_to_quit and not loop.is_time_over

    @contextmanager
    def _executor(self, recorder: Recorder | None, camera_check: CameraCheck | None) -> Iterator[Executor]:
        sinks = () if recorder is None else (recorder,)
        transport = self._brain.connect()
        executor = Executor(
            self.metadata, self.executor_config, transport, self.estimator, camera_check=camera_check, sinks=sinks
        )
        try:
            yield executor
        finally:
            executor.close()

    def _camera_check(self) -> CameraCheck | None:
        """Real cameras hang; simulated ones do not, and repeat a still scene bit by bit."""
        robot = self._robot
        if robot is None or not self.metadata.embodiment.views:
            return None
        return CameraCheck(
            self.metadata.embodiment.views,
            max_age_s=_MAX_PICTURE_AGE_S,
            max_skew_s=_MAX_PICTURE_AGE_S,
            num_tolerated=round(_BLIND_AFTER_S * self.metadata.embodiment.policy_hz),
            num_equal_frames=_NUM_EQUAL_FRAMES,
            exposures_s=lambda: robot.exposures_s,
        )

    def _recorder(self, number: int, camera_check: CameraCheck | None) -> Recorder | None:
        path = self._config.record_path(number)
        if path is None:
            return None
        about = {"target": self._config.target, "policy": self._config.policy, "seed": self._config.seed + number}
        return Recorder(
            path, describe_run(self.metadata, self.executor_config, self.estimator, about, camera_check=camera_check)
        )

    def _report(
        self, number: int, executor: Executor, loop: EpisodeLoop, pacing: Pacing | None, failure: str
    ) -> EpisodeReport:
        status = loop.environment.status()
        # A robot only ends an episode by itself when it has a fault.
        has_fault = self._robot is not None and not loop.environment.reason and not failure
        if self._robot is not None and not failure and not has_fault:
            self._robot.hold()
        prompt = executor.trace[-1].prompt if executor.trace else self._environment.observe().prompt
        jitter_ms = {name: 1e3 * loop.pace.jitter_s(q) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
        return EpisodeReport(
            seed=self._config.seed + number,
            prompt=prompt,
            is_success=status.is_success and not failure,
            reason=failure or status.reason,
            is_safe_end=not failure and not has_fault,
            metrics=dict(status.metrics),
            counters=_plain(executor.counters),
            pacing=asdict(pacing) if pacing is not None else {},
            jitter_ms=jitter_ms,
        )


def _closed(recorder: Recorder) -> str:
    """Why the recording is not whole, or nothing. What the robot did is reported all the same."""
    try:
        recorder.close()
    except RecordingFailure as error:
        return str(error)
    return ""


def _plain(counters: Counters) -> dict[str, Any]:
    """As plain JSON types."""
    content = {field.name: getattr(counters, field.name) for field in fields(Counters)}
    return content | {name: dict(content[name]) for name in ("outcomes", "rejections")}
