"""The executor's side of the watchdog: a second process that stops the robot when this one no longer can.

    with Watchdog(folder, control_hz=100.0, hooks=[StopMessage("192.168.1.10", 5000, "stop")]) as watchdog:
        while running:                    # once per control period
            watchdog.check()              # raises if the watchdog itself is gone
            emergency_stop.check()
            robot.apply(executor.command(...))
            watchdog.beat()

The watch is mutual. The watchdog latches the emergency stop and runs the stop hooks when this process dies (at once) or
falls silent (after two control periods and a grace). This process refuses to run when the watchdog dies or is stopped,
because then nobody would notice the next failure. Monotonic time only.
"""

import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cerebella.runtime.emergency_stop import EmergencyStop
from cerebella.runtime.heartbeat import Heartbeat
from cerebella.runtime.stop_hook import StopHook
from cerebella.runtime.watchdog_process import GOODBYE, READY, WatchdogSettings

GRACE_S = 0.1
"""Room for the scheduler and the garbage collector of an ordinary kernel. With it a robot at 100 Hz is stopped after
0.12 s of silence; lower it on a real-time kernel."""


class WatchdogFailure(RuntimeError):
    """There is no living watchdog, so nothing may move; the message says what happened to it."""


class Watchdog:
    """Starts and feeds the watchdog process. Used from the control thread only.

    Args:
        folder: state folder of the robot's `EmergencyStop`.
        control_hz: rate at which `beat` will be called.
        hooks: how to stop the robot; empty only where the robot ends with this process, as a simulated one does.
        grace_s: added to two control periods, gives the longest silence.

    Attributes:
        max_silence_s: longest silence of either side before the other acts.

    Raises:
        ValueError: a rate or grace that is not positive, or a hook that cannot work.
    """

    def __init__(
        self, folder: Path | str, control_hz: float, hooks: Sequence[StopHook], grace_s: float = GRACE_S
    ) -> None:
        if not control_hz > 0 or not grace_s > 0:
            raise ValueError(f"control_hz and grace_s must be above 0; got {control_hz} Hz and {grace_s} s")
        for hook in hooks:
            hook.prepare()
        self.max_silence_s = 2.0 / control_hz + grace_s
        self._hooks = tuple(hooks)
        self._emergency_stop = EmergencyStop(folder)
        self._heartbeat = Heartbeat.create()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the watchdog."""
        return self._running().pid

    def start(self, timeout_s: float = 30.0) -> None:
        """Start the process and wait until it watches. It acts from the first `beat` on.

        Raises:
            WatchdogFailure: it did not come up.
        """
        if self._process is not None:
            raise RuntimeError("the watchdog was started already")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cerebella.runtime.watchdog_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self._heartbeat.fd,),
            start_new_session=True,  # a Ctrl-C at the terminal, or its end, is for the executor to handle
        )
        folder = str(self._emergency_stop.path.parent.resolve())
        settings = WatchdogSettings(folder, self.max_silence_s, self._heartbeat.fd, self._hooks)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(settings.to_line())
        self._process.stdin.flush()
        is_talking, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        if not is_talking or self._process.stdout.readline() != READY:
            self._process.kill()
            raise WatchdogFailure(
                f"the watchdog did not start within {timeout_s:g} s (exit code {self._process.wait()}); "
                "its own message is above"
            )

    def beat(self) -> None:
        """Say "I am alive"; once per control period, after the command was sent. One store."""
        self._heartbeat.beat("executor")

    def check(self) -> None:
        """Make sure that the watchdog lives; a load and a comparison. Once per control period, before the command.

        Raises:
            WatchdogFailure: it was silent for longer than `max_silence_s`; the emergency stop is latched.
        """
        process = self._running()
        age_s = self._heartbeat.age_s("watchdog")
        if age_s <= self.max_silence_s:
            return
        exit_code = process.poll()
        state = "does not answer (stopped, or starved)" if exit_code is None else f"ended with code {exit_code}"
        reason = f"the watchdog process {state}; its last sign of life is older than {self.max_silence_s:.3f} s"
        self._emergency_stop.latch("watchdog", reason)
        raise WatchdogFailure(reason)

    def stop(self) -> None:
        """Say goodbye and wait until the process has ended: call it when the robot rests. May be called twice."""
        self._end(GOODBYE)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Goodbye after a normal end. An exception is a failure of the executor: the watchdog stops the robot."""
        self._end(GOODBYE if kind is None else b"")

    def _end(self, last_words: bytes, timeout_s: float = 15.0) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(last_words or None, timeout=timeout_s)
        except (BrokenPipeError, subprocess.TimeoutExpired):  # it is dead, or stopped: check() says so while it matters
            process.kill()
            process.communicate()
        self._heartbeat.close()
        self._emergency_stop.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise WatchdogFailure("the watchdog is not running: call start() first")
        return self._process
