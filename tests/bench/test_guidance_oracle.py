"""The script at a small size: the orderings that its table is about."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.slow
def test_what_guidance_repairs_and_what_it_copies() -> None:
    command = [sys.executable, "guidance_oracle.py", "--samples", "4000", "--rounds", "3"]
    done = subprocess.run(command, cwd=BENCH, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    rows = report["rows"]
    assert report["max_abs_from_dense"] < 1e-6
    for steps in ("5", "10", "50"):
        error, seam = ({name: row["scores"][steps][i] for name, row in rows.items()} for i in (0, 1))
        assert error["exact conditional flow"] < 0.02
        guided = [name for name in rows if name.startswith("guided")]
        assert all(0.05 < error[name] < 0.5 * error["no conditioning"] for name in guided)
        assert error["guided, hard, Jacobian"] < error["guided, hard, identity"]
        assert error["guided, soft, identity"] < error["guided, soft, Jacobian"]
        assert all(seam[name] < 0.3 * seam["no conditioning"] for name in guided)
    for name, row in rows.items():
        for share in row.get("copied", {}).values():
            assert share == pytest.approx(0.0, abs=1e-9) if "hard" in name else 0.6 < share < 0.75
    assert report["cost"]["flow alone"]["jacobian"]["median"] > report["cost"]["flow alone"]["identity"]["median"]
