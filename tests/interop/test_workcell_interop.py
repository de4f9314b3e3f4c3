"""Demonstrations of the workcell in LeRobot: numbers, what was sent, times, instructions and pictures.

Needs an interpreter with `lerobot` 0.4.4 in the environment variable CEREBELLA_LEROBOT_PYTHON, and MuJoCo here.
"""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.data.lerobot_store import LeRobotStore
from cerebella.envs.workcell.tasks import make_task
from cerebella.recipes.workcell_attempt import GenerationSettings
from cerebella.recipes.workcell_data import generate, read_attempts

from .test_lerobot_interop import PEER, check_same, peer

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not PEER, reason="CEREBELLA_LEROBOT_PYTHON names no interpreter with lerobot"),
]


def test_lerobot_opens_demonstrations(tmp_path: Path) -> None:
    directory = tmp_path / "lego_2"
    generate(make_task("workcell/lego_2"), directory, 2, GenerationSettings(render_px=96, disturb_m=0.01), 2)
    peer("read", str(directory), str(tmp_path / "read.npz"))
    store, read = LeRobotStore(directory), np.load(tmp_path / "read.npz")
    check_same(store, read)  # state, action, all pictures, times, tasks
    sent = np.concatenate([store.columns(episode, ["sent"])["sent"] for episode in range(2)])
    np.testing.assert_array_equal(read["sent"], sent)
    assert np.abs(sent - read["action"][:, 0]).max() > 0.01
    assert sorted(set(read["task"].tolist())) == sorted({a.prompt for a in read_attempts(directory) if a.is_kept})
    picture = read["observation.images.base"][0]
    assert picture.shape == (96, 96, 3)
    assert picture.std() > 20.0  # and something is in it
