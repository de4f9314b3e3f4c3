"""A run whose policy lives behind a websocket: the same robot, the same report, and what a server's end looks like."""

import threading
from pathlib import Path

from cerebella.policies import HoldPolicy
from cerebella.serving.background import BackgroundServer
from cerebella.serving.openpi import OpenpiDialect
from tests.live.test_run_robot import at_read, drive, state_home
from tests.robots import arm

__all__ = ["state_home"]  # a fixture of every test here, too


def server() -> BackgroundServer:
    return BackgroundServer(HoldPolicy(arm.embodiment(), horizon=16), {OpenpiDialect(): 0})


def test_a_policy_behind_a_server(tmp_path: Path) -> None:
    device = arm.Arm()
    with server() as there:
        is_good, episode = drive(tmp_path, device, policy=there.address(), mode="prefix")
    assert is_good
    assert episode["reason"] == "the time is over"
    assert episode["counters"]["outcomes"]["used"] >= 1
    assert len(device.sent) > 10


def test_a_server_that_dies_leaves_the_robot_at_rest_and_the_run_alive(tmp_path: Path) -> None:
    device = arm.Arm()
    with server() as there:
        at_read(device, 12, threading.Thread(target=there.stop).start)
        is_good, episode = drive(tmp_path, device, policy=there.address(), mode="prefix", duration_s=2.0)
    assert is_good
    assert episode["reason"] == "the time is over"
    assert episode["counters"]["num_holds"] > 20, "out of rows, it stands still"
    assert len(device.sent) == episode["counters"]["num_ticks"] + 1, "and still gets one command per tick"
