"""The command line as a person meets it: help, typos, bad input, exit codes. Everything runs in this process."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from cerebella import __version__, cli
from cerebella.evaluation.suites import EvalConfig
from cerebella.runtime.executor import InferenceFailure

GOLDEN = Path(__file__).parent / "golden" / "xr0-tiny"


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


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in cli.COMMANDS)
    assert cli.main([]) == cli.EXIT_WRONG_USE


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "train":
        assert cli.main([name, "--help"]) == 0
    else:
        with pytest.raises(SystemExit, match=r"^0$"):
            cli.main([name, "--help"])
    assert f"usage: cerebella {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_a_typo_in_a_command_offers_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    said = error_of(capsys, "evla")
    assert "Did you mean 'eval'?" in said
    assert all(name in said for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("info", "micr"), ("Did you mean 'micro'?", "nano", "tiny", "small", "xr0")),
        (("train", "convayor"), ("Did you mean 'conveyor'?",)),
        (("train",), ("which recipe?", "conveyor")),
        (("train", "conveyor", "--presett", "nano"), ("--preset",)),
        (("train", "conveyor", "--preset", "nanoo"), ("unknown preset 'nanoo'", "nano", "xr0")),
        (("eval", "dynamic/convoyer", "--policy", "zero"), ("Did you mean 'dynamic/conveyor'?",)),
        (("eval", "dynamic/conveyor", "--policy", "zero", "--mode", "synk"), ("'sync'", "'naive'", "'prefix'")),
        (("eval", "dynamic/conveyor", "--policy", "zero", "--moed", "sync"), ("--mode",)),
        (("eval", "dynamic/conveyor", "--policy", "no/such"), ("no/such", "expert", "zero")),
        (("eval", "dynamic/conveyor", "--policy", "zero", "--delay", "-1"), ("delay must be 0 or more ticks; got -1",)),
        (("eval", "dynamic/conveyor", "--policy", "zero", "--batch", "0"), ("batch must be 1 or more",)),
        (("eval", "dynamic/conveyor", "--policy", "zero", "--seed", "-1"), ("seed >= 0", "got seed -1")),
        (("eval", "dynamic/conveyor", "--policy", "zero", "--execute-horizon", "0"), ("in 1..16 ticks", "got 0")),
        (("eval", "dynamic/conveyor"), ("--policy",)),
        (("verify", "golden", str(GOLDEN), "--tolerance", "nan"), ("tolerance must be 0 or more",)),
        (("verify", "golden", "no/such"), ("no/such.config.json", "missing")),
        (("verify", "goldne", "x"), ("golden",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_use_is_explained(
    words: tuple[str, ...], expected: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    said = error_of(capsys, *words)
    missing = [part for part in expected if part not in said]
    assert not missing, said


def test_info_of_a_folder_that_is_no_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "config.json is missing" in error_of(capsys, "info", str(tmp_path))


def test_a_file_where_a_folder_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the operating system becomes a sentence that names the file."""
    (tmp_path / "taken").write_text("")
    said = error_of(capsys, "info", "micro", "--json", str(tmp_path / "taken" / "x.json"))
    assert str(tmp_path / "taken") in said
    assert "Errno" not in said


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no command 'evla'"):
        cli.main(["evla", "--debug"])
    monkeypatch.setenv("CEREBELLA_DEBUG", "1")
    with pytest.raises(ValueError, match="no command 'evla'"):
        cli.main(["evla"])


def test_info_prints_the_released_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "deep" / "xr0.json"
    assert cli.main(["info", "xr0", "--json", str(target)]) == 0
    said = capsys.readouterr().out
    assert all(number in said for number in ("4 437 815 808", "278 458 368", "4 716 274 176", " 219"))
    assert said.splitlines()[-1] == f"wrote {target}"
    assert json.loads(target.read_text())["parameters"]["total"] == 4_716_274_176


def test_verify_exit_code_follows_the_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "golden", str(GOLDEN)]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert cli.main(["verify", "golden", str(GOLDEN), "--tolerance", "0"]) == cli.EXIT_FAILED_CHECK
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_eval_ends_with_one_json_line_after_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "result.json"
    words = ["eval", "dynamic/conveyor", "--policy", "zero", "--episodes", "2", "--delay", "1", "--json", str(target)]
    assert cli.main(words) == 0
    *_, path_line, last = capsys.readouterr().out.splitlines()
    assert path_line == f"wrote {target}"
    assert json.loads(last)["summary"][0]["episodes"] == 2
    assert len(json.loads(target.read_text())["episodes"]) == 2


def test_eval_says_when_the_delay_does_not_fit_the_horizon(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "dynamic/conveyor", "--policy", "zero", "--episodes", "1", "--delay", "9", "--mode"]
    assert cli.main([*words, "naive"]) == 0
    assert "delay 9 ticks is more than half of horizon 16 ticks" in capsys.readouterr().err
    assert cli.main([*words, "sync"]) == 0
    assert "more than half" not in capsys.readouterr().err


def test_eval_offers_every_field_of_an_evaluation() -> None:
    """The command's fields are the config's, with the same defaults; only their help is its own."""
    ours = {field.name: field.default for field in fields(cli.Eval)}
    assert ours == {field.name: field.default for field in fields(EvalConfig)}


def test_eval_finds_out_before_the_run_that_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    words = ("eval", "dynamic/conveyor", "--policy", "zero", "--episodes", "1000000", "--json")
    assert "taken is a file, not a folder" in error_of(capsys, *words, str(tmp_path / "taken" / "x.json"))
    assert "cannot write" in error_of(capsys, *words, str(tmp_path))


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

    monkeypatch.setattr(cli, "_recipes", without_torch)
    said = error_of(capsys, "train", "conveyor")
    assert "torch is missing" in said
    assert "cerebella doctor" in said
