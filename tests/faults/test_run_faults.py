"""`cerebella run` itself, with a policy behind a server, asked to end: F-21 by the words that people type."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cerebella.envs.registry import make_environment
from cerebella.runtime.instruments.fault_proxy import FaultProxy
from cerebella.runtime.instruments.processes import ServerProcess
from cerebella.runtime.recording.reader import read_recording
from cerebella.runtime.trace import commands

from .harness import make_server

pytestmark = [pytest.mark.faults, pytest.mark.slow]

TARGET = "dynamic/conveyor"


def wait_for_messages(proxy: FaultProxy, num_messages: int) -> None:
    """So many more, from now on, on their way to the server."""
    end_s, before = time.monotonic() + 30.0, proxy.num_units["to server"]
    while proxy.num_units["to server"] < before + num_messages:
        assert time.monotonic() < end_s, "the run asks nothing"
        time.sleep(0.01)


def test_f21_a_run_that_is_asked_to_end(tmp_path: Path) -> None:
    """SIGTERM while the robot moves: it comes to rest where it is, and the report says why. No way home."""
    embodiment = make_environment(TARGET).embodiment
    recording, report = tmp_path / "run.mcap", tmp_path / "run.json"
    with make_server(tmp_path, embodiment) as server, FaultProxy(("127.0.0.1", server.port), "websocket") as proxy:
        words = [
            "run",
            TARGET,
            "--policy",
            f"ws://127.0.0.1:{proxy.port}",
            "--execute-horizon",
            "8",
            "--duration-s",
            "60",
        ]
        words += ["--record", str(recording), "--json", str(report)]
        with ServerProcess([sys.executable, "-m", "cerebella", *words], r"tick +0 ") as run:
            wait_for_messages(proxy, 3)
            assert run.terminate() == 0
    [episode] = json.loads(report.read_text())["episodes"]
    assert episode["reason"] == "stopped by the operator (SIGTERM)"
    trace = read_recording(recording).ticks
    states = [record.state for record in trace]
    num_ending = states[::-1].index("run")
    assert set(states[-num_ending:]) <= {"stop", "hold"}
    assert states[-1] == "hold"
    sent = commands(trace).astype(np.float64)
    most = np.asarray([action.max_velocity for action in embodiment.actions]) / embodiment.control_hz
    assert (np.abs(np.diff(sent, axis=0)) <= most * (1 + 1e-6) + 1e-7).all()
    stop_m = np.linalg.norm(sent[-1, :2] - sent[-num_ending - 1, :2])
    assert stop_m < 0.1, "it stays where it stopped"
