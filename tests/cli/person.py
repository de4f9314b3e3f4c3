"""What a person sees of a command that fails."""

import pytest

from cerebella import cli


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail as wrong use, without a traceback; what it said."""
    try:
        code = cli.main(words)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == cli.EXIT_WRONG_USE
    assert "Traceback" not in said.err
    return " ".join(said.err.replace("│", " ").split())
