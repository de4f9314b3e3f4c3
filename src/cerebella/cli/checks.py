"""`cerebella verify` and `cerebella doctor`: are the numbers right, and what can this machine do?"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cerebella.cli.errors import EXIT_FAILED_CHECK
from cerebella.cli.output import write_json


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
        write_json(self.json, json.loads(report.to_json()))
        print(report.to_json())
        return 0 if report.passed else EXIT_FAILED_CHECK


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
        write_json(self.json, report.to_json())
        return 0
