"""What commands leave behind: a JSON file, a path on stdout, what the library has to say on stderr."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write an object to a file and say so; nothing if there is no path."""
    if path is not None:
        from cerebella.evaluation.result import check_can_write

        check_can_write(path)
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"wrote {path}")


def check_json(path: Path | None) -> None:
    """Find out before a long run that its `--json` file cannot be written."""
    if path is not None:
        from cerebella.evaluation.result import check_can_write

        check_can_write(path)


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Show what the library logs (level INFO and above), one line each, while a command runs."""
    logger = logging.getLogger("cerebella")
    level, handler = logger.level, logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
