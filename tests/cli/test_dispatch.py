"""The command line as a person meets it: help, typos, bad input, exit codes. Everything runs in this process."""

import logging
from pathlib import Path

import pytest

from cerebella import __version__, cli
from cerebella.cli import dispatch

from .person import error_of

GOLDEN = Path(__file__).parents[1] / "golden" / "xr0-tiny"
SHIPPED = Path(__file__).parents[2] / "policies" / "conveyor-micro"
EVAL = ("eval", "dynamic/conveyor", "--policy", "zero")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in cli.COMMANDS)
    assert cli.main([]) == cli.EXIT_WRONG_USE


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name in ("train", "data", "touch", "trace"):
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
        (("info", "micro", "--revision", "main"), ("micro is a preset", "only on a hub")),
        (("info", "./no-such"), ("there is no directory './no-such'",)),
        (("train", "convayor"), ("Did you mean 'conveyor'?",)),
        (("train",), ("which recipe?", "conveyor")),
        (("train", "conveyor", "--presett", "nano"), ("--preset",)),
        (("train", "conveyor", "--preset", "nanoo"), ("unknown preset 'nanoo'", "nano", "xr0")),
        (("eval", "dynamic/convoyer", "--policy", "zero"), ("Did you mean 'dynamic/conveyor'?",)),
        ((*EVAL, "--mode", "synk"), ("'sync'", "'naive'", "'prefix'")),
        ((*EVAL, "--moed", "sync"), ("--mode",)),
        (("eval", "dynamic/conveyor", "--policy", "./no/such"), ("no/such", "expert", "zero")),
        ((*EVAL, "--delay", "-1"), ("delay must be 0 or more ticks; got -1",)),
        ((*EVAL, "--batch", "0"), ("batch must be 1 or more",)),
        ((*EVAL, "--seed", "-1"), ("seed >= 0", "got seed -1")),
        ((*EVAL, "--execute-horizon", "0"), ("in 1..16 ticks", "got 0")),
        ((*EVAL, "--flow-steps", "2"), ("the policy 'zero' has no flow steps",)),
        (
            ("eval", "dynamic/conveyor", "--policy", str(SHIPPED), "--flow-steps", "0"),
            ("num_flow_steps must be 1 or more; got 0",),
        ),
        (("eval", "dynamic/conveyor"), ("--policy",)),
        (("verify", "golden", str(GOLDEN), "--tolerance", "nan"), ("tolerance must be 0 or more",)),
        (("verify", "golden", "no/such"), ("no/such.config.json", "missing")),
        (("verify", "goldne", "x"), ("golden",)),
        (("push", "./no-such", "someone/policy"), ("no-such", "config.json is missing")),
        (("push", str(SHIPPED), "policy"), ("'policy' is no name on a hub (owner/name)",)),
        (("convert", str(SHIPPED), "x", "--layout", "relesed"), ("policy", "released")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_use_is_explained(
    words: tuple[str, ...], expected: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    said = error_of(capsys, *words)
    missing = [part for part in expected if part not in said]
    assert not missing, said


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no command 'evla'"):
        cli.main(["evla", "--debug"])
    monkeypatch.setenv("CEREBELLA_DEBUG", "1")
    with pytest.raises(ValueError, match="no command 'evla'"):
        cli.main(["evla"])


def test_what_the_library_logs_is_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """INFO and above, while the command runs and not after it."""

    def run(words: list[str]) -> int:
        logger.info("rule: lambda")
        logger.debug("not for people")
        return 0

    logger = logging.getLogger("cerebella.policies.somewhere")
    monkeypatch.setattr(dispatch, "_dispatch", run)
    assert cli.main(["info"]) == 0
    logger.info("nobody listens")
    said = capsys.readouterr()
    assert said.err == "rule: lambda\n"
    assert said.out == ""
