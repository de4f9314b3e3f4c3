"""`cerebella run`, as a person starts it."""

import json
import math
import os
import pty
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from cerebella.cli.run import Run
from cerebella.live.config import RunConfig
from cerebella.runtime.recording.reader import read_recording

from .person import error_of

CONVEYOR = (sys.executable, "-m", "cerebella", "run", "dynamic/conveyor", "--policy")


def test_the_conveyor_for_three_seconds(tmp_path: Path) -> None:
    target, recording = tmp_path / "report.json", tmp_path / "run.mcap"
    words = [
        *CONVEYOR,
        "expert",
        "--latency-ms",
        "90",
        "--duration-s",
        "3",
        "--json",
        str(target),
        "--record",
        str(recording),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(target.read_text())
    episodes = report["episodes"]
    assert sum(episode["is_success"] for episode in episodes) >= 1
    assert episodes[-1]["reason"] == "the time is over" or episodes[-1]["is_success"]
    num_ticks = sum(episode["counters"]["num_ticks"] for episode in episodes)
    assert 45 < num_ticks < 120, "three seconds at 30 Hz, on a machine that may be busy"
    assert report["conditions"]["clock"] == "wall"
    delay = math.ceil(np.quantile(report["preflight"]["latencies_s"], 0.95, method="higher") * 30)
    assert report["conditions"]["execute_horizon"] == delay + 2 >= 5, "what was measured, and two rows"
    assert "answers take" in done.stdout
    assert done.stdout.splitlines()[-1] == f"wrote {target}"
    assert len(read_recording(recording).ticks) == episodes[0]["counters"]["num_ticks"]


def started(process: subprocess.Popen[str]) -> None:
    """Wait for the pre-flight line and the first line of status: it moves."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.lstrip("\r\x1b[2K").startswith("tick"):
            return
    raise AssertionError("it ended before it moved")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_controlled_stop(tmp_path: Path, number: signal.Signals) -> None:
    target = tmp_path / "report.json"
    words = [*CONVEYOR, "expert", "--duration-s", "120", "--json", str(target)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        started(process)
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
    last = json.loads(target.read_text())["episodes"][-1]
    assert last["reason"] == f"stopped by the operator ({number.name})"


@pytest.mark.parametrize(("key", "code", "reason"), [(b"q", 0, "stopped by the operator"), (b"e", 1, "pressed e")])
def test_keys_at_a_terminal(tmp_path: Path, key: bytes, code: int, reason: str) -> None:
    target = tmp_path / "report.json"
    words = [*CONVEYOR, "expert", "--duration-s", "120", "--json", str(target)]
    master, slave = pty.openpty()
    with subprocess.Popen(words, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        started(process)
        os.write(master, key)
        assert process.wait(timeout=60) == code
    assert reason in json.loads(target.read_text())["episodes"][-1]["reason"]
    os.close(master)
    os.close(slave)


def test_the_command_offers_every_field_of_a_run() -> None:
    ours = {field.name: field.default for field in fields(Run)}
    theirs = {field.name: field.default for field in fields(RunConfig)}
    assert ours.pop("yes") is theirs.pop("is_confirmed")
    assert ours.pop("no_watchdog") is not theirs.pop("has_watchdog")
    assert ours == theirs


def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no environment 'dynamic/conveyer'" in error_of(
        capsys, "run", "dynamic/conveyer", "--policy", "hold"
    )
    assert "never driven without a watchdog" in error_of(capsys, "run", "arm.json", "--policy", "hold", "--no-watchdog")
    assert "No such file or directory: " in error_of(capsys, "run", str(tmp_path / "a.json"), "--policy", "hold")
    words = ("run", "dynamic/conveyor", "--policy", "hold", "--record")
    (tmp_path / "run-2.mcap").write_text("")
    assert "never written over" in error_of(capsys, *words, str(tmp_path / "run.mcap"))
