import time
from pathlib import Path

import pytest
import tyro

from cerebella.cli.estop import EStop
from cerebella.runtime.emergency_stop import COOL_DOWN_S, EmergencyStop


def run(*words: str) -> int:
    return tyro.cli(EStop, args=words).run()


def test_latch_status_reset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ("--state", str(tmp_path))
    assert run("status", *state) == 0
    assert run("latch", *state, "--operator", "Mei", "--reason", "smoke") == 0
    assert EmergencyStop(tmp_path).is_latched
    capsys.readouterr()
    assert run("status", *state) == 1
    assert "LATCHED" in (shown := capsys.readouterr().out)
    assert "operator  Mei smoke" in shown
    with pytest.raises(ValueError, match="name of the operator"):
        run("reset", *state)
    assert run("reset", *state, "--operator", "Mei") == 1
    assert "refused: latched" in capsys.readouterr().err
    time.sleep(COOL_DOWN_S + 0.01)
    assert run("reset", *state, "--operator", "Mei", "--reason", "no fire") == 0
    assert "released" in capsys.readouterr().out
    assert not EmergencyStop(tmp_path).is_latched


def test_a_robot_has_its_own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="there is no state of a robot"):
        run("status", "--robot", "left-arm")
    assert run("latch", "--robot", "left-arm") == 0
    assert run("status", "--robot", "left-arm") == 1
    assert EmergencyStop(tmp_path / "cerebella" / "left-arm").is_latched
    assert not EmergencyStop(tmp_path / "cerebella" / "right-arm").is_latched


def test_which_robot_must_be_said(tmp_path: Path) -> None:
    for words in [(), ("--robot", "arm", "--state", str(tmp_path))]:
        with pytest.raises(ValueError, match="either --robot NAME or --state DIR"):
            run("status", *words)
