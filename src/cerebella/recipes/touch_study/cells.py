"""What the study leaves on the disk: one JSON file per cell, which grows row by row, and all of them in one bundle.

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

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cerebella.embodiment import read_json_object
from cerebella.recipes.touch_study.protocol import FaultName, GoalKind, Handling, World
from cerebella.training.durable_files import write_durably

SCHEMA, SCHEMA_VERSION = "cerebella.touch.study", 1
_FIELDS = (
    *("schema", "schema_version", "kind", "name", "settings", "fingerprint", "policy_id", "run", "cpu_s", "rows"),
)
Cell = Mapping[str, Any]


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


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Twelve hex digits that identify the settings of a cell."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def path_of(folder: Path, name: Name) -> Path:
    """Where a cell lies."""
    return folder / f"{name}.json"


def new_cell(name: Name, settings: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """A cell without rows."""
    plain = json.loads(json.dumps(settings))
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "kind": name.kind,
        "name": asdict(name),
        "settings": plain,
        "fingerprint": fingerprint(plain),
        "policy_id": "",
        "run": dict(run),
        "cpu_s": 0.0,
        "rows": [],
    }


def write_cell(folder: Path, name: Name, cell: Cell) -> Path:
    """Write the file as a whole."""
    path = path_of(folder, name)
    write_durably(path, _line(cell))
    return path


def read_cell(path: Path) -> dict[str, Any]:
    """Read and check the shape of a cell.

    Raises:
        FileNotFoundError: there is none. ValueError: it is no cell of this study.
    """
    cell = read_json_object(path)
    check_cell(cell, str(path))
    return cell


def check_cell(cell: Cell, where: str) -> None:
    """Raise a ValueError unless all fields are there and the schema is ours."""
    if (cell.get("schema"), cell.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
        raise ValueError(
            f"{where} has the schema {cell.get('schema')!r}, version {cell.get('schema_version')!r}; this reads "
            f"{SCHEMA!r}, version {SCHEMA_VERSION}"
        )
    if missing := [field for field in _FIELDS if field not in cell]:
        raise ValueError(f"{where} is no cell of the study: {', '.join(missing)} missing")


def find_cell(folder: Path, name: Name, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The cell of that name, if it has been begun.

    Raises:
        ValueError: the file is of another cell, or was made with other settings (says which).
    """
    path = path_of(folder, name)
    if not path.is_file():
        return None
    cell = read_cell(path)
    if cell["name"] != asdict(name):
        raise ValueError(f"{path} holds the cell {cell['name']} instead of {asdict(name)}")
    now = json.loads(json.dumps(settings))
    if cell["fingerprint"] != fingerprint(now):
        changed = "; ".join(differences(cell["settings"], now))
        raise ValueError(f"{path} was made with other settings ({changed}); choose another out or delete it")
    return cell


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every setting that changed, with both values; nested ones with a dot."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before!r} there, {after!r} now")
    return found


def gather(folder: Path) -> list[dict[str, Any]]:
    """All cells of a folder, in the order of their names."""
    return [read_cell(path) for path in sorted(folder.glob("*.json"))]


def write_bundle(path: Path, planned: Mapping[str, int], cells: Sequence[Cell]) -> None:
    """Gzip, one line per cell, in the order of their kinds and names, behind a line with the plan; equal cells make equal bytes.

    Args:
        planned: name of a cell -> how many rows it should have.
    """
    head = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "kind": "plan", "planned": dict(planned)}
    lines = sorted((json.dumps([cell["kind"], cell["name"]], sort_keys=True), _line(cell)) for cell in cells)
    text = _line(head) + "".join(line for _, line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def read_bundle(path: Path) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """(planned, cells) as `write_bundle` got them.

    Raises:
        FileNotFoundError: there is none. ValueError: it is no bundle of this study.
    """
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    if not lines or lines[0].get("kind") != "plan":
        raise ValueError(f"{path} is no bundle of the study: its first line must be the plan")
    for number, cell in enumerate(lines[1:], start=2):
        check_cell(cell, f"{path}, line {number},")
    return lines[0]["planned"], lines[1:]


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n"
