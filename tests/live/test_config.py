"""What cannot be run is refused before anything is opened."""

import math
from pathlib import Path
from typing import Any

import pytest

from cerebella.live.config import RunConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "fast"}, "unknown mode 'fast'"),
        ({"episodes": 0}, "episodes must be 1 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"duration_s": 0.0}, "duration_s must be above 0 s"),
        ({"latency_ms": math.inf}, "latency_ms must be above 0 ms"),
        ({"latency_ms": 5.0, "policy": "ws://x:1"}, "a server's replies take as long as they take"),
        ({"prompt": " "}, "an instruction must have a text"),
        ({"record": Path("x.json")}, "a recording ends in .mcap"),
        ({"target": "arm.json", "has_watchdog": False}, "never driven without a watchdog"),
        ({"target": "arm.toml", "policy": "expert"}, "no expert for a robot"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"target": "dynamic/conveyor", "policy": "hold", **changes}
    with pytest.raises(ValueError, match=message):
        RunConfig(**settings)


def test_a_duration_means_as_many_episodes_as_fit_of_an_environment_and_one_of_a_robot() -> None:
    assert RunConfig("dynamic/conveyor", "hold").num_episodes == 1
    assert RunConfig("dynamic/conveyor", "hold", duration_s=3.0).num_episodes is None
    assert RunConfig("dynamic/conveyor", "hold", duration_s=3.0, episodes=2).num_episodes == 2
    assert RunConfig("arm.json", "hold", duration_s=3.0).num_episodes == 1


def test_each_episode_has_a_recording_of_its_own() -> None:
    config = RunConfig("dynamic/conveyor", "hold", record=Path("a/run.mcap"))
    assert [config.record_path(number) for number in (0, 1)] == [Path("a/run.mcap"), Path("a/run-2.mcap")]
