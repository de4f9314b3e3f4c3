"""The scripts themselves at the smallest size: they run without a GPU, and end with one JSON object."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def last_line_of(*command: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *command], cwd=BENCH, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_latency(tmp_path: Path) -> None:
    file = tmp_path / "latency.json"
    sizes = ("--preset", "micro", "--geometry", "1x32", "--rounds", "3", "--compile", "none")
    report = last_line_of("latency.py", *sizes, "--json", str(file))
    assert report["schema_version"] == 1
    assert len(report["cases"][0]["rows"]) == 6
    assert json.loads(file.read_text()) == report


@pytest.mark.slow
def test_full_size_at_a_small_size() -> None:
    report = last_line_of("full_size.py", "--preset", "micro", "--geometry", "1x32")
    assert report["measured"]
    assert report["cosine"] > 0.999


@pytest.mark.slow
def test_the_gpu_plan_without_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    report = last_line_of("gpu.py", "--parts", "acd", "--out", str(out))
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert report["records"] == {part: sum(r["part"] == part for r in records) for part in "acd"}
    assert all(count > 0 for count in report["records"].values())
