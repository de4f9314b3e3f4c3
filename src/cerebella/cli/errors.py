"""Mistakes of the caller: one line on stderr and an exit code; and the closest name that would have been right."""

import difflib
import sys
from collections.abc import Callable, Iterable

from cerebella.runtime.emergency_stop import EmergencyStopLatched, ResetRefused
from cerebella.runtime.executor import InferenceFailure
from cerebella.runtime.watchdog import WatchdogFailure

EXIT_FAILED_CHECK = 1
EXIT_WRONG_USE = 2


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
    except (
        ValueError,
        OSError,
        ImportError,
        InferenceFailure,
        EmergencyStopLatched,
        ResetRefused,
        WatchdogFailure,
    ) as error:
        if show_traceback:
            raise
        print(f"{program}: {_sentence(error)}", file=sys.stderr)
        return EXIT_WRONG_USE


def check_name(what: str, name: str, known: Iterable[str]) -> None:
    """Raise a ValueError that offers the closest known name, and all of them."""
    names = list(known)
    if name not in names:
        raise ValueError(f"there is no {what} {name!r}.{closest(name, names)} Known: {', '.join(names)}")


def closest(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the known name that is most like this one; empty if none is."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def _sentence(error: Exception) -> str:
    """One line for a person; an error of the operating system names its file."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split())
