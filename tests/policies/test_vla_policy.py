"""A policy on the readable model and on the engine, and re-planning on a scene that was encoded before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cerebella.models.vla import VLA
from cerebella.policies import VLAPolicy, load_policy
from cerebella.policies.accelerate import accelerate
from cerebella.policies.engine import Engine, EngineConfig
from cerebella.types import FloatArray, Observation

SHIPPED = Path(__file__).parents[2] / "policies" / "conveyor-micro"


@pytest.fixture(scope="module")
def readable() -> VLAPolicy:
    return load_policy(SHIPPED)


@pytest.fixture(scope="module")
def fast(readable: VLAPolicy) -> VLAPolicy:
    return accelerate(readable)


def _observation(policy: VLAPolicy, seed: int, prompt: str = "pick the red part") -> Observation:
    rng = np.random.default_rng(seed)
    robot = policy.metadata.embodiment
    state = np.array([rng.uniform(d.low, d.high) for d in robot.states], dtype=np.float32)
    images = {view: rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for view in robot.views}
    return Observation(state=state, prompt=prompt, tick=seed, timestamp_s=seed / 30, images=images)


def _prefix(policy: VLAPolicy, length: int) -> FloatArray:
    robot = policy.metadata.embodiment
    middle = np.array([(d.low + d.high) / 2 for d in robot.actions], dtype=np.float32)
    rows = np.tile(middle, (length, 1)) + 0.001 * np.arange(length)[:, None]
    return rows.astype(np.float32)


def test_engine_and_readable_model_give_one_chunk(readable: VLAPolicy, fast: VLAPolicy) -> None:
    observations = [_observation(readable, 1), _observation(readable, 2, "take the long green part from the belt")]
    prefixes = [_prefix(readable, 0), _prefix(readable, 4)]
    for ours, theirs in zip(
        fast.infer_batch(observations, prefixes), readable.infer_batch(observations, prefixes), strict=True
    ):
        np.testing.assert_allclose(ours.actions, theirs.actions, atol=1e-5)
        assert ours.policy_id == theirs.policy_id
    assert np.array_equal(fast.infer_batch(observations, prefixes)[1].actions[:4], prefixes[1])


@pytest.mark.parametrize("kind", ["readable", "fast"])
def test_acting_on_a_scene_is_inferring(kind: str, request: pytest.FixtureRequest) -> None:
    policy: VLAPolicy = request.getfixturevalue(kind)
    observation, prefix = _observation(policy, 3), _prefix(policy, 2)
    scene = policy.encode([observation])
    assert scene.ticks == (3,)
    whole, parts = policy.infer(observation, prefix), policy.act(scene, [observation], [prefix])[0]
    assert np.array_equal(whole.actions, parts.actions)
    assert parts.start_tick == parts.observation_tick == 3


@pytest.mark.parametrize("kind", ["readable", "fast"])
def test_replanning_takes_the_fresh_state_and_the_old_pictures(kind: str, request: pytest.FixtureRequest) -> None:
    policy: VLAPolicy = request.getfixturevalue(kind)
    seen = _observation(policy, 4)
    later = replace(seen, state=seen.state + np.float32(0.01), tick=9, timestamp_s=9 / 30)
    scene = policy.encode([seen])
    policy.infer(_observation(policy, 5), _prefix(policy, 0))
    replanned = policy.act(scene, [later], [_prefix(policy, 3)])[0]
    anew = policy.infer(later, _prefix(policy, 3))
    np.testing.assert_allclose(replanned.actions, anew.actions, atol=1e-5)
    assert replanned.start_tick == 9


def test_a_changed_instruction_needs_a_new_scene(readable: VLAPolicy) -> None:
    scene = readable.encode([_observation(readable, 6)])
    with pytest.raises(ValueError, match=r"instructions \['pick the red part'\]; got \['stop'\]: encode again"):
        readable.act(scene, [_observation(readable, 6, "stop")], [_prefix(readable, 0)])


def test_warm_up_makes_every_layout_ready(readable: VLAPolicy) -> None:
    policy = accelerate(readable, EngineConfig(bucket=32))
    assert policy.warm_up(_observation(policy, 7), batch_sizes=(1, 3)) > 0
    assert isinstance(policy.model, Engine)
    assert sorted(layout.batch_size for layout in policy.model._sessions) == [1, 3]


def test_float8_is_calibrated_on_real_requests(readable: VLAPolicy) -> None:
    requests = [(_observation(readable, seed), _prefix(readable, seed % 4)) for seed in range(4)]
    small = accelerate(readable, scheme="fp8", calibration=requests)
    observation, prefix = _observation(readable, 2), _prefix(readable, 0)
    exact, rounded = (policy.infer(observation, prefix).actions for policy in (readable, small))
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, atol=0.15)
    with pytest.raises(ValueError, match="go with the scheme 'fp8' and only with it; got 0, 'fp8'"):
        accelerate(readable, scheme="fp8")
    with pytest.raises(ValueError, match="got 4, 'int8'"):
        accelerate(readable, scheme="int8", calibration=requests)
    with pytest.raises(ValueError, match="only a policy on the readable model can be accelerated; got Engine"):
        accelerate(small)


def test_bfloat16_weights_serve_float32_observations() -> None:
    policy = load_policy(SHIPPED)
    assert isinstance(policy.model, VLA)
    observation, prefix = _observation(policy, 8), _prefix(policy, 0)
    exact = policy.infer(observation, prefix).actions
    policy.model.to(torch.bfloat16)
    for model in (policy.model, Engine(policy.model)):
        rounded = VLAPolicy(model, policy.processor, policy.metadata).infer(observation, prefix).actions
        np.testing.assert_allclose(rounded, exact, atol=0.05)


def test_a_scene_belongs_to_the_policy_that_encoded_it(readable: VLAPolicy, fast: VLAPolicy) -> None:
    observation, prefix = _observation(readable, 9), _prefix(readable, 0)
    for ours, theirs in ((readable, fast), (fast, readable)):
        with pytest.raises(ValueError, match="encoded by another policy or engine"):
            ours.act(theirs.encode([observation]), [observation], [prefix])


def test_numbers_that_are_no_numbers_are_refused(readable: VLAPolicy) -> None:
    assert isinstance(readable.model, VLA)
    for steps in (0, 2.0, "3"):
        with pytest.raises(ValueError, match="num_flow_steps must be an integer of 1 or more"):
            VLAPolicy(readable.model, readable.processor, readable.metadata, steps)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="action_prefix must be float32"):
        readable.infer(_observation(readable, 1), None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"batch_sizes must be a sequence such as \(2,\)"):
        readable.warm_up(_observation(readable, 1), 2)  # pyright: ignore[reportArgumentType]
