"""Evaluations of workcell tasks: policies under an executor, and the expert without one."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")

from cerebella.arms import ControlMode
from cerebella.envs.registry import ALL_ENVIRONMENTS, WORKCELL_ENVIRONMENTS, make_environment
from cerebella.envs.workcell import randomisation
from cerebella.envs.workcell.embodiment import workcell_embodiment
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.insert.task import Insert
from cerebella.evaluation.result import SCHEMA_PATH, read_result, write_result
from cerebella.evaluation.rollout import Episode
from cerebella.evaluation.suites import RANDOMISATIONS, EvalConfig, evaluate, open_policy
from cerebella.evaluation.workcell_expert import expert_cell, play_expert
from cerebella.interfaces import PolicyMetadata
from cerebella.models.config import preset
from cerebella.models.state_model import StateModel, state_config
from cerebella.models.vla import VLA
from cerebella.policies.directory import StageRecord, save_policy
from cerebella.policies.state_policy import StatePolicy
from cerebella.processing.images import ImageConfig
from cerebella.processing.motion import MotionProcessor
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import Statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.types import ImageArray
from tests.recipes.short_cube import ShortCube

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


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of one episode of the expert."""
    file = tmp_path_factory.mktemp("expert") / "result.json"
    evaluate(EvalConfig("workcell/insert", "expert", episodes=1, json=file), show_progress=False)
    return read_result(file)


def test_the_expert_is_played_as_it_is(result: dict[str, Any]) -> None:
    jsonschema.validate(result, json.loads(SCHEMA_PATH.read_text()))
    (row,), (episode,) = result["summary"], result["episodes"]
    assert (row["successes"], row["mode"], row["delay"]) == (1, "expert", 0)
    assert result["conditions"]["mode"] == "expert"
    assert result["conditions"]["delay_trace"][0]["values"] == [0]
    (cell,) = result["conditions"]["cells"]
    assert (cell["name"], cell["mode"]) == ("expert/0 ticks", "expert")
    assert (result["conditions"]["randomisation"], result["conditions"]["render_px"]) == ("none", None)
    assert row["seconds_per_episode"] == pytest.approx(episode["ticks"] / 30)
    assert row["throughput_per_min"] == pytest.approx(60 / row["seconds_per_episode"])
    assert row["idle_share"] == 0.0
    assert (episode["task"], episode["reason"], episode["seed"]) == ("insert", "seated", 1_000_000)
    assert episode["metrics"]["depth_mm"] > 25.0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"mode": "prefix"}, "tick by tick, without an executor: mode 'prefix' means nothing here"),
        ({"mode": "sync"}, "mode 'sync' means nothing here"),
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
    assert EvalConfig("workcell/insert", "expert", delay=0, execute_horizon=1, batch=1).is_direct
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


def test_a_result_from_before_the_expert_had_a_mode_of_its_own_is_read(result: dict[str, Any], tmp_path: Path) -> None:
    """It said `sync` for the cell, and knew neither randomisation nor the size of pictures."""
    old = result | {"conditions": dict(result["conditions"])}
    old["conditions"]["cells"] = [result["conditions"]["cells"][0] | {"mode": "sync"}]
    del old["conditions"]["randomisation"], old["conditions"]["render_px"]
    jsonschema.validate(json.loads(json.dumps(old)), json.loads(SCHEMA_PATH.read_text()))
    assert read_result(write_result(tmp_path / "old.json", old))["conditions"]["cells"][0]["mode"] == "sync"


def test_an_expert_that_only_stops_has_not_solved_it() -> None:
    environment = WorkcellEnvironment(ShortCube(), with_images=False)
    seen: list[Episode] = []
    solved, given_up = play_expert(environment, [0, 3], seen.append)
    assert seen == [solved, given_up]
    assert (solved.status.is_success, solved.status.reason, solved.requests) == (True, "lifted", ())
    assert solved.log.num_ticks == solved.metrics["ticks"]
    assert (given_up.status.is_success, given_up.status.reason) == (False, "the expert is at its end")
    assert expert_cell(environment).name == "expert/0 ticks"


