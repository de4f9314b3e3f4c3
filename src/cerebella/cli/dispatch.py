"""From words to a command, and from a command to an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import Protocol

import tyro

from cerebella import __version__
from cerebella.cli.checks import Doctor, Verify
from cerebella.cli.data import data
from cerebella.cli.errors import EXIT_WRONG_USE, check_name, explain_errors
from cerebella.cli.estop import EStop
from cerebella.cli.evaluate import Eval
from cerebella.cli.info import Info
from cerebella.cli.output import messages_on_stderr
from cerebella.cli.plan import Plan
from cerebella.cli.policies import Convert, Push
from cerebella.cli.run import Run
from cerebella.cli.serve import Serve
from cerebella.cli.touch import touch
from cerebella.cli.trace import trace
from cerebella.cli.train import train


class Command(Protocol):
    """Parsed arguments that can be carried out."""

    def run(self) -> int:
        """Do it; the exit code."""
        ...


COMMANDS: dict[str, tuple[type[Command] | None, str, str]] = {
    "info": (Info, "PRESET|DIR|HUB_ID", "parameters per part, attention rule, embodiment, statistics"),
    "verify": (Verify, "golden PREFIX", "compare with stored vectors; exit code 1 beyond the tolerance"),
    "plan": (Plan, "RECIPE --gpus N --memory GB", "what fits on these GPUs, and how many hours it takes"),
    "train": (None, "RECIPE [--field value]", "run a recipe, or continue it where it stopped"),
    "data": (None, "inspect|stats|validate|convert|recover", "look at data sets, check, convert and repair them"),
    "eval": (Eval, "SUITE --policy DIR|expert|zero", "success, throughput and real-time figures of a policy"),
    "run": (Run, "ENV|ROBOT.json --policy DIR|URL", "drive a robot or a simulated one in real time"),
    "serve": (Serve, "DIR|HUB_ID", "a policy for robots to connect to"),
    "trace": (None, "info|replay|diff|plot|export|recover", "look at recorded runs, replay, compare, draw and export"),
    "touch": (None, "data|train|eval|refine|study", "a hand that feels: grasps, refiners, refinements, the study"),
    "estop": (EStop, "status|latch|reset", "the emergency stop of a robot"),
    "convert": (Convert, "SOURCE DIR --layout policy|released", "write a policy in our layout, or in the released one"),
    "push": (Push, "DIR OWNER/NAME", "upload a policy to a model hub"),
    "doctor": (Doctor, "", "what this machine can do, and what to install"),
}
"""Name -> (arguments, usage, one line). `train`, `data`, `touch` and `trace` read their words themselves."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 fine, 1 a check failed, 2 wrong use. None reads the process's arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    show_traceback = "--debug" in words or os.environ.get("CEREBELLA_DEBUG", "") not in ("", "0")
    words = [word for word in words if word != "--debug"]
    with messages_on_stderr():
        return explain_errors(lambda: _dispatch(words), f"cerebella{_command_of(words)}", show_traceback)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if words else EXIT_WRONG_USE
    if words[0] in ("-V", "--version"):
        print(__version__)
        return 0
    name, *rest = words
    check_name("command", name, COMMANDS)
    if name == "train":
        return train(rest)
    if name == "data":
        return data(rest)
    if name == "touch":
        return touch(rest)
    if name == "trace":
        return trace(rest)
    arguments = COMMANDS[name][0]
    assert arguments is not None
    return tyro.cli(arguments, args=rest, prog=f"cerebella {name}").run()


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


def _command_of(words: Sequence[str]) -> str:
    return f" {words[0]}" if words and words[0] in COMMANDS else ""
