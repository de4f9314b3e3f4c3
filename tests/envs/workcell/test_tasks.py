import subprocess
import sys

import pytest

from cerebella.envs.workcell.tasks import TASKS, gymnasium_id, make_task


def test_names_follow_the_tasks() -> None:
    assert gymnasium_id("workcell/lego") == "cerebella/Lego-v0"


def test_environments_are_known_without_mujoco() -> None:
    code = (
        "import sys; sys.modules['mujoco'] = None\n"
        "import cerebella.envs\n"
        "from cerebella.envs.workcell.tasks import workcell_module\n"
        "try:\n    workcell_module('environment')\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'cerebella[sim]'" in done.stdout


def test_unknown_tasks_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="known tasks"):
        make_task("workcell/nothing")


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_made_by_its_name(name: str) -> None:
    pytest.importorskip("mujoco")
    assert make_task(name).name == name