def test_randomisation_reaches_the_cell_and_the_result(result: dict[str, Any]) -> None:
    """The same peg, at another friction."""
    config = EvalConfig("workcell/insert", "expert", episodes=1, randomisation="wide")
    wide = evaluate(config, show_progress=False)
    assert wide["conditions"]["randomisation"] == "wide"
    (plain_row,), (wide_row,) = result["episodes"], wide["episodes"]
    assert plain_row["prompt"] == wide_row["prompt"]
    assert plain_row["metrics"]["depth_mm"] != wide_row["metrics"]["depth_mm"]


def test_the_names_of_randomisations_are_those_of_the_workcell() -> None:
    assert tuple(randomisation.RANDOMISATIONS) == RANDOMISATIONS
    with pytest.raises(ValueError, match="unknown randomisation 'wild'; known: none, mild, wide"):
        EvalConfig("workcell/insert", "zero", randomisation="wild")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="dynamic/conveyor has no randomisation 'mild'; only the workcell's"):
        EvalConfig("dynamic/conveyor", "zero", randomisation="mild")


def seeing(directory: Path) -> str:
    """A policy on the cell's pictures; it has learnt nothing."""
    torch.manual_seed(0)
    robot = workcell_embodiment("end_effector", ("base", "left_wrist", "right_wrist"))
    shape = (HORIZON, robot.action_dim)
    spread = np.full(shape, 0.001, dtype=np.float32)
    states = np.zeros(robot.state_dim, dtype=np.float32), np.ones(robot.state_dim, dtype=np.float32)
    statistics = Statistics(robot.name, robot.control_mode, np.zeros(shape, dtype=np.float32), spread, *states)
    tokenizer = train_tokenizer([robot_prompt(robot.views, "insert it")], vocab_size=1024)
    config = preset("micro", horizon=HORIZON)
    processor = Processor(robot, statistics, tokenizer, ImageConfig(8), HORIZON, 32, 32)
    save_policy(directory, VLA(config), processor, [StageRecord("pretrain", 1, "band", 4, "0" * 12)], {})
    return str(directory)


def test_pictures_are_as_large_as_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = seeing(tmp_path / "policy")
    shapes: list[tuple[int, ...]] = []
    draw = WorkcellEnvironment.draw

    def watched(environment: WorkcellEnvironment[Any]) -> dict[str, ImageArray]:
        found = draw(environment)
        shapes.extend(picture.shape for picture in found.values())
        return found

    monkeypatch.setattr(WorkcellEnvironment, "draw", watched)
    monkeypatch.setattr(Insert, "max_ticks", 3)
    for given, drawn in ((48, 48), (None, 224)):
        shapes.clear()
        config = EvalConfig("workcell/insert", name, "sync", 0, episodes=1, num_flow_steps=1, render_px=given)
        result = evaluate(config, show_progress=False)
        assert set(shapes) == {(drawn, drawn, 3)}
        assert result["conditions"]["render_px"] == drawn
        jsonschema.validate(json.loads(json.dumps(result)), json.loads(SCHEMA_PATH.read_text()))


def test_a_size_of_pictures_needs_cameras_and_eyes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dynamic/conveyor has pictures of one size \(render_px is 96\)"):
        EvalConfig("dynamic/conveyor", "a-directory", render_px=96)
    for policy in ("expert", "zero"):
        with pytest.raises(ValueError, match=f"the policy '{policy}' looks at no pictures"):
            EvalConfig("workcell/insert", policy, render_px=96)
    for size in (14, 97):
        with pytest.raises(ValueError, match=f"even number of pixels, 16 or more; got {size}"):
            EvalConfig("workcell/insert", "a-directory", render_px=size)
    blind = untrained(tmp_path / "policy", "joint")
    with pytest.raises(ValueError, match="looks at no pictures"):
        evaluate(EvalConfig("workcell/insert", blind, episodes=1, render_px=96), show_progress=False)
