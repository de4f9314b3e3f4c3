"""Evaluations of workcell tasks: policies under an executor, and the expert without one."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")

from cerebella.arms import ControlMode
from cerebella.envs.registry import ALL_ENVIRONMENTS, WORKCELL_ENVIRONMENTS, make_environment
from cerebella.envs.workcell.embodiment import workcell_embodiment
from cerebella.evaluation.result import SCHEMA_PATH, read_result
from cerebella.evaluation.suites import EvalConfig, evaluate, open_policy
from cerebella.interfaces import PolicyMetadata
from cerebella.models.state_model import StateModel, state_config
from cerebella.policies.state_policy import StatePolicy
from cerebella.processing.motion import MotionProcessor
from cerebella.processing.statistics import Statistics

HORIZON = 8


def untrained(directory: Path, control_mode: ControlMode) -> str:
    """A policy on the cell's own numbers, without cameras; it has learnt nothing."""
    torch.manual_seed(0)
    robot = workcell_embodiment(control_mode, ())
    shape = (HORIZON, robot.action_dim)
    spread = np.full(shape, 0.001, dtype=np.float32)
    states = np.zeros(robot.state_dim, dtype=np.float32), np.ones(robot.state_dim, dtype=np.float32)
    statistics = Statistics(robot.name, control_mode, np.zeros(shape, dtype=np.float32), spread, *states)
    metadata = PolicyMetadata("untrained", robot, HORIZON, "causal", 4, statistics.hash)
    model = StateModel(state_config(32, 32, HORIZON))
    StatePolicy(model, MotionProcessor(robot, statistics, HORIZON, 32, 32), metadata).save(directory)
    return str(directory)


def test_the_expert_is_played_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    evaluate(EvalConfig("workcell/insert", "expert", episodes=1, json=file), show_progress=False)
    result = read_result(file)
    jsonschema.validate(result, json.loads(SCHEMA_PATH.read_text()))
    (row,), (episode,) = result["summary"], result["episodes"]
    assert (row["successes"], row["mode"], row["delay"]) == (1, "expert", 0)
    assert result["conditions"]["mode"] == "expert"
    assert result["conditions"]["delay_trace"][0]["values"] == [0]
    assert result["conditions"]["cells"][0]["mode"] == "sync"
    assert row["seconds_per_episode"] == pytest.approx(episode["ticks"] / 30)
    assert row["throughput_per_min"] == pytest.approx(60 / row["seconds_per_episode"])
    assert row["idle_share"] == 0.0
    assert (episode["task"], episode["reason"], episode["seed"]) == ("insert", "seated", 1_000_000)
    assert episode["metrics"]["depth_mm"] > 25.0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"mode": "prefix"}, "tick by tick, without an executor: mode 'prefix' means nothing here"),
        ({"delay": 4}, "delay 4 means nothing here"),
        ({"delay": "burst"}, "delay 'burst' means nothing here"),
        ({"execute_horizon": 8}, "execute_horizon 8"),
        ({"batch": 32}, "batch 32"),
    ],
)
def test_an_expert_without_an_executor_has_none_of_its_settings(setting: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EvalConfig("workcell/insert", "expert", **setting)  # pyright: ignore[reportArgumentType]
    EvalConfig("dynamic/conveyor", "expert", **setting)  # pyright: ignore[reportArgumentType]


def test_what_says_the_same_as_no_executor_is_taken() -> None:
    assert EvalConfig("workcell/insert", "expert", "sync", 0, execute_horizon=1, batch=1).is_direct
    assert not EvalConfig("workcell/insert", "zero").is_direct
    assert not EvalConfig("dynamic/conveyor", "expert").is_direct


@pytest.mark.parametrize("control_mode", ["end_effector", "joint"])
def test_the_policy_decides_how_the_arms_are_commanded(control_mode: ControlMode, tmp_path: Path) -> None:
    name = untrained(tmp_path / "policy", control_mode)
    result = evaluate(EvalConfig("workcell/insert", name, episodes=2, num_flow_steps=1), show_progress=False)
    (cell,), (row,) = result["conditions"]["cells"], result["summary"]
    assert (cell["mode"], cell["delay"], row["episodes"]) == ("prefix", 4, 2)
    assert row["num_requests"] > 0
    assert {episode["reason"] for episode in result["episodes"]} <= {"time", "dropped"}


def test_a_policy_of_another_robot_is_refused() -> None:
    shipped = str(Path(__file__).parents[2] / "policies" / "conveyor-micro")
    with pytest.raises(ValueError, match="made for the name 'conveyor'; this robot has 'workcell'"):
        evaluate(EvalConfig("workcell/insert", shipped, episodes=1), show_progress=False)


def test_every_task_can_be_named_and_none_is_disturbed() -> None:
    for name in ALL_ENVIRONMENTS:
        EvalConfig(name, "expert")
    for name in WORKCELL_ENVIRONMENTS:
        with pytest.raises(ValueError, match=f"{name} has no perturbation"):
            EvalConfig(name, "zero", perturbation=True)


def test_the_expert_is_no_policy_for_an_executor() -> None:
    with pytest.raises(ValueError, match="act tick by tick"):
        open_policy("expert", make_environment("workcell/insert", with_images=False))
