"""Failures that reach the command line from below."""

import pytest

from cerebella import cli
from cerebella.cli import train
from cerebella.runtime.executor import InferenceFailure

from .person import error_of


def test_a_policy_that_keeps_failing_ends_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise InferenceFailure("5 inferences in a row were rejected; the last: actions must be finite")

    assert cli.explain_errors(fail, "cerebella eval") == cli.EXIT_WRONG_USE
    assert capsys.readouterr().err == (
        "cerebella eval: 5 inferences in a row were rejected; the last: actions must be finite\n"
    )


def test_a_missing_package_points_at_the_doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_torch() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(train, "_recipes", without_torch)
    said = error_of(capsys, "train", "conveyor")
    assert "torch is missing" in said
    assert "cerebella doctor" in said
