"""The echo policy notices whatever gets lost or changed on the way to it."""

from dataclasses import replace

import numpy as np
import pytest

from cerebella.interfaces import Guidance
from cerebella.runtime.instruments.echo import NUM_FINGERPRINTS, EchoPolicy, echo_embodiment, fingerprint
from cerebella.runtime.instruments.tagged import make_embodiment
from cerebella.types import Observation

OBSERVATION = Observation(
    state=np.array([0.25, -0.5, 0.0], dtype=np.float32),
    prompt="pick it",
    tick=7,
    timestamp_s=0.1 + 0.2,
    images={"base": np.arange(12, dtype=np.uint8).reshape(2, 2, 3)},
    tactile={"index": np.zeros((11, 9), dtype=np.float32)},
)
PREFIX = np.array([[0.1, 0.2, 5.0], [0.3, 0.4, 6.0]], dtype=np.float32)


def test_the_prefix_comes_back_and_the_rest_is_marked() -> None:
    chunk = EchoPolicy(6).infer(OBSERVATION, PREFIX)
    assert (chunk.start_tick, chunk.observation_tick, chunk.prefix_length) == (7, 7, 2)
    assert np.array_equal(chunk.actions[:2], PREFIX)
    assert (chunk.actions[2:, :2] == PREFIX[-1, :2]).all()
    assert (chunk.actions[2:, 2] == fingerprint(OBSERVATION, PREFIX)).all()
    held = EchoPolicy(6).infer(OBSERVATION, PREFIX[:0]).actions
    assert (held[:, :2] == OBSERVATION.state[:2]).all()


def test_every_bit_that_a_policy_is_given_counts() -> None:
    touched = np.zeros((11, 9), dtype=np.float32)
    touched[3, 3] = 1e-3
    picture = OBSERVATION.images["base"].copy()
    picture[0, 0, 0] += 1
    others = [
        (replace(OBSERVATION, tick=8), PREFIX),
        (replace(OBSERVATION, timestamp_s=0.3), PREFIX),
        (replace(OBSERVATION, prompt="pick it."), PREFIX),
        (replace(OBSERVATION, state=OBSERVATION.state + np.float32(1e-6)), PREFIX),
        (replace(OBSERVATION, images={"base": picture}), PREFIX),
        (replace(OBSERVATION, images={"ego": OBSERVATION.images["base"]}), PREFIX),
        (replace(OBSERVATION, tactile={"index": touched}), PREFIX),
        (OBSERVATION, PREFIX[:1]),
        (OBSERVATION, PREFIX[:0]),
        (OBSERVATION, np.concatenate([PREFIX, np.zeros((1, 3), dtype=np.float32)])),
    ]
    seen = {fingerprint(OBSERVATION, PREFIX), *(fingerprint(*other) for other in others)}
    assert len(seen) == 1 + len(others)
    assert all(value == np.float32(value) == int(value) < NUM_FINGERPRINTS for value in seen)
    copied = replace(OBSERVATION, state=OBSERVATION.state.copy())
    assert fingerprint(copied, np.asfortranarray(PREFIX)) == fingerprint(OBSERVATION, PREFIX)


def test_guidance_counts_as_well() -> None:
    policy, plan = EchoPolicy(6), np.zeros((4, 3), dtype=np.float32)
    guidances = [
        Guidance(plan, 2, 3),
        Guidance(plan, 1, 3),
        Guidance(plan, 2, 4),
        Guidance(plan, 2, 3, use_jacobian=False),
        Guidance(plan, 2, 3, num_candidates=4),
        Guidance(plan + 1, 2, 3),
    ]
    assert policy.metadata.supports_guidance
    chunks = [policy.infer_guided(OBSERVATION, guidance) for guidance in guidances]
    assert len({float(chunk.actions[0, 2]) for chunk in chunks}) == len(guidances)
    assert all(chunk.prefix_length == 0 for chunk in chunks)


def test_what_it_cannot_carry_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'value' of 'tagged' has the range -1e\+06\.\.1e\+06"):
        EchoPolicy(6, make_embodiment())
    with pytest.raises(ValueError, match="shorter than the horizon 2; got 2 rows"):
        EchoPolicy(2).infer(OBSERVATION, PREFIX)
    with pytest.raises(ValueError, match="echo: actions must be float32"):
        EchoPolicy(6).infer(OBSERVATION, PREFIX[:, :2])
    assert echo_embodiment(num_channels=7).action_dim == 8
