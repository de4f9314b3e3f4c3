"""The loader's bench at the smallest size: both sides give the same numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.slow
def test_the_plain_loader_gives_the_same_pictures_and_chunks() -> None:
    sizes = ("--episodes", "2", "--frames", "40", "--side-px", "32", "--samples", "20", "--rounds", "1")
    done = subprocess.run([sys.executable, "loader.py", *sizes], cwd=BENCH, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["peer"] == "plain_pyav"
    assert report["samples_per_cpu_s"]["ours"] > 0
    assert report["parity_largest_difference"] < 1e-6
