"""Cells are refused if they are of another study, another name or other settings; bundles hold them all."""

import json
from pathlib import Path

import pytest

from cerebella.recipes.study_cells import CellFormat, fingerprint, write_cell

FORMAT = CellFormat({"study": "made up"}, ("kind", "name", "settings", "fingerprint"))
SETTINGS = {"a": 1, "deep": {"b": 2}}


def cell(name: str = "one") -> dict[str, object]:
    return {
        **FORMAT.constants,
        "kind": "thing",
        "name": {"n": name},
        "settings": SETTINGS,
        "fingerprint": fingerprint(SETTINGS),
    }


def test_a_cell_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    assert FORMAT.find(path, {"n": "one"}, SETTINGS) is None
    write_cell(path, cell())
    assert FORMAT.find(path, {"n": "one"}, SETTINGS) == cell()
    assert FORMAT.gather(tmp_path) == [cell()]


def test_a_wrong_cell_is_refused_with_the_difference(tmp_path: Path) -> None:
    path = write_cell(tmp_path / "one.json", cell())
    with pytest.raises(ValueError, match=r"holds the cell .*'one'.* instead of .*'two'"):
        FORMAT.find(path, {"n": "two"}, SETTINGS)
    with pytest.raises(ValueError, match=r"other settings \(deep\.b: 2 there, 3 now\)"):
        FORMAT.find(path, {"n": "one"}, {"a": 1, "deep": {"b": 3}})
    with pytest.raises(ValueError, match=r"no cell of the study: fingerprint missing"):
        FORMAT.check({key: value for key, value in cell().items() if key != "fingerprint"}, "it")
    with pytest.raises(ValueError, match=r"it has study 'other'; this reads study 'made up'"):
        FORMAT.check({**cell(), "study": "other"}, "it")


def test_a_bundle_holds_plan_and_cells_whatever_their_order(tmp_path: Path) -> None:
    cells = [cell("one"), cell("two")]
    FORMAT.write_bundle(tmp_path / "a.gz", {"seeds": [0]}, cells)
    FORMAT.write_bundle(tmp_path / "b.gz", {"seeds": [0]}, cells[::-1])
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert FORMAT.read_bundle(tmp_path / "a.gz") == ({"seeds": [0]}, json.loads(json.dumps(cells)))
    (tmp_path / "c.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is no bundle of the study"):
        FORMAT.read_bundle(tmp_path / "c.gz")
