"""A whole run on a robot: the device is a stand-in, clock, watchdog and emergency stop are real."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.live.config import RunConfig
from cerebella.live.run import run
from cerebella.runtime.emergency_stop import EmergencyStop, default_folder
from cerebella.runtime.recording.reader import read_recording
from tests.robots import arm, test_registry


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def drive(
    folder: Path, device: arm.Arm, stop_hooks: tuple[dict[str, Any], ...] = (), **options: Any
) -> tuple[bool, dict[str, Any]]:
    watchdog = {"stop_hooks": list(stop_hooks), "grace_s": 1.0}
    path = test_registry.write(folder / "arm.json", watchdog=watchdog)
    settings: dict[str, Any] = {"policy": "hold", "duration_s": 0.4, "is_confirmed": True, "mode": "naive"}
    settings |= {"json": folder / "report.json", **options}
    config = RunConfig(str(path), **settings)

    def make_device(fields: Mapping[str, Any], source: str) -> arm.Arm:
        return device

    is_good = run(config, make_device)
    return is_good, json.loads((folder / "report.json").read_text())["episodes"][0]


def at_read(device: arm.Arm, number: int, act: Callable[[], None]) -> None:
    """Do something once `number` commands were sent."""

    def on_read() -> None:
        if len(device.sent) == number:
            act()

    device.on_read = on_read


def test_it_holds_for_a_while_stops_and_leaves_the_robot_where_it_is(tmp_path: Path) -> None:
    device = arm.Arm()
    is_good, episode = drive(tmp_path, device, record=tmp_path / "run.mcap")
    assert is_good
    assert episode["reason"] == "the time is over"
    assert 10 < episode["counters"]["num_ticks"] < 60
    assert len(device.sent) == episode["counters"]["num_ticks"] + 1, "one command per tick, and hold at the end"
    start = {"shoulder_pan.pos": 0.0, "shoulder_lift.pos": 0.0, "elbow_flex.pos": 0.0, "gripper.pos": 20.0}
    for sent in device.sent:
        assert sent == pytest.approx(start, abs=1e-3)
    assert not device.is_connected
    assert episode["metrics"]["num_reads"] > 10
    recording = read_recording(tmp_path / "run.mcap")
    assert len(recording.ticks) == episode["counters"]["num_ticks"]
    assert not EmergencyStop(default_folder("toy_arm")).is_latched


def test_nothing_moves_before_somebody_says_so(tmp_path: Path) -> None:
    device = arm.Arm()
    with pytest.raises(ValueError, match="say --yes if it may"):
        drive(tmp_path, device, is_confirmed=False)
    assert device.sent == []
    assert not device.is_connected


def test_an_emergency_stop_ends_it_runs_the_hooks_and_stays(tmp_path: Path) -> None:
    device, told = arm.Arm(), tmp_path / "told"
    latch = EmergencyStop(default_folder("toy_arm"))
    at_read(device, 10, lambda: latch.latch("remote", "somebody is in the cell"))
    hook = {"kind": "command", "argv": ["touch", str(told)]}
    is_good, episode = drive(tmp_path, device, (hook,), duration_s=20.0)
    assert not is_good
    assert "somebody is in the cell" in episode["reason"]
    assert len(device.sent) == 10, "no command after the latch, not even hold"
    assert told.exists(), "the watchdog told the robot"
    with pytest.raises(ValueError, match="the emergency stop is latched by remote: somebody is in the cell"):
        drive(tmp_path, device)
    assert len(device.sent) == 10


def test_a_cable_that_is_pulled_ends_it_as_a_failure(tmp_path: Path) -> None:
    device = arm.Arm()

    def pull() -> None:
        device.failure = arm.Lost("the port is gone")

    at_read(device, 8, pull)
    is_good, episode = drive(tmp_path, device, duration_s=20.0)
    assert not is_good
    assert "the port is gone" in episode["reason"]
    assert len(device.sent) == 8
    assert episode["metrics"]["num_failures"] >= 4


def test_a_slow_read_is_not_followed_by_a_burst(tmp_path: Path) -> None:
    device = arm.Arm()
    moments_s: list[float] = []

    def on_read() -> None:
        moments_s.append(time.monotonic())
        if len(device.sent) == 10:
            time.sleep(0.1)  # five periods on the serial bus

    device.on_read = on_read
    is_good, episode = drive(tmp_path, device)
    assert is_good
    assert episode["metrics"]["max_read_s"] > 0.1
    assert episode["pacing"]["num_skipped"] >= 4
    assert episode["counters"]["num_skipped_ticks"] >= 4
    stalls = np.diff(moments_s)
    assert (stalls > 0.1).sum() >= 1
    assert np.sort(stalls)[len(stalls) // 10] > 0.005, "the commands that were missed are not made up for"


def test_a_policy_for_another_robot_is_refused_before_anything_moves(tmp_path: Path) -> None:
    device = arm.Arm()
    shipped = Path(__file__).parents[2] / "policies" / "conveyor-micro"
    with pytest.raises(ValueError, match="the policy was made for the name 'conveyor'; this robot has 'toy_arm'"):
        drive(tmp_path, device, policy=str(shipped))
    assert device.sent == []


def test_a_robot_file_must_say_how_to_stop(tmp_path: Path) -> None:
    path = test_registry.write(tmp_path / "arm.json")
    with pytest.raises(ValueError, match="needs 'watchdog' with 'stop_hooks'"):
        run(RunConfig(str(path), "hold", mode="naive", is_confirmed=True), lambda fields, source: arm.Arm())


def test_threads_end_with_the_run(tmp_path: Path) -> None:
    before = threading.active_count()
    drive(tmp_path, arm.Arm(), duration_s=0.1)
    assert threading.active_count() == before
