"""The serving scripts at their smallest: they end with one JSON object."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def last_line_of(script: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCH / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_serving() -> None:
    sizes = ("--rounds", "3", "--calls", "2", "--requests", "20", "--seconds", "1", "--turns", "1")
    report = last_line_of("serving.py", "--parts", "overhead", "memory", "neighbours", *sizes)
    assert {"our server, our client", "pickle socket"} <= {row["name"] for row in report["overhead"]["rows"]}
    assert set(report["gates"]) == {"overhead", "memory", "neighbours"}


@pytest.mark.slow
def test_fleet() -> None:
    report = last_line_of("fleet.py")
    h200 = next(row for row in report["robots"] if (row["card"], row["geometry"]) == ("H200", "2x224"))
    assert h200["robots"]["20"] == 146
