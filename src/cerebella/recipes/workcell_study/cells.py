"""What the study leaves on the disk: one small JSON file per cell, see `recipes.study_cells`.

Four kinds of cells:

    training    one training: what came out of it. Its CPU seconds are those of the process that finished it.
    rollout     a few episodes of one condition: training, mode, delay. See `driving`.
    retention   one brain on questions about held-out demonstrations. See `asking`.
    stream      a policy, or the expert, at the belt for half an hour. See `streaming`.

Every file holds `schema_version`, `study`, `kind`, `name` (the fields of the class), `settings` and their `fingerprint`,
`run` (commit, machine, versions, start), `cpu_s`, and its `numbers`. Only `run`, `cpu_s` and the memory of a stream differ
between two runs with the same settings.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cerebella.recipes import study_cells
from cerebella.recipes.study_cells import Cell, CellFormat

FORMAT = CellFormat(
    constants={"schema_version": "1.0", "study": "workcell"},
    fields=("kind", "name", "settings", "fingerprint", "run", "cpu_s", "numbers"),
)


@dataclass(frozen=True)
class TrainingName:
    """Which training."""

    training: str
    kind = "training"

    def __str__(self) -> str:
        return f"training-{self.training}"


@dataclass(frozen=True)
class RolloutName:
    """Which episodes of which condition. `first`: number of the first episode. `training` and `mode` are `expert` for the expert."""

    training: str
    mode: str
    delay: int
    first: int
    kind = "rollout"

    def __str__(self) -> str:
        return f"rollout-{self.training}-{self.mode}-d{self.delay}-e{self.first:04d}"


@dataclass(frozen=True)
class RetentionName:
    """Which brain. `stage`: the name of its directory."""

    training: str
    stage: str
    kind = "retention"

    def __str__(self) -> str:
        return f"retention-{self.training}-{self.stage}"


@dataclass(frozen=True)
class StreamName:
    """Who stands at the belt: a training, or `expert`. `delay`: ticks."""

    training: str
    delay: int
    kind = "stream"

    def __str__(self) -> str:
        return f"stream-{self.training}-d{self.delay}"


Name = TrainingName | RolloutName | RetentionName | StreamName


def make_cell(
    name: Name, settings: Mapping[str, Any], run: Mapping[str, Any], cpu_s: float, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    """Put a cell together, as JSON gives it back; the module's docstring says what the fields are."""
    cell = {**FORMAT.new(name.kind, name, settings, run), "cpu_s": round(cpu_s, 2), "numbers": numbers}
    return json.loads(json.dumps(cell, allow_nan=False))


def write_cell(folder: Path, name: Name, cell: Cell) -> Path:
    """Write the file as a whole."""
    return study_cells.write_cell(folder / f"{name}.json", cell)


def find_cell(folder: Path, name: Name, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The cell of that name, if it has been run; see `CellFormat.find`."""
    return FORMAT.find(folder / f"{name}.json", asdict(name), settings)
