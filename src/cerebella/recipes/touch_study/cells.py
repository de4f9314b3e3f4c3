"""What the study leaves on the disk: one JSON file per cell, which grows row by row, see `recipes.study_cells`.

Four kinds of cells; a row of each is

    training      one refiner: what it is, what its training cost, its errors on held-out pairs
    trials        one trial of a condition, see `trials`
    disturbance   one object, pushed again and again, see `disturbances`
    example       one refinement in full, with every tactile image, to be looked at

Every file holds `schema`, `schema_version`, `kind`, `name` (the fields of the class), `settings` and their `fingerprint`,
`policy_id`, `run` (commit, machine, versions, start of the first call), `cpu_s` of all calls, and `rows`. The number of rows
is not among the settings: a cell that is asked for more trials goes on. Only `run` and `cpu_s` differ between two runs with
the same settings, and the seconds of a training.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cerebella.recipes import study_cells
from cerebella.recipes.study_cells import Cell, CellFormat
from cerebella.recipes.touch_study.protocol import FaultName, GoalKind, Handling, World

FORMAT = CellFormat(
    constants={"schema": "cerebella.touch.study", "schema_version": 1},
    fields=("kind", "name", "settings", "fingerprint", "policy_id", "run", "cpu_s", "rows"),
)


@dataclass(frozen=True)
class TrainingName:
    """The training of a refiner."""

    policy: str
    kind = "training"

    def __str__(self) -> str:
        return f"{self.policy}-training"


@dataclass(frozen=True)
class TrialsName:
    """A condition. `objects`: `seen` or `unseen`; the others as in `Protocol`."""

    policy: str
    world: World
    goal: GoalKind
    objects: str = "seen"
    max_steps: int = 5
    handling: Handling = "strict"
    fault: FaultName = "none"
    kind = "trials"

    def __str__(self) -> str:
        parts = [self.policy, self.world, self.goal, self.objects, f"{self.max_steps}steps"]
        parts += [self.handling] if self.handling != "strict" else []
        return "-".join([*parts, *([self.fault] if self.fault != "none" else [])])


@dataclass(frozen=True)
class DisturbanceName:
    """The long run of every object."""

    policy: str
    world: World
    kind = "disturbance"

    def __str__(self) -> str:
        return f"{self.policy}-{self.world}-disturbance"


@dataclass(frozen=True)
class ExampleName:
    """One refinement of a plate, a disk and a rod, in full."""

    policy: str
    world: World
    kind = "example"

    def __str__(self) -> str:
        return f"{self.policy}-{self.world}-example"


Name = TrainingName | TrialsName | DisturbanceName | ExampleName
_NAMES: Mapping[str, type[Name]] = {
    kind.kind: kind for kind in (TrainingName, TrialsName, DisturbanceName, ExampleName)
}


def name_of(cell: Cell) -> Name:
    """The name of a cell that was read."""
    return _NAMES[cell["kind"]](**cell["name"])


def path_of(folder: Path, name: Name) -> Path:
    """Where a cell lies."""
    return folder / f"{name}.json"


def new_cell(name: Name, settings: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """A cell without rows."""
    return {**FORMAT.new(name.kind, name, settings, run), "policy_id": "", "cpu_s": 0.0, "rows": []}


def write_cell(folder: Path, name: Name, cell: Cell) -> Path:
    """Write the file as a whole."""
    return study_cells.write_cell(path_of(folder, name), cell)


def find_cell(folder: Path, name: Name, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The cell of that name, if it has been begun; see `CellFormat.find`."""
    return FORMAT.find(path_of(folder, name), asdict(name), settings)
