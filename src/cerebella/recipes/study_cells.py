"""What a study leaves on the disk: one JSON file per cell, which can be resumed and refused, and all of them in one bundle.

A cell holds what its study says (`CellFormat`), among it always `kind`, `name` (which cell), `settings` (what decides its
numbers) and their `fingerprint`.
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

Cell = Mapping[str, Any]


@dataclass(frozen=True)
class CellFormat:
    """How the cells of one study look.

    Args:
        constants: fields that are the same in all of them and identify study and version.
        fields: the others that every cell has.
    """

    constants: Mapping[str, Any]
    fields: tuple[str, ...]

    def check(self, cell: Cell, where: str) -> None:
        """Raise a ValueError unless all fields are there and the schema is ours."""
        if missing := [field for field in (*self.constants, *self.fields) if field not in cell]:
            raise ValueError(f"{where} is no cell of the study: {', '.join(missing)} missing")
        if found := [f"{key} {cell[key]!r}" for key, value in self.constants.items() if cell[key] != value]:
            ours = ", ".join(f"{key} {value!r}" for key, value in self.constants.items())
            raise ValueError(f"{where} has {', '.join(found)}; this reads {ours}")

    def new(self, kind: str, name: Any, settings: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
        """What every cell begins with.

        Args:
            name: a dataclass. settings: what decides its numbers. run: see `compact_run`.
        """
        plain = json.loads(json.dumps(settings))
        return {
            **self.constants,
            "kind": kind,
            "name": asdict(name),
            "settings": plain,
            "fingerprint": fingerprint(plain),
            "run": dict(run),
        }

    def read(self, path: Path) -> dict[str, Any]:
        """Read and check the shape of a cell.

        Raises:
            FileNotFoundError: there is none. ValueError: it is no cell of this study.
        """
        cell = read_json_object(path)
        self.check(cell, str(path))
        return cell

    def find(self, path: Path, name: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The cell at a path, if there is one.

        Raises:
            ValueError: the file is of another cell, or was made with other settings (says which).
        """
        if not path.is_file():
            return None
        cell = self.read(path)
        if cell["name"] != dict(name):
            raise ValueError(f"{path} holds the cell {cell['name']} instead of {dict(name)}")
        now = json.loads(json.dumps(settings))
        if cell["fingerprint"] != fingerprint(now):
            changed = "; ".join(differences(cell["settings"], now))
            raise ValueError(f"{path} was made with other settings ({changed}); choose another out or delete it")
        return cell

    def gather(self, folder: Path) -> list[dict[str, Any]]:
        """All cells of a folder, in the order of their names."""
        return [self.read(path) for path in sorted(folder.glob("*.json"))]

    def write_bundle(self, path: Path, plan: Mapping[str, Any], cells: Sequence[Cell]) -> None:
        """Gzip, one line per cell, in the order of their kinds and names, behind a line with the plan.

        Equal cells make equal bytes.
        """
        lines = sorted((json.dumps([cell["kind"], cell["name"]], sort_keys=True), _line(cell)) for cell in cells)
        text = _line({**self.constants, "kind": "plan", "plan": plan}) + "".join(line for _, line in lines)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))

    def bundle_folder(self, folder: Path, path: Path, plan: Mapping[str, Any]) -> None:
        """`write_bundle` of all cells of a folder.

        Raises:
            FileNotFoundError: there are no cells.
        """
        cells = self.gather(folder)
        if not cells:
            raise FileNotFoundError(f"there are no cells in {folder}: run the study first, or rebuild from a bundle")
        self.write_bundle(path, plan, cells)

    def read_bundle(self, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """(plan, cells) as `write_bundle` got them.

        Raises:
            FileNotFoundError: there is none. ValueError: it is no bundle of this study.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no bundle {path}; `page` makes it from the cells of a study")
        lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        if not lines or lines[0].get("kind") != "plan":
            raise ValueError(f"{path} is no bundle of the study: its first line must be the plan")
        for number, cell in enumerate(lines[1:], start=2):
            self.check(cell, f"{path}, line {number},")
        return lines[0]["plan"], lines[1:]


def write_cell(path: Path, cell: Cell) -> Path:
    """Write the file as a whole, so that it is on the disk afterwards."""
    write_durably(path, _line(cell))
    return path


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


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n"
