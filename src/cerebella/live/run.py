"""A run from its beginning to its end: open, check, ask, drive, report."""

import json
from contextlib import ExitStack

from cerebella.evaluation.result import check_can_write
from cerebella.live.brain import open_brain
from cerebella.live.config import RunConfig
from cerebella.live.report import in_words, make_report
from cerebella.live.safety import open_safety
from cerebella.live.session import Session
from cerebella.live.target import open_target
from cerebella.robots.lerobot_factory import make_lerobot_robot
from cerebella.robots.registry import MakeDevice
from cerebella.runtime.clock import WallClock
from cerebella.runtime.emergency_stop import EmergencyStop, EmergencyStopLatched


def run(config: RunConfig, make_device: MakeDevice = make_lerobot_robot) -> bool:
    """Carry it out; whether it ended without an emergency stop or a fault.

    `make_device` makes a LeRobot robot from the `robot` part of a robot file.

    Raises:
        ValueError: something does not fit, found before anything moves. OSError: a file or a connection fails.
        KeyboardInterrupt: the operator did not say yes.
    """
    _check_files(config)
    clock = WallClock()
    with ExitStack() as stack:
        environment, robot = open_target(config, clock, stack, make_device)
        safety, emergency_stop = stack.enter_context(open_safety(config, environment))
        _check_released(emergency_stop)
        session = Session(config, environment, robot, open_brain(config, environment, clock), clock)
        session.check()
        episodes = session.run(safety, emergency_stop)
    report = make_report(config, session, episodes)
    print(in_words(report))
    if config.json is not None:
        config.json.write_text(json.dumps(report, indent=1) + "\n")
    for path in (*(episode.recording for episode in episodes), config.json):
        if path:
            print(f"wrote {path}")
    return all(episode.is_safe_end for episode in episodes)


def _check_released(emergency_stop: EmergencyStop) -> None:
    """Find out before a policy is loaded that the robot must not move."""
    try:
        emergency_stop.check()
    except EmergencyStopLatched as error:
        raise ValueError(str(error)) from error


def _check_files(config: RunConfig) -> None:
    """Find out before the run what cannot be written after it."""
    for path in (config.json, config.record):
        if path is not None:
            check_can_write(path)
    if config.record is not None:
        others = config.record.parent.glob(f"{config.record.stem}-*{config.record.suffix}")
        for path in (config.record, *others):
            if path.exists():
                raise ValueError(f"{path} is there; a recording is never written over")
