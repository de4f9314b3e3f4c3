"""What the study leaves on the disk: one small JSON file per cell, see `recipes.study_cells`.

Three kinds of cells:

    training    one policy: task, horizon, variant, seed. What it cost and where its loss ended.
    rollout     one condition of one policy: method, delay, execute horizon, with or without a perturbation. See `measures`.
    trap        one policy on windows whose prefix is stale, without a robot. See `trap`.

Every file holds `schema_version`, `study`, `kind`, `name` (the fields of the class), `settings` and their `fingerprint`,
`run` (commit, machine, versions, start), `cpu_s`, and its `numbers`. Only `run` and `cpu_s` differ between two runs with
the same settings, and the CPU seconds of a training.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cerebella.recipes import study_cells
from cerebella.recipes.study_cells import Cell, CellFormat

FORMAT = CellFormat(
    constants={"schema_version": "1.0", "study": "async"},
    fields=("kind", "name", "settings", "fingerprint", "run", "cpu_s", "numbers"),
)


@dataclass(frozen=True)
class PolicyName:
    """Which policy. `task`: without the `dynamic/` in front."""

    task: str
    horizon: int
    variant: str
    seed: int
    kind = "training"

    def __str__(self) -> str:
        return f"{self.task}-h{self.horizon}-{self.variant}-seed{self.seed}"


@dataclass(frozen=True)
class RolloutName:
    """Which episodes. `delay`: ticks, or `burst`. `perturbation`: every episode is disturbed once."""

    task: str
    horizon: int
    execute_horizon: int
    method: str
    delay: int | str
    perturbation: bool
    seed: int
    kind = "rollout"

    def __str__(self) -> str:
        event = "event" if self.perturbation else "calm"
        return (
            f"{self.task}-h{self.horizon}-s{self.execute_horizon}-{self.method}-d{self.delay}-{event}-seed{self.seed}"
        )


@dataclass(frozen=True)
class TrapName:
    """Which stale windows. `delay`: rows of the stale prefix."""

    task: str
    horizon: int
    method: str
    delay: int
    seed: int
    kind = "trap"

    def __str__(self) -> str:
        return f"{self.task}-h{self.horizon}-{self.method}-d{self.delay}-trap-seed{self.seed}"


Name = PolicyName | RolloutName | TrapName


def make_cell(
    name: Name, settings: Mapping[str, Any], run: Mapping[str, Any], cpu_s: float, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    """Put a cell together, as JSON gives it back; the module's docstring says what the fields are."""
    cell = {**FORMAT.new(name.kind, name, settings, run), "cpu_s": round(cpu_s, 2), "numbers": numbers}
    return json.loads(json.dumps(cell, allow_nan=False))


def path_of(folder: Path, name: Name) -> Path:
    """Where a cell lies."""
    return folder / f"{name}.json" if name.kind != "training" else folder / f"{name}-training.json"


def write_cell(folder: Path, name: Name, cell: Cell) -> Path:
    """Write the file as a whole."""
    return study_cells.write_cell(path_of(folder, name), cell)


def find_cell(folder: Path, name: Name, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The cell of that name, if it has been run; see `CellFormat.find`."""
    return FORMAT.find(path_of(folder, name), asdict(name), settings)
