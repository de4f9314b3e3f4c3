"""From words to a run: a mistake of the caller is one sentence on stderr and exit code 2, before anything is measured."""

import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from cerebella.cli import explain_errors

T = TypeVar("T")


def run(options: type[T], check: Callable[[T], None], main: Callable[[T], None], description: str | None) -> int:
    """Parse, check, measure; the exit code.

    Args:
        options: a dataclass; its fields are the arguments. description: the text above them in `--help`.
        check: raises a ValueError for what cannot be measured, quickly. What `main` raises is no mistake of the caller
            and keeps its traceback.
    """
    chosen = tyro.cli(options, description=description)

    def finish(step: Callable[[T], None]) -> int:
        step(chosen)
        return 0

    program = sys.argv[0]
    wrong_use = explain_errors(lambda: finish(check), program)
    return wrong_use or explain_errors(lambda: finish(main), program, show_traceback=True)
