"""Guided inference of a whole policy: raw units in, absolute targets out, plans in the frame of the new observation."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from cerebella.arms import Arm, EndEffector, Gripper, Limits, arm_embodiment
from cerebella.geometry import so3_exp
from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.models.config import preset
from cerebella.models.guidance import guidance_weights
from cerebella.models.vla import VLA
from cerebella.policies import VLAPolicy, load_policy
from cerebella.policies.accelerate import accelerate
from cerebella.policies.shown_plan import initial_noise
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import Statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.types import FloatArray, Observation

SHIPPED = Path(__file__).parents[2] / "policies" / "conveyor-micro"
HORIZON, MOTION = 16, (3.0, 30.0, 300.0)


@pytest.fixture(scope="module")
def conveyor() -> VLAPolicy:
    return load_policy(SHIPPED)


@pytest.fixture(scope="module")
def arm_policy() -> VLAPolicy:
    """A micro policy with random weights for an arm whose pose is relative to the measured one."""
    reach = Limits(-2, 2, *MOTION)
    arm = Arm(
        "right",
        "base",
        (Limits(-7, 7, *MOTION),) * 6,
        EndEffector((reach, reach, reach), Limits(-7, 7, *MOTION)),
        Gripper("1", Limits(0, 1, *MOTION), "high"),
    )
    robot = arm_embodiment("robot", "end_effector", [arm], ("base",), 30, 30, hold="last", relative=True)
    shape = (HORIZON, robot.action_dim)
    statistics = Statistics(
        robot_type=robot.name,
        control_mode=robot.control_mode,
        action_mean=np.zeros(shape, dtype=np.float32),
        action_std=np.full(shape, 0.1, dtype=np.float32),
        state_mean=np.zeros(robot.state_dim, dtype=np.float32),
        state_std=np.ones(robot.state_dim, dtype=np.float32),
    )
    config = preset("micro", horizon=HORIZON)
    tokenizer = train_tokenizer([robot_prompt(["base"], "fold it")], vocab_size=1024)
    processor = Processor(robot, statistics, tokenizer, ImageConfig(8), HORIZON, config.state_dim, config.action_dim)
    torch.manual_seed(0)
    metadata = PolicyMetadata("arm", robot, HORIZON, config.mask_variant, 0, statistics.hash)
    return VLAPolicy(VLA(config), processor, metadata)


def observe(policy: VLAPolicy, seed: int) -> Observation:
    rng = np.random.default_rng(seed)
    robot = policy.metadata.embodiment
    state = np.array([rng.uniform(0.4 * d.low, 0.4 * d.high) for d in robot.states], dtype=np.float32)
    images = {view: rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for view in robot.views}
    return Observation(state=state, prompt="fold it", tick=seed, timestamp_s=seed / 30, images=images)


def plan_near(policy: VLAPolicy, observation: Observation, num_rows: int) -> FloatArray:
    """A smooth way that starts where the robot is, absolute."""
    start = policy.metadata.embodiment.reference_of(observation.state[None])[0]
    return (start + 0.02 * np.arange(num_rows)[:, None]).astype(np.float32)


def test_the_plan_pulls_and_the_gradient_flows(conveyor: VLAPolicy) -> None:
    observation = observe(conveyor, 1)
    plan = plan_near(conveyor, observation, 12)
    free = conveyor.infer(observation, plan[:0]).actions
    guided, identity, none = (
        conveyor.infer_guided(observation, guidance).actions
        for guidance in (
            Guidance(plan, 4, 4),
            Guidance(plan, 4, 4, use_jacobian=False),
            Guidance(plan, 0, HORIZON),
        )
    )
    assert np.array_equal(none, free), "no weight, no pull: the plain sampler, bit for bit"
    assert np.abs(guided - identity).max() > 1e-3, "with and without the Jacobian are two methods"
    for pulled in (guided, identity):
        before, after = (np.abs(rows[:4, :2] - plan[:4, :2]).mean() for rows in (free, pulled))
        assert after < 0.5 * before


def test_a_guided_chunk_is_a_soft_continuation(conveyor: VLAPolicy) -> None:
    observation = observe(conveyor, 2)
    plan = plan_near(conveyor, observation, 16)
    chunk = conveyor.infer_guided(observation, Guidance(plan, 4, 4))
    assert (chunk.start_tick, chunk.observation_tick, chunk.prefix_length) == (2, 2, 0)
    assert chunk.actions.shape == plan.shape
    assert chunk.policy_id == conveyor.metadata.policy_id
    again = conveyor.infer_guided(observation, Guidance(plan, 4, 4))
    assert np.array_equal(chunk.actions, again.actions)
    conveyor.infer(observation, plan[:3])
    with torch.inference_mode():
        inside = conveyor.infer_guided(observation, Guidance(plan, 4, 4))
    assert np.array_equal(chunk.actions, inside.actions), "whatever mode the caller is in"


def test_a_batch_of_different_guidances_equals_one_by_one(conveyor: VLAPolicy) -> None:
    observations = [observe(conveyor, seed) for seed in (3, 4, 5)]
    plans = [plan_near(conveyor, observation, rows) for observation, rows in zip(observations, (16, 9, 1), strict=True)]
    guidances = [Guidance(plans[0], 5, 5), Guidance(plans[1], 2, 8, use_jacobian=False), Guidance(plans[2], 0, 1)]
    together = conveyor.infer_guided_batch(observations, guidances)
    for observation, guidance, chunk in zip(observations, guidances, together, strict=True):
        alone = conveyor.infer_guided(observation, guidance).actions
        np.testing.assert_allclose(chunk.actions, alone, atol=2e-5)
        assert chunk.start_tick == observation.tick


def test_of_several_chunks_the_nearest_to_the_plan_is_taken(conveyor: VLAPolicy) -> None:
    """The first one is what the policy answers without a plan; each further one can only come nearer."""
    observation = observe(conveyor, 13)
    plan = plan_near(conveyor, observation, 16)
    free = conveyor.infer(observation, plan[:0]).actions
    one, many, identity = (
        conveyor.infer_guided(observation, Guidance(plan, 4, 4, *rest)) for rest in ((True, 1), (True, 16), (False, 16))
    )
    assert np.array_equal(one.actions, free)
    assert np.array_equal(many.actions, identity.actions), "no gradient takes part"
    assert many.prefix_length == 0

    def distance(rows: FloatArray) -> float:
        encoded = conveyor.processor.encode_plans([observation] * 2, [rows, plan])
        weights = guidance_weights(torch.tensor([4]), torch.tensor([4]), torch.tensor([16]), HORIZON)[0]
        used = [d.slot for d in conveyor.metadata.embodiment.actions]
        return float((weights * (encoded[0] - encoded[1])[:, used].norm(dim=-1)).sum())

    distances = [
        distance(conveyor.infer_guided(observation, Guidance(plan, 4, 4, num_candidates=n)).actions)
        for n in (1, 2, 4, 8, 16)
    ]
    assert all(after <= before + 1e-4 for before, after in pairwise(distances))
    assert distances[-1] < distances[0]
    undecided = conveyor.infer_guided(observation, Guidance(plan, 0, HORIZON, num_candidates=16))
    np.testing.assert_allclose(undecided.actions, free, atol=2e-5, err_msg="no weight: the first")


def test_pulled_and_chosen_requests_share_a_batch(conveyor: VLAPolicy) -> None:
    observations = [observe(conveyor, seed) for seed in range(20, 25)]
    plans = [plan_near(conveyor, observation, 12) for observation in observations]
    kinds = [(True, 0), (True, 40), (False, 0), (True, 40), (True, 3)]
    guidances = [Guidance(plan, 3, 5, *kind) for plan, kind in zip(plans, kinds, strict=True)]
    together = conveyor.infer_guided_batch(observations, guidances)
    for observation, guidance, chunk in zip(observations, guidances, together, strict=True):
        np.testing.assert_allclose(chunk.actions, conveyor.infer_guided(observation, guidance).actions, atol=2e-5)


def test_the_first_draw_of_noise_is_the_same_for_any_number(conveyor: VLAPolicy) -> None:
    observation = observe(conveyor, 14)
    draws = initial_noise(observation, HORIZON, 32, 5)
    assert torch.equal(draws[:1], initial_noise(observation, HORIZON, 32))
    assert torch.equal(draws[:3], initial_noise(observation, HORIZON, 32, 3))
    assert len({row.sum().item() for row in draws}) == 5
    assert not torch.equal(draws, initial_noise(observe(conveyor, 15), HORIZON, 32, 5))


def test_a_plan_means_the_same_targets_in_every_frame(arm_policy: VLAPolicy) -> None:
    """M-11 for plans: seen from another pose the numbers differ, decoded the targets are the same."""
    processor, robot = arm_policy.processor, arm_policy.metadata.embodiment
    old, new = observe(arm_policy, 6), observe(arm_policy, 7)
    plan = plan_near(arm_policy, old, HORIZON)
    first, second = processor.encode_plans([old, new], [plan, plan])
    assert (first - second).abs().max() > 1
    rotation = [robot.action_index(name) for name in robot.poses[0].rotation]
    position = [robot.action_index(name) for name in robot.poses[0].position]
    for encoded, observation in ((first, old), (second, new)):
        decoded = processor.decode(encoded[None], observation.state[None])[0]
        np.testing.assert_allclose(decoded[:, position], plan[:, position], atol=1e-5)
        np.testing.assert_allclose(so3_exp(decoded[:, rotation]), so3_exp(plan[:, rotation]), atol=1e-5)


def test_guidance_lives_in_the_frame_of_the_new_observation(arm_policy: VLAPolicy) -> None:
    """Turn and move robot and plan together: the relative chunk stays what it was, the absolute one moves along."""
    assert isinstance(arm_policy.model, VLA)
    processor = arm_policy.processor
    observations = [observe(arm_policy, seed) for seed in (8, 9)]
    observations[1] = replace(observations[1], images=observations[0].images)
    relative = 0.05 * torch.randn(1, HORIZON, 32, generator=torch.Generator().manual_seed(0))
    plans = [processor.decode(relative, observation.state[None])[0] for observation in observations]
    first, second = processor.encode_plans(observations, plans)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4)
    assert np.abs(plans[0] - plans[1]).max() > 0.1
    chunks = arm_policy.infer_guided_batch(observations, [Guidance(plan, HORIZON, 1) for plan in plans])
    for chunk, plan, observation in zip(chunks, plans, observations, strict=True):
        free = arm_policy.infer(observation, plan[:0]).actions
        assert np.abs(chunk.actions[:, :3] - plan[:, :3]).mean() < 0.5 * np.abs(free[:, :3] - plan[:, :3]).mean()


def test_beta_is_a_setting_of_the_policy(conveyor: VLAPolicy) -> None:
    assert isinstance(conveyor.model, VLA)
    weak = VLAPolicy(conveyor.model, conveyor.processor, conveyor.metadata, guidance_beta=0.5)
    assert load_policy(SHIPPED, guidance_beta=0.5).guidance_beta == 0.5
    observation = observe(conveyor, 10)
    plan = plan_near(conveyor, observation, 16)
    free = conveyor.infer(observation, plan[:0]).actions
    far, near = (
        np.abs(policy.infer_guided(observation, Guidance(plan, 4, 4)).actions - free)[:4].mean()
        for policy in (conveyor, weak)
    )
    assert 0 < near < far
    with pytest.raises(ValueError, match=r"guidance_beta must be above 0; got -1"):
        VLAPolicy(conveyor.model, conveyor.processor, conveyor.metadata, guidance_beta=-1)


def test_only_the_readable_model_supports_guidance(conveyor: VLAPolicy) -> None:
    fast = accelerate(conveyor)
    assert conveyor.metadata.supports_guidance
    assert not fast.metadata.supports_guidance
    assert replace(fast.metadata, supports_guidance=True) == conveyor.metadata
    observation = observe(conveyor, 11)
    guidance = Guidance(plan_near(conveyor, observation, 8), 2, 4)
    with pytest.raises(ValueError, match='Engine does not keep: load the policy with engine="readable"'):
        fast.infer_guided(observation, guidance)


def test_impossible_plans_are_named(conveyor: VLAPolicy) -> None:
    observation = observe(conveyor, 12)
    plan = plan_near(conveyor, observation, 17)
    with pytest.raises(ValueError, match="plan must have at most 16 rows \\(the horizon\\); got 17"):
        conveyor.infer_guided(observation, Guidance(plan, 2, 4))
    with pytest.raises(ValueError, match=r"execute_horizon must lie in 1\.\.16 \(rows\); got \[17\]"):
        conveyor.infer_guided(observation, Guidance(plan[:8], 2, 17))
    with pytest.raises(ValueError, match=r"plan must be float32\[p, 3\]"):
        conveyor.infer_guided(observation, Guidance(plan[:8, :2], 2, 4))
    with pytest.raises(ValueError, match="plan must be finite"):
        conveyor.infer_guided(observation, Guidance(np.full_like(plan[:8], np.inf), 2, 4))
    with pytest.raises(ValueError, match="one plan per observation; got 2 observations, 1 plans"):
        conveyor.infer_guided_batch([observation, observation], [Guidance(plan[:8], 2, 4)])
