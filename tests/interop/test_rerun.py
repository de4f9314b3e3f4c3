"""A recording opens in the rerun viewer: its loader decodes pictures, commands and requests (needs `rerun` on PATH)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtime.recording.runs import record_conveyor

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("rerun") is None, reason="no rerun on PATH; `pip install rerun-sdk` brings it"),
]


def rerun(*words: str) -> str:
    return subprocess.run(["rerun", *words], capture_output=True, text=True, check=True).stdout


def test_rerun_decodes_a_recording(tmp_path: Path) -> None:
    recording, converted = tmp_path / "run.mcap", tmp_path / "run.rrd"
    record_conveyor(recording, "prefix")
    checked = rerun("mcap", "check", str(recording))
    assert "ok" in checked
    assert "error" not in checked.lower()
    rerun("mcap", "convert", str(recording), "-o", str(converted))
    columns = rerun("rrd", "print", "-v", str(converted))
    for name in (
        "/camera/base@EncodedImage:blob",
        "/tick@cerebella.Tick:message",
        "/request@cerebella.Request:message",
    ):
        assert name in columns
    assert "McapMessage:data" not in columns  # nothing was left as raw bytes
