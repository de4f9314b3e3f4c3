"""The `cerebella` command. Each command is a frozen dataclass: its fields are the arguments, its docstring is the help.

Commands only parse, call, and say what was written. Torch is imported inside the command that needs it, so that
`cerebella --help` answers at once. Mistakes of the caller end with one clear line on stderr and exit code 2; `--debug`
(or CEREBELLA_DEBUG=1) shows the traceback instead.
"""

import difflib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import tyro
from tyro.conf import Positional, arg

from cerebella import __version__
from cerebella.runtime.chunks import check_horizons
from cerebella.runtime.executor import InferenceFailure, Mode

EXIT_WRONG_USE = 2
EXIT_FAILED_CHECK = 1


class Command(Protocol):
    """Parsed arguments that can be carried out."""

    def run(self) -> int:
        """Do it; the exit code."""
        ...


@dataclass(frozen=True)
class Info:
    """Parameters per part, attention rule, embodiment and statistics of a preset or a policy directory."""

    source: Annotated[Positional[str], arg(metavar="PRESET|DIR")]
    """a preset (micro, nano, tiny, small, xr0), a policy directory, or a directory with a released config.json"""
    json: Path | None = None
    """write the same as JSON to this file"""

    def run(self) -> int:
        """Print a table."""
        facts = _facts_of(self.source)
        for name, value in facts.items():
            if isinstance(value, dict):
                print(name)
                for part, number in value.items():
                    print(f"  {part:<34} {_readable(number):>16}")
            else:
                print(f"{name:<36} {_readable(value)}")
        _write_json(self.json, facts)
        return 0


@dataclass(frozen=True)
class Verify:
    """Compare our numbers with stored ones. Prints one JSON line; exit code 1 beyond the tolerance."""

    what: Annotated[Positional[Literal["golden"]], arg(metavar="golden")]
    """golden: vectors of the released architecture, from pixels to losses"""
    prefix: Annotated[Positional[Path], arg(metavar="PREFIX")]
    """path of the vectors without the ending, e.g. tests/golden/xr0-tiny"""
    tolerance: float = 1e-4
    """largest absolute error that passes"""
    json: Path | None = None
    """write the line to this file, too"""

    def run(self) -> int:
        """Print one JSON line."""
        from cerebella.evaluation.golden import verify_golden

        report = verify_golden(self.prefix, self.tolerance)
        _write_json(self.json, json.loads(report.to_json()))
        print(report.to_json())
        return 0 if report.passed else EXIT_FAILED_CHECK


@dataclass(frozen=True)
class Eval:
    """Measure a policy in a suite, on a virtual clock: success with interval, throughput, idle share, seams."""

    suite: Annotated[Positional[str], arg(metavar="SUITE")]
    """e.g. dynamic/conveyor"""
    policy: Annotated[str, arg(metavar="DIR|expert|zero")]
    """a policy directory, or one of the built-in policies"""
    mode: Mode = "prefix"
    """sync waits for each chunk; naive does not; prefix also lets the next chunk continue what is promised"""
    delay: int = 4
    """ticks from an observation to the arrival of its chunk"""
    episodes: int = 100
    """number of episodes; the same seed gives the same ones for every policy, mode and delay"""
    seed: int = 0
    """which set of episodes"""
    execute_horizon: int | None = None
    """actions executed before the next chunk takes over (default: half the policy's horizon)"""
    perturbation: bool = False
    """disturb every episode once"""
    batch: int = 32
    """environments in lock step; changes only the speed"""
    json: Path | None = None
    """write the whole result, every episode included, to this file"""

    def run(self) -> int:
        """Print the summary as one JSON line."""
        from cerebella.envs.registry import ENVIRONMENTS
        from cerebella.evaluation.suites import EvalConfig, evaluate

        _check_name("suite", self.suite, ENVIRONMENTS)
        result = evaluate(EvalConfig(**{field.name: getattr(self, field.name) for field in fields(self)}))
        self._warn_of_a_delay_that_does_not_fit(result["conditions"]["cells"][0])
        if self.json is not None:
            print(f"wrote {self.json}")
        print(json.dumps({key: value for key, value in result.items() if key != "episodes"}))
        return 0

    def _warn_of_a_delay_that_does_not_fit(self, cell: dict[str, Any]) -> None:
        """A delay beyond what the horizon covers can be measured, so it is no error; but nobody should overlook it."""
        if self.mode == "sync":
            return
        try:
            check_horizons(self.delay, cell["execute_horizon"], cell["horizon"])
        except ValueError as reason:
            print(f"cerebella eval: note: {reason}", file=sys.stderr)


