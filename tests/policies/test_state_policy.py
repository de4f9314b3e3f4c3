"""A policy on a state vector: alone and in a batch, with prefixes, with a running plan, on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cerebella.envs.dynamic.intercept import Intercept
from cerebella.envs.dynamic.windows import expert_windows
from cerebella.evaluation.suites import EvalConfig, evaluate, needs_pictures
from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.models.state_model import StateModel, state_config
from cerebella.policies.state_policy import StatePolicy
from cerebella.processing.actions import rolled_forward, to_relative
from cerebella.processing.motion import MotionProcessor
from cerebella.processing.statistics import measure_statistics
from cerebella.types import FloatArray, Observation

HORIZON = 16
TASK = Intercept()
ROBOT = TASK.state_embodiment
WINDOWS = expert_windows(TASK, 40, HORIZON, seed=1)
STATES = WINDOWS.observed(with_images=False)


@pytest.fixture(scope="module")
def policy() -> StatePolicy:
    torch.manual_seed(0)
    relative = to_relative(ROBOT, WINDOWS.actions, STATES)
    statistics = measure_statistics(relative, STATES, ROBOT.name, ROBOT.control_mode)
    processor = MotionProcessor(ROBOT, statistics, HORIZON, 32, 2)
    metadata = PolicyMetadata("state", ROBOT, HORIZON, "causal", 8, statistics.hash)
    return StatePolicy(StateModel(state_config(32, 2, HORIZON)), processor, metadata)


@pytest.fixture(scope="module")
def rolling(policy: StatePolicy) -> StatePolicy:
    return StatePolicy(policy.model, policy.processor, policy.metadata, roll_forward=True)


def _observe(index: int) -> Observation:
    return Observation(state=STATES[index], prompt="catch the puck", tick=index, timestamp_s=index / 30)


def _prefix(index: int, length: int) -> FloatArray:
    return WINDOWS.actions[index, :length]


@pytest.mark.parametrize("kind", ["policy", "rolling"])
def test_alone_and_in_a_batch_it_says_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    policy: StatePolicy = request.getfixturevalue(kind)
    observations, lengths = [_observe(i) for i in range(4)], (0, 3, 8, 15)
    prefixes = [_prefix(i, length) for i, length in enumerate(lengths)]
    together = policy.infer_batch(observations, prefixes)
    for i, chunk in enumerate(together):
        np.testing.assert_allclose(chunk.actions, policy.infer(observations[i], prefixes[i]).actions, atol=1e-6)
        assert np.array_equal(chunk.actions[: lengths[i]], prefixes[i])
        assert chunk.actions.shape == (HORIZON, 2)
        assert (chunk.prefix_length, chunk.start_tick) == (lengths[i], i)
    assert not np.array_equal(together[1].actions, together[2].actions)


def test_a_rolled_state_is_where_the_prefix_ends(policy: StatePolicy, rolling: StatePolicy) -> None:
    observation, prefix = _observe(5), _prefix(5, 6) + np.float32(0.01)
    moved = replace(observation, state=rolled_forward(ROBOT, observation.state[None], prefix[-1:])[0])
    assert np.array_equal(moved.state[:2], prefix[-1])
    assert np.array_equal(moved.state[2:], observation.state[2:])
    rows = rolling.infer(observation, prefix).actions[6:]
    other = rolling.infer(observation, prefix[::-1].copy()).actions[6:]
    assert rows.shape == (HORIZON - 6, 2)
    assert np.abs(rows - other).max() > 1e-3, "the end of the prefix decides"
    longer = rolling.infer(observation, np.concatenate([prefix[:1], prefix])).actions[7:]
    assert not np.array_equal(rows[:-1], longer), "it is told how old the scene is"
    free = policy.infer(observation, prefix[:0]).actions
    assert np.array_equal(rolling.infer(observation, prefix[:0]).actions, free)


def test_rolling_forward_needs_a_slot_for_itself(policy: StatePolicy) -> None:
    processor = MotionProcessor(ROBOT, policy.processor.statistics, HORIZON, 24, 2)
    with pytest.raises(ValueError, match=r"roll_forward needs the last state slot \(23\) for itself"):
        StatePolicy(policy.model, processor, policy.metadata, roll_forward=True)


@pytest.mark.parametrize(("use_jacobian", "num_candidates"), [(True, 0), (False, 0), (True, 4)])
def test_a_running_plan_pulls(policy: StatePolicy, use_jacobian: bool, num_candidates: int) -> None:
    assert policy.metadata.supports_guidance
    observation, plan = _observe(7), WINDOWS.actions[7, :12]
    shown = Guidance(plan, 4, execute_horizon=4, use_jacobian=use_jacobian, num_candidates=num_candidates)
    chunk = policy.infer_guided(observation, shown)
    free = policy.infer(observation, plan[:0])
    assert chunk.prefix_length == 0
    near, far = (np.abs(x.actions[:4] - plan[:4]).mean() for x in (chunk, free))
    assert near <= far
    with_another = policy.infer_guided_batch([_observe(8), observation], [replace(shown, num_frozen=2), shown])
    np.testing.assert_allclose(with_another[1].actions, chunk.actions, atol=1e-6)


@pytest.mark.parametrize("kind", ["policy", "rolling"])
def test_bad_input_is_refused(kind: str, request: pytest.FixtureRequest) -> None:
    policy: StatePolicy = request.getfixturevalue(kind)
    with pytest.raises(ValueError, match="action_prefix must be shorter than the horizon 16; got 16 rows"):
        policy.infer(_observe(0), _prefix(0, 16))
    with pytest.raises(ValueError, match=r"action_prefix must be float32\[p, 2\]"):
        policy.infer(_observe(0), np.zeros((3, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="intercept-state: state must be"):
        policy.infer(replace(_observe(0), state=STATES[0, :3]), _prefix(0, 2))


@pytest.mark.parametrize("kind", ["policy", "rolling"])
def test_it_comes_back_from_disk(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    policy: StatePolicy = request.getfixturevalue(kind)
    policy.save(tmp_path / "p")
    loaded = StatePolicy.load(tmp_path / "p")
    assert loaded.roll_forward == policy.roll_forward
    assert loaded.metadata == replace(policy.metadata, policy_id=loaded.metadata.policy_id)
    assert loaded.metadata.policy_id.startswith("p@")
    ours, theirs = (p.infer(_observe(3), _prefix(3, 2)).actions for p in (policy, loaded))
    assert np.array_equal(ours, theirs)
    (tmp_path / "p" / "statistics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"statistics\.json is missing"):
        StatePolicy.load(tmp_path / "p")


def test_a_damaged_directory_is_named(policy: StatePolicy, tmp_path: Path) -> None:
    policy.save(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"hidden_size": 64', '"hidden_size": 128'))
    with pytest.raises(ValueError, match=r"does not fit the model 'state': .*adaln_table is \[6, 64\]"):
        StatePolicy.load(tmp_path)
    (tmp_path / "config.json").write_text(config.replace("cerebella_state", "mibot"))
    with pytest.raises(ValueError, match="model_type is 'mibot'"):
        StatePolicy.load(tmp_path)


def test_its_directory_is_evaluated_like_any_other(policy: StatePolicy, tmp_path: Path) -> None:
    """From the command line's side: scenes as numbers, no picture drawn, and a delay decides how many rows are executed."""
    policy.save(tmp_path / "catcher")
    name = str(tmp_path / "catcher")
    assert not needs_pictures(name)
    result = evaluate(EvalConfig(TASK.name, name, delay=4, episodes=2, num_flow_steps=1), show_progress=False)
    assert result["policy"]["policy_id"].startswith("catcher@")
    assert result["conditions"]["cells"][0]["execute_horizon"] == 6
    assert result["summary"][0]["episodes"] == 2
    with pytest.raises(ValueError, match=r"engine is 'fast', but .* acts from state vectors"):
        evaluate(EvalConfig(TASK.name, name, engine="fast", episodes=2), show_progress=False)
