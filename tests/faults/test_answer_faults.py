"""A server whose policy goes wrong while it serves: what it says is refused, the robot stops, and goes on when it is sound."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cerebella.runtime.instruments.processes import ServerProcess

from .harness import (
    Course,
    WatchedRobot,
    after,
    break_policy,
    holding,
    line_to,
    make_embodiment,
    make_server,
    nothing,
    recovered,
    running,
)

pytestmark = [pytest.mark.faults, pytest.mark.slow]

MIDDLE_RAD = 2.0
"""Where the policy sways about, far from 0: a zero that was sent would show."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("answers")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with make_server(folder, make_embodiment(middle=MIDDLE_RAD)) as server:
        yield server


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        ("nan", "inference failed", "must be finite"),
        ("rows", "inference failed", "must be float32[20, 1]; got float32[19, 1]"),
        ("columns", "inference failed", "must be float32[20, 1]; got float32[20, 2]"),
        ("stranger", "inference failed", "policy_id 'stranger'; asked was 'sway'"),
        ("zeros", "all zero", "every number of the chunk is 0"),
        ("outside", "far outside", "is 50; its range is -1 .. 5"),
    ],
)
def test_f9_a_chunk_that_does_not_fit_is_refused(
    server: ServerProcess, folder: Path, trouble: str, kind: str, words: str
) -> None:
    with line_to(server) as (_, transport):
        steps = [
            (running, lambda: break_policy(folder, trouble)),
            (holding, nothing),
            (after(25), lambda: break_policy(folder, "")),
            (recovered, nothing),
        ]
        course = Course(transport, steps, robot=WatchedRobot(make_embodiment(middle=MIDDLE_RAD)))
        course.run()
    executor = course.executor
    broken_at, held_at, sound_at, _ = course.done_at
    assert executor.counters.rejections[kind] > 1
    reasons = [request.reason for request in executor.requests if request.outcome == "rejected"]
    assert any(words in reason for reason in reasons), reasons
    assert set(course.states(broken_at - 1, held_at)) <= {"run", "stop", "hold"}
    assert course.states(held_at, sound_at) == ["hold"]
    assert min(float(record.values[0]) for record in course.robot.records) > MIDDLE_RAD - 0.5, "no zero was sent"
    refused = {request.id for request in executor.requests if request.outcome == "rejected"}
    assert not refused & {record.chunk_id for record in executor.trace}
    assert np.isfinite([record.values for record in course.robot.records]).all()