@dataclass(frozen=True)
class Doctor:
    """What this machine can do, and what to install."""

    json: Path | None = None
    """write the same as JSON to this file"""

    def run(self) -> int:
        """Print two tables."""
        from cerebella.doctor import examine

        report = examine()
        print(report.to_text())
        _write_json(self.json, report.to_json())
        return 0


COMMANDS: dict[str, tuple[type[Info] | type[Verify] | type[Eval] | type[Doctor] | None, str, str]] = {
    "info": (Info, "PRESET|DIR", "parameters per part, attention rule, embodiment, statistics"),
    "verify": (Verify, "golden PREFIX", "compare with stored vectors; exit code 1 beyond the tolerance"),
    "train": (None, "RECIPE [--field value]", "run a recipe, or continue it where it stopped"),
    "eval": (Eval, "SUITE --policy DIR|expert|zero", "success, throughput and real-time figures of a policy"),
    "doctor": (Doctor, "", "what this machine can do, and what to install"),
}
"""Name -> (arguments, usage, one line). `train` takes the fields of its recipe instead of arguments of its own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 fine, 1 a check failed, 2 wrong use. None reads the process's arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    show_traceback = "--debug" in words or os.environ.get("CEREBELLA_DEBUG", "") not in ("", "0")
    words = [word for word in words if word != "--debug"]
    return explain_errors(lambda: _dispatch(words), f"cerebella{_command_of(words)}", show_traceback)


def explain_errors(run: Callable[[], int], program: str, show_traceback: bool = False) -> int:
    """The exit code of `run`; a mistake of the caller becomes one line on stderr and exit code 2, no traceback."""
    try:
        return run()
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if show_traceback:
            raise
        print(f"{program}: the package {error.name} is missing; `cerebella doctor` says what to type", file=sys.stderr)
        return EXIT_WRONG_USE
    except (ValueError, OSError, InferenceFailure) as error:
        if show_traceback:
            raise
        print(f"{program}: {_sentence(error)}", file=sys.stderr)
        return EXIT_WRONG_USE


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if words else EXIT_WRONG_USE
    if words[0] in ("-V", "--version"):
        print(__version__)
        return 0
    name, *rest = words
    _check_name("command", name, COMMANDS)
    if name == "train":
        return _train(rest)
    arguments = COMMANDS[name][0]
    assert arguments is not None
    command: Command = tyro.cli(arguments, args=rest, prog=f"cerebella {name}")
    return command.run()


def _train(words: list[str]) -> int:
    """The first word picks a recipe, the others change fields of its dataclass."""
    recipes = _recipes()
    known = f"recipes: {', '.join(recipes)}"
    if not words:
        raise ValueError(f"which recipe? {known}. Its fields: cerebella train RECIPE --help")
    if words[0] in ("-h", "--help"):
        print(
            f"usage: cerebella train RECIPE [--field value]\n\n{known}\nFields of a recipe: cerebella train RECIPE --help"
        )
        return 0
    name, *rest = words
    _check_name("recipe", name, recipes)
    recipe_type, train = recipes[name]
    for path in train(tyro.cli(recipe_type, args=rest, prog=f"cerebella train {name}")):
        print(f"wrote {path}")
    return 0


def _recipes() -> dict[str, tuple[type[Any], Callable[[Any], Iterable[Path]]]]:
    """Name -> (its fields, the function that runs it and returns the paths it wrote)."""
    from cerebella.recipes import conveyor

    return {"conveyor": (conveyor.ConveyorRecipe, conveyor.train)}


def _facts_of(source: str) -> dict[str, Any]:
    """What `cerebella info` prints: flat facts, and one table of parameters."""
    from cerebella.models.config import PRESETS, ModelConfig, preset

    folder = Path(source)
    if source in PRESETS:
        return _model_facts(preset(source))
    if not folder.is_dir():
        hint = _closest(source, PRESETS)
        raise ValueError(f"{source!r} is neither a preset nor a directory.{hint} Presets: {', '.join(PRESETS)}")
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise FileNotFoundError(f"{folder} is not a policy directory: config.json is missing")
    stored = json.loads(config_file.read_text())
    if "format_version" not in stored:
        from cerebella.models.checkpoint import read_released_config

        return _model_facts(read_released_config(config_file))
    from cerebella.policies import load_policy

    metadata = load_policy(folder).metadata
    robot = metadata.embodiment
    return {
        "policy": metadata.policy_id,
        **_model_facts(ModelConfig.from_json(json.dumps(stored["model"]))),
        "stages": ", ".join(f"{stage['name']} ({stage['num_steps']} steps)" for stage in stored["stages"]),
        "longest trained action prefix": f"{metadata.max_trained_prefix} rows",
        "embodiment": f"{robot.name}, {robot.control_mode}, {robot.control_hz:g} Hz",
        "views": ", ".join(robot.views) or "none",
        "state": ", ".join(f"{dimension.name} [{dimension.unit}]" for dimension in robot.states),
        "action": ", ".join(f"{dimension.name} [{dimension.unit}]" for dimension in robot.actions),
        "statistics": metadata.statistics_hash,
    }


def _model_facts(config: Any) -> dict[str, Any]:
    from cerebella.models.vla import parameter_table

    table = parameter_table(config)
    window = f", window of {config.mask_window} rows" if config.mask_variant in ("band", "lambda") else ""
    return {
        "model": config.name,
        "parameters": {
            **table.parts,
            "brain": table.brain,
            "cerebellum": table.cerebellum,
            "total": table.total,
        },
        "tensors on the cerebellum's side": table.num_cerebellum_tensors,
        "attention rule": config.mask_variant + window,
        "position offset of noisy rows": config.position_offset,
        "horizon": f"{config.horizon} rows",
        "model_state_dim": config.state_dim,
        "model_action_dim": config.action_dim,
        "flow steps": config.num_flow_steps,
    }


def _readable(value: object) -> str:
    """Numbers in groups of three digits."""
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)


def _write_json(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        from cerebella.evaluation.result import check_can_write

        check_can_write(path)
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"wrote {path}")


def _overview() -> str:
    rows = [(f"{name} {usage}".rstrip(), line) for name, (_, usage, line) in COMMANDS.items()]
    width = max(len(head) for head, _ in rows)
    table = "\n".join(f"  {head:<{width}}  {line}" for head, line in rows)
    return (
        "usage: cerebella COMMAND ...\n\n"
        "Build, train, evaluate and run real-time vision-language-action models.\n\n"
        f"commands:\n{table}\n\n"
        "options:\n"
        "  --help     this text; `cerebella COMMAND --help` explains a command\n"
        "  --version  the version\n"
        "  --debug    show the traceback of an error"
    )


def _check_name(what: str, name: str, known: Iterable[str]) -> None:
    """Raise a ValueError that offers the closest known name, and all of them."""
    names = list(known)
    if name not in names:
        raise ValueError(f"there is no {what} {name!r}.{_closest(name, names)} Known: {', '.join(names)}")


def _closest(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def _command_of(words: Sequence[str]) -> str:
    return f" {words[0]}" if words and words[0] in COMMANDS else ""


def _sentence(error: Exception) -> str:
    """One line for a person; an error of the operating system names its file."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split())
