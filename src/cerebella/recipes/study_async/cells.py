"""What the study leaves on the disk: one small JSON file per cell, and all of them in one bundle.

Three kinds of cells:

    training    one policy: task, horizon, variant, seed. What it cost and where its loss ended.
    rollout     one condition of one policy: method, delay, execute horizon, with or without a perturbation. See `measures`.
    trap        one policy on windows whose prefix is stale, without a robot. See `trap`.

Every file holds `schema_version`, `study`, `kind`, `name` (the fields of the class), `settings` and their `fingerprint`,
`run` (commit, machine, versions, start), `cpu_s`, and its `numbers`. Only `run` and `cpu_s` differ between two runs with
the same settings, and the CPU seconds of a training.
"""

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cerebella.embodiment import read_json_object
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.training.durable_files import write_durably

SCHEMA_VERSION, STUDY = "1.0", "async"
_FIELDS = ("schema_version", "study", "kind", "name", "settings", "fingerprint", "run", "cpu_s", "numbers")


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
Cell = Mapping[str, Any]


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Twelve hex digits that identify the settings of a cell."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def compact_run(seed: int) -> dict[str, Any]:
    """The `run` of the cells of this process: what of `evaluation.fingerprint` differs between machines and commits."""
    made_by = run_fingerprint(seed)
    return {
        "commit": made_by["commit"],
        "dirty": made_by["dirty"],
        "started_utc": made_by["started_utc"],
        "processor": made_by["hardware"]["processor"],
        "versions": {name: made_by["versions"][name] for name in ("python", "numpy", "torch")},
    }


def make_cell(
    name: Name, settings: Mapping[str, Any], run: Mapping[str, Any], cpu_s: float, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    """Put a cell together, as JSON gives it back; the module's docstring says what the fields are."""
    plain = json.loads(json.dumps(settings))
    cell = {
        "schema_version": SCHEMA_VERSION,
        "study": STUDY,
        "kind": name.kind,
        "name": asdict(name),
        "settings": plain,
        "fingerprint": fingerprint(plain),
        "run": dict(run),
        "cpu_s": round(cpu_s, 2),
        "numbers": numbers,
    }
    return json.loads(json.dumps(cell, allow_nan=False))


def path_of(folder: Path, name: Name) -> Path:
    """Where a cell lies."""
    return folder / f"{name}.json" if name.kind != "training" else folder / f"{name}-training.json"


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
    if missing := [field for field in _FIELDS if field not in cell]:
        raise ValueError(f"{where} is no cell of the study: {', '.join(missing)} missing")
    if (cell["schema_version"], cell["study"]) != (SCHEMA_VERSION, STUDY):
        raise ValueError(
            f"{where} has schema {cell['schema_version']!r} of {cell['study']!r}; this reads {SCHEMA_VERSION} of {STUDY!r}"
        )


def find_cell(folder: Path, name: Name, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The cell of that name, if it has been run.

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
        changed = "; ".join(_differences(cell["settings"], now))
        raise ValueError(f"{path} was made with other settings ({changed}); choose another out or delete it")
    return cell


def gather(folder: Path) -> list[dict[str, Any]]:
    """All cells of a folder, in the order of their names."""
    return [read_cell(path) for path in sorted(folder.glob("*.json"))]


def write_bundle(path: Path, study: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Gzip, one line per cell, in the order of their kinds and names, behind a line with the plan; equal cells make equal bytes."""
    lines = sorted((json.dumps([cell["kind"], cell["name"]], sort_keys=True), _line(cell)) for cell in cells)
    head = {"schema_version": SCHEMA_VERSION, "study": STUDY, "kind": "plan", "plan": study}
    text = _line(head) + "".join(line for _, line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def read_bundle(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(plan, cells) as `write_bundle` got them.

    Raises:
        FileNotFoundError: there is none. ValueError: it is no bundle of this study.
    """
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    if not lines or lines[0].get("kind") != "plan":
        raise ValueError(f"{path} is no bundle of the study: its first line must be the plan")
    for number, cell in enumerate(lines[1:], start=2):
        check_cell(cell, f"{path}, line {number},")
    return lines[0]["plan"], lines[1:]


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every setting that changed, with both values; nested ones with a dot."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before!r} there, {after!r} now")
    return found
