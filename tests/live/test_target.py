"""Which environment a run opens for its policy."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from cerebella.envs.workcell.embodiment import workcell_embodiment
from cerebella.interfaces import Environment
from cerebella.live.config import RunConfig
from cerebella.live.target import open_target
from cerebella.policies import HoldPolicy
from cerebella.robots.lerobot_factory import make_lerobot_robot
from cerebella.runtime.clock import WallClock
from cerebella.serving.background import BackgroundServer
from cerebella.serving.openpi import OpenpiDialect


def opened(target: str, policy: str) -> Environment:
    with ExitStack() as stack:
        environment, robot = open_target(RunConfig(target, policy), WallClock(), stack, make_lerobot_robot)
    assert robot is None
    return environment


def test_a_policy_directory_decides_about_control_mode_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    workcell_embodiment("joint", ("left_wrist",)).save(tmp_path / "embodiment.json")
    robot = opened("workcell/insert", str(tmp_path)).embodiment
    assert (robot.control_mode, robot.views) == ("joint", ("base", "left_wrist", "right_wrist"))
    workcell_embodiment("end_effector", ()).save(tmp_path / "embodiment.json")
    robot = opened("workcell/insert", str(tmp_path)).embodiment
    assert (robot.control_mode, robot.views) == ("end_effector", ())


def test_a_server_decides_as_well() -> None:
    pytest.importorskip("mujoco")
    policy = HoldPolicy(workcell_embodiment("joint", ()), horizon=8)
    with BackgroundServer(policy, {OpenpiDialect(): 0}) as server:
        robot = opened("workcell/insert", server.address()).embodiment
    assert (robot.control_mode, robot.views) == ("joint", ())


def test_holding_still_needs_no_pictures() -> None:
    pytest.importorskip("mujoco")
    assert opened("workcell/insert", "hold").embodiment.views == ()


def test_a_policy_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        opened("workcell/insert", str(tmp_path / "nowhere"))


def test_the_expert_of_a_cell_cannot_be_run() -> None:
    with pytest.raises(ValueError, match="cerebella eval workcell/insert --policy expert plays it"):
        opened("workcell/insert", "expert")


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(ValueError, match=r"'workcell/insrt'. Did you mean 'workcell/insert'\?.*or a robot file \(\."):
        opened("workcell/insrt", "hold")
