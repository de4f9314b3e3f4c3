"""The rules of the house that no linter knows: file length, and documents that tell the truth about the tree."""

import re
from pathlib import Path

import pytest

from cerebella.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cerebella"
MAX_NUM_LINES = 500
SOURCES = sorted(
    file
    for folder in ("src", "tests", "examples", "bench", "tools", "plugins")
    for file in (ROOT / folder).rglob("*.py")
)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_there_are_sources() -> None:
    assert PACKAGE / "types.py" in SOURCES


def test_no_file_is_too_long() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in SOURCES}
    too_long = {name: length for name, length in lengths.items() if length > MAX_NUM_LINES}
    assert not too_long, f"split these files ({MAX_NUM_LINES} lines at most): {too_long}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_commands_in_the_documents_exist(page: Path) -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), flags=re.MULTILINE))
    assert named <= make_targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_readme_has_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert {"make demo", "make test"} <= set(re.findall(r"^make [a-z]+", readme, flags=re.MULTILINE))
    assert {"demo", "test", "check", "bench"} <= make_targets()


def tree_of(text: str) -> list[tuple[str, str]]:
    """(path, remark) of every entry of the first indented tree in a fenced block: two spaces per level."""
    block = re.findall(r"^```tree\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)[0]
    parents: list[str] = []
    entries = []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, remark = line.strip().partition(" ")
        parents = [*parents[:depth], name]
        entries.append(("".join(parents), remark.strip()))
    return entries


def test_the_map_is_true() -> None:
    entries = tree_of((ROOT / "docs" / "map.md").read_text())
    missing = [path for path, _ in entries if not (ROOT / path).exists()]
    assert not missing, f"docs/map.md names what does not exist: {missing}"
    silent = [path for path, remark in entries if not remark]
    assert not silent, f"docs/map.md says nothing about: {silent}"


def test_the_map_is_complete() -> None:
    named = {path for path, _ in tree_of((ROOT / "docs" / "map.md").read_text())}
    files = {str(file.relative_to(ROOT)) for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"}
    unnamed = files - named
    assert not unnamed, f"docs/map.md does not mention: {sorted(unnamed)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_cerebella_commands_in_the_documents_exist(page: Path) -> None:
    named = set(re.findall(r"(?:\.venv/bin/|^|`)cerebella ([a-z]+)", page.read_text(), flags=re.MULTILINE))
    assert named <= set(COMMANDS)


def test_the_proofs_named_in_the_documents_exist() -> None:
    """`docs/runtime.md` maps invariants, faults and incidents to tests; each name must be one."""
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "runtime.md").read_text()))
    assert len(named) > 40
    defined = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert not named - defined
