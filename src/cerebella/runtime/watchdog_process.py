"""The watchdog's own process: `python -m cerebella.runtime.watchdog_process`, started by `watchdog.Watchdog`.

It reads its settings as one line of JSON from its standard input and says `ready`. From then on it beats, and looks at the
executor's heartbeat, several times per allowed silence. The standard input stays open as a life line: when the executor
dies in whatever way, the operating system closes it, which is noticed at once; silence of a process that still lives
(stopped, or stuck in a call) is noticed when the allowed span is over. "goodbye" on the line ends it without a stop.
"""

import json
import os
import select
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Self

from cerebella.runtime.emergency_stop import EmergencyStop
from cerebella.runtime.heartbeat import Heartbeat
from cerebella.runtime.stop_hook import StopHook, from_dict, to_dict

READY = b"ready\n"
GOODBYE = b"goodbye\n"
_LOOKS_PER_SILENCE = 4
_MAX_LOOK_S = 0.01
_KEEP_TRYING_S = 10.0
_ATTEMPT_SPACING_S = 0.1
_HOOK_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class WatchdogSettings:
    """What the watchdog must know.

    Args:
        folder: of the `EmergencyStop`.
        max_silence_s: so long the executor may go without a beat.
        heartbeat_fd: inherited descriptor of the `Heartbeat`.
        hooks: how to stop the robot; carried out at the same time.
    """

    folder: str
    max_silence_s: float
    heartbeat_fd: int
    hooks: tuple[StopHook, ...]

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self) | {"hooks": [to_dict(hook) for hook in self.hooks]}).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """What `to_line` gave."""
        fields = json.loads(line)
        return cls(**fields | {"hooks": tuple(from_dict(hook) for hook in fields["hooks"])})


class Watch:
    """The loop. Armed by the first beat of the executor, and again by the first one after a trip."""

    def __init__(self, settings: WatchdogSettings, life_line: int) -> None:
        self._settings = settings
        self._life_line = life_line
        self._heartbeat = Heartbeat(settings.heartbeat_fd)
        self._emergency_stop = EmergencyStop(settings.folder)
        self._is_armed = False
        self._last_stamp_ns = 0
        self._running_hooks: list[threading.Thread] = []
        for hook in settings.hooks:
            hook.prepare()
        self._heartbeat.beat("watchdog")

    def run(self) -> int:
        """Until goodbye (exit code 0) or the executor's death (1, after the robot was told to stop)."""
        look_s = min(self._settings.max_silence_s / _LOOKS_PER_SILENCE, _MAX_LOOK_S)
        poll = select.poll()
        poll.register(self._life_line, select.POLLIN)
        while True:
            self._heartbeat.beat("watchdog")
            if poll.poll(self._wait_s(look_s) * 1000.0):
                said = os.read(self._life_line, 4096)
                if GOODBYE in said:
                    return 0
                if not said:
                    self._look()
                    if self._is_armed:
                        self._trip("the executor's process ended without a goodbye")
                    self._finish_hooks()
                    return 1
            self._look()

    def _wait_s(self, look_s: float) -> float:
        if not self._is_armed:
            return look_s
        remaining_s = self._settings.max_silence_s - self._heartbeat.age_s("executor")
        return min(look_s, max(remaining_s, 0.0))

    def _look(self) -> None:
        stamp_ns = self._heartbeat.stamp_ns("executor")
        if stamp_ns != self._last_stamp_ns:
            self._is_armed, self._last_stamp_ns = True, stamp_ns
        silence_s = (time.monotonic_ns() - stamp_ns) / 1e9
        if self._is_armed and silence_s > self._settings.max_silence_s:
            self._trip(f"no heartbeat of the executor for more than {self._settings.max_silence_s:.3f} s")

    def _trip(self, reason: str) -> None:
        """Tell the robot first: its message must not wait for a disk."""
        self._is_armed = False
        for hook in self._settings.hooks:
            thread = threading.Thread(target=self._stop, args=(hook,))
            thread.start()
            self._running_hooks.append(thread)
        self._emergency_stop.latch("watchdog", reason)

    def _stop(self, hook: StopHook) -> None:
        give_up_s = time.monotonic() + _KEEP_TRYING_S
        while time.monotonic() < give_up_s:
            try:
                hook.run(_HOOK_TIMEOUT_S)
                return
            except Exception as error:  # whatever foreign code or a network raises: written down, and tried again
                self._emergency_stop.latch("watchdog", f"the stop hook {hook} failed: {type(error).__name__}: {error}")
                time.sleep(_ATTEMPT_SPACING_S)

    def _finish_hooks(self) -> None:
        for thread in self._running_hooks:
            thread.join()


def main() -> int:
    """Read the settings, say that it is ready, watch."""
    life_line = sys.stdin.fileno()
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(life_line, 1)
        if not piece:
            return 1
        line += piece
    watch = Watch(WatchdogSettings.from_line(line), life_line)
    os.write(sys.stdout.fileno(), READY)
    return watch.run()


if __name__ == "__main__":
    sys.exit(main())
