"""A whole robot controller as a program: `python executor_process.py FOLDER EMBODIMENT ROBOT_PORT SERVER_URL GRACE_S`.

It drives the robot stub behind a socket with the policy behind the server, under a watchdog and an emergency stop. SIGTERM
is a controlled stop. It says `running, watchdog PID` once rows of chunks are played, and how it ended.
"""

import signal
import sys

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Status
from cerebella.runtime.clock import WallClock
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.drive import drive
from cerebella.runtime.emergency_stop import EmergencyStop, EmergencyStopLatched
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.instruments.robot_stub_process import RemoteRobotStub, stop_message
from cerebella.runtime.watchdog import Watchdog, WatchdogFailure
from cerebella.serving.remote_transport import RemoteTransport

NUM_BEFORE_READY = 40


class EndableRobot(RemoteRobotStub):
    """Its episode can be ended from outside."""

    is_over = False

    def status(self) -> Status:
        return Status(True, True, "end") if self.is_over else super().status()


def main() -> int:
    folder, embodiment_file, port, url, grace_s = sys.argv[1:]
    embodiment = Embodiment.load(embodiment_file)
    robot = EndableRobot(embodiment, int(port))
    transport = RemoteTransport(url, connect_timeout_s=10.0)
    executor = Executor(transport.metadata, ExecutorConfig("prefix", 8), transport, DelayEstimator(2))
    stop = EmergencyStop(folder)
    watchdog = Watchdog(folder, embodiment.control_hz, [stop_message(int(port))], float(grace_s))
    is_asked_to_end = False

    def end(*_: object) -> None:
        nonlocal is_asked_to_end
        is_asked_to_end = True

    def after_tick(*_: object) -> None:
        watchdog.beat()
        if is_asked_to_end:
            executor.pause()
            robot.is_over = executor.trace[-1].state == "hold"
        if len(executor.trace) == NUM_BEFORE_READY:
            print(f"running, watchdog {watchdog.pid}", flush=True)

    signal.signal(signal.SIGTERM, end)
    try:
        with watchdog:
            guards = (stop.check, watchdog.check)
            drive(robot, executor, WallClock(), 100_000, after_tick, guards=guards, counts_missed_ticks=True)
    except (EmergencyStopLatched, WatchdogFailure) as failure:
        print(f"ended by {type(failure).__name__}: {failure}", flush=True)
        return 1
    finally:
        executor.close()
    print(f"ended in the state {executor.trace[-1].state}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
