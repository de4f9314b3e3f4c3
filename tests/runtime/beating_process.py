"""An executor reduced to its heartbeat: `python beating_process.py FOLDER ROBOT_PORT CONTROL_HZ GRACE_S`.

Commands the robot stub and beats until it is killed; SIGTERM ends it with a goodbye.
"""

import signal
import sys
import time

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.runtime.clock import TickSchedule, WallClock
from cerebella.runtime.instruments.robot_stub_process import RemoteRobotStub, stop_message
from cerebella.runtime.watchdog import Watchdog
from cerebella.types import Action


def main() -> None:
    folder, embodiment_file, port, control_hz, grace_s = sys.argv[1:]
    embodiment = Embodiment.load(embodiment_file)
    robot = RemoteRobotStub(embodiment, int(port))
    is_asked_to_end = False

    def end(*_: object) -> None:
        nonlocal is_asked_to_end
        is_asked_to_end = True

    signal.signal(signal.SIGTERM, end)
    schedule = TickSchedule(1.0 / float(control_hz), WallClock())
    with Watchdog(folder, float(control_hz), [stop_message(int(port))], float(grace_s)) as watchdog:
        tick = 0
        while not is_asked_to_end:
            schedule.wait()
            robot.apply(Action(np.zeros(embodiment.action_dim, np.float32), tick))
            watchdog.beat()
            tick += 1
            if tick == 3:
                print(f"beating, watchdog {watchdog.pid}", flush=True)
    print(f"ended at {time.monotonic()}", flush=True)


if __name__ == "__main__":
    main()
