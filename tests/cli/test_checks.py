"""`cerebella verify`."""

import json
from pathlib import Path

import pytest

from cerebella import cli

GOLDEN = Path(__file__).parents[1] / "golden" / "xr0-tiny"


def test_verify_exit_code_follows_the_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "golden", str(GOLDEN)]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert cli.main(["verify", "golden", str(GOLDEN), "--tolerance", "0"]) == cli.EXIT_FAILED_CHECK
    assert json.loads(capsys.readouterr().out)["passed"] is False
