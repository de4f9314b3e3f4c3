"""Cameras that lie, and an arm that is held: the robot comes to rest, asks nothing, and starts anew from where it is."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cerebella.runtime import camera_check
from cerebella.runtime.camera_check import CameraCheck
from cerebella.runtime.instruments.processes import ServerProcess
from cerebella.serving.remote_transport import RemoteTransport
from cerebella.types import Observation

from .harness import (
    CONTROL_HZ,
    Course,
    WatchedRobot,
    after,
    line_to,
    make_embodiment,
    make_server,
    nothing,
    recovered,
    running,
    told,
)

pytestmark = [pytest.mark.faults, pytest.mark.slow]

NUM_TOLERATED = 4
MAX_AGE_S = 0.4


@pytest.fixture(scope="module")
def seeing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with make_server(tmp_path_factory.mktemp("seeing"), make_embodiment(views=("base",))) as server:
        yield server


class LyingRobot(WatchedRobot):
    """Its camera fails as `trouble` says."""

    trouble = ""
    since_s = 0.0

    def fail(self, trouble: str) -> None:
        self.trouble, self.since_s = trouble, super().observe().timestamp_s
        self.freeze_cameras(trouble == "frozen")

    def observe(self) -> Observation:
        seen = super().observe()
        match self.trouble:
            case "regressed":
                return replace(seen, timestamp_s=seen.timestamp_s - 1.0)
            case "repeated":
                return replace(seen, timestamp_s=self.since_s)
            case "missing":
                return replace(seen, images={})
            case "old":  # a driver with a queue: each picture is later than the one before
                lag_s = min(1.0, 0.9 * (seen.timestamp_s - self.since_s))
                return replace(seen, timestamp_s=seen.timestamp_s - lag_s)
            case _:
                return seen


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("frozen", camera_check.FROZEN),
        ("regressed", camera_check.REGRESSED),
        ("repeated", camera_check.REPEATED),
        ("missing", camera_check.MISSING),
        ("old", camera_check.OLD),
    ],
)
def test_f14_a_camera_that_lies(seeing_server: ServerProcess, trouble: str, reason: str) -> None:
    embodiment = make_embodiment(views=("base",))
    robot = LyingRobot(embodiment)
    check = CameraCheck(embodiment.views, MAX_AGE_S, 0.1, NUM_TOLERATED, num_equal_frames=3)
    with line_to(seeing_server) as (_, transport):
        steps = [
            (running, lambda: robot.fail(trouble)),
            (told("blind"), nothing),
            (after(25), lambda: robot.fail("")),
            (recovered, nothing),
        ]
        course = Course(transport, steps, robot=robot, camera_check=check)
        course.run()
    executor = course.executor
    _, blind_at, healed_at, _ = course.done_at
    [blind] = [event for event in course.events if event.name == "blind"]
    assert (blind.details["reason"], blind.details["view"]) == (reason, "base")
    assert [event.name for event in course.events].count("sees again") == 1
    trace = list(executor.trace)
    assert course.states(blind_at, healed_at)[-1] == "hold"
    assert set(course.states(blind_at, healed_at)) <= {"stop", "hold"}
    blind_ticks = range(blind.tick - NUM_TOLERATED, trace[healed_at - 1].tick + 1)
    assert not [request.id for request in executor.requests if request.observation_tick in blind_ticks]


def test_f24_a_robot_that_is_held(transport: RemoteTransport) -> None:
    """It reports a pose far from its command: the plan is dropped, the command comes back, a new plan starts there.

    As long as it is held that repeats itself: each time it seems free it is tried again.
    """
    robot = WatchedRobot(make_embodiment())
    steps = [
        (lambda course: course.is_running() and abs(robot.observe().state[0]) < 0.1, robot.block),
        (told("blocked"), nothing),
        (told("follows again"), nothing),
        (after(25), lambda: robot.block(False)),
        (recovered, nothing),
    ]
    course = Course(transport, steps, robot=robot, config={"tracking_limit_s": 0.2})
    course.run()
    executor, trace = course.executor, list(course.executor.trace)
    blocked_at, told_at, back_at, *_ = course.done_at
    held_rad = float(executor_saw(course, trace[told_at].tick).state[0])
    assert told_at - blocked_at <= 3 * CONTROL_HZ
    assert "run" not in course.states(told_at, back_at)
    assert abs(float(trace[back_at - 1].values[0]) - held_rad) < 0.11, "the command came back to the robot"
    turns = [event for event in course.events if event.name in ("blocked", "follows again")]
    assert [event.name for event in turns][:2] == ["blocked", "follows again"]
    assert len(turns) % 2 == 0
    for blocked, again in zip(turns[::2], turns[1::2], strict=True):
        assert blocked.details["limit_s"] == 0.2
        asked = next(request for request in executor.requests if request.observation_tick > blocked.tick)
        assert asked.observation_tick == again.tick
        assert len(asked.action_prefix) == 0


def executor_saw(course: Course, tick: int) -> Observation:
    return next(observation for observation in course.observations if observation.tick == tick)
