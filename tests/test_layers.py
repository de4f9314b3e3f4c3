"""The acting side runs on a robot's small computer, so it must load without torch. The linter proves it from the
source; this proves it from the running interpreter, and that no acting package was left out of the linter's list.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cerebella"
NOUNS = ("types", "embodiment", "arms", "released_robots", "geometry", "interfaces")
ACTING = tuple(name for name in ("data", "runtime", "serving", "robots", "envs") if (PACKAGE / name).exists())


def modules_of(name: str) -> list[str]:
    """Every importable module of a package of cerebella, or the module itself."""
    folder = PACKAGE / name
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{name}.py"]
    dotted = [".".join(file.relative_to(ROOT / "src").with_suffix("").parts) for file in files]
    return [module.removesuffix(".__init__") for module in dotted]


@pytest.mark.parametrize("name", NOUNS + ACTING)
def test_loads_without_torch(name: str) -> None:
    program = (
        "import importlib, sys\n"
        f"for module in {modules_of(name)!r}: importlib.import_module(module)\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_linter_watches_every_acting_package() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = config["tool"]["importlinter"]["contracts"]
    watched = {name for contract in contracts if contract["type"] == "forbidden" for name in contract["source_modules"]}
    assert {f"cerebella.{name}" for name in NOUNS + ACTING} <= watched
