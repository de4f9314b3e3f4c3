"""The `cerebella` command. Each command is a frozen dataclass: its fields are the arguments, its docstring is the help.

Commands only parse, call, and say what was written. Torch is imported inside the command that needs it, so that
`cerebella --help` answers at once. Mistakes of the caller end with one clear line on stderr and exit code 2; `--debug`
(or CEREBELLA_DEBUG=1) shows the traceback instead.
"""

from cerebella.cli.dispatch import COMMANDS, main
from cerebella.cli.errors import EXIT_FAILED_CHECK, EXIT_WRONG_USE, explain_errors

__all__ = ["COMMANDS", "EXIT_FAILED_CHECK", "EXIT_WRONG_USE", "explain_errors", "main"]
