"""Registration with Transformers: without loading torch, in any order of imports, and never running a checkpoint's code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .policies.local_hub import LocalHub
from .policies.released_directory import write_released_directory

USE = (
    "model = AutoModel.from_pretrained({directory!r}, trust_remote_code={trust})\n"
    "processor = AutoProcessor.from_pretrained({directory!r}, trust_remote_code={trust}, use_fast=False)\n"
    "config = AutoConfig.from_pretrained({directory!r}, trust_remote_code={trust})\n"
    "print(type(model).__name__, type(processor).__name__, type(config).__name__, processor.list_robot_types())\n"
)
AUTO = "from transformers import AutoConfig, AutoModel, AutoProcessor\n"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released_directory(tmp_path_factory.mktemp("released") / "xr0-tiny")


def run(program: str, **environment_of: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (environment_of or {"HF_HUB_OFFLINE": "1"})
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_cerebella_loads_neither_torch_nor_transformers() -> None:
    assert run("import cerebella, sys; print({'torch', 'transformers'} & set(sys.modules))") == "set()"


@pytest.mark.parametrize(
    ("imports", "trust"),
    [
        pytest.param("import cerebella\n" + AUTO, True, id="cerebella first"),
        pytest.param(AUTO + "import cerebella\n", False, id="transformers first"),
        pytest.param("import cerebella.policies\n" + AUTO, True, id="in our own imports", marks=pytest.mark.slow),
    ],
)
def test_released_code_needs_one_more_import(directory: Path, imports: str, trust: bool) -> None:
    said = run(imports + USE.format(directory=str(directory), trust=trust))
    assert said == "MiBoTForActionGeneration MiBotProcessor MiBoTConfig ['libero_all']"


def test_one_auto_class_alone_is_enough_and_without_us_it_knows_nothing(directory: Path) -> None:
    program = (
        "from transformers import AutoConfig\n"
        f"try: AutoConfig.from_pretrained({str(directory)!r}, trust_remote_code=False)\n"
        "except ValueError: print('unknown')\n"
        "import cerebella\n"
        f"print(AutoConfig.from_pretrained({str(directory)!r}).model_type)\n"
    )
    assert run(program).splitlines() == ["unknown", "mibot"]


@pytest.mark.slow
def test_a_hub_id_is_enough(directory: Path, tmp_path: Path) -> None:
    """The released quick start by name, through the real client, against a hub on this machine; no code is downloaded."""
    with LocalHub() as hub:
        hub.add("lab/xr0-tiny", {path.name: path.read_bytes() for path in directory.iterdir()})
        use = USE.format(directory="lab/xr0-tiny", trust=True)
        policy = "from cerebella.policies import load_policy\nprint(load_policy('lab/xr0-tiny').metadata.horizon)\n"
        said = run("import cerebella\n" + AUTO + use + policy, HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path))
    assert said.splitlines() == ["MiBoTForActionGeneration MiBotProcessor MiBoTConfig ['libero_all']", "10"]
    assert not list(tmp_path.rglob("*.py"))
