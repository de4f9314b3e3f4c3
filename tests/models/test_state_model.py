"""The cerebellum without a brain."""

import pytest
import torch

from cerebella.batch import Batch
from cerebella.models.config import ModelConfig
from cerebella.models.state_model import StateModel, state_config
from cerebella.processing.motion import batch_without_scene

CONFIG = state_config(state_dim=32, action_dim=8, horizon=16)
BATCH, HORIZON = 3, 16


def _batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return batch_without_scene(
        state=torch.randn(BATCH, 1, 32, generator=generator),
        action_mask=torch.ones(BATCH, HORIZON, 8),
        actions=torch.randn(BATCH, HORIZON, 8, generator=generator),
    )


@pytest.fixture(scope="module")
def model() -> StateModel:
    torch.manual_seed(0)
    return StateModel(CONFIG).eval()


def test_it_is_as_small_as_it_says(model: StateModel) -> None:
    assert 200_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    assert {name.split(".")[0] for name in model.state_dict()} == {"cerebellum"}


def test_its_context_is_empty(model: StateModel) -> None:
    context = model.encode(_batch())
    assert len(context) == BATCH
    assert [list(key.shape) for key in context.keys] == [[BATCH, 2, 0, 32]] * 3
    assert context.is_valid.shape == (BATCH, 0)
    seating = model.cerebellum.seat(context, HORIZON, torch.zeros(BATCH, dtype=torch.int64))
    assert seating.may_attend.shape == (BATCH, 1, 2 + HORIZON, 2 + HORIZON)
    assert torch.equal(seating.cos[:, 0, 0], torch.ones(BATCH, 32)), "the sink sits at position 0"


@torch.no_grad()
def test_it_sees_the_state_and_keeps_the_prefix(model: StateModel) -> None:
    batch = _batch()
    assert batch.actions is not None
    noise = torch.randn(BATCH, HORIZON, 8, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([0, 3, 8])

    def sample(state: torch.Tensor) -> torch.Tensor:
        return model.sample(model.encode(batch), state, noise, batch.action_mask, batch.actions, lengths)

    sampled, moved = sample(batch.state), sample(batch.state + 0.1)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(sampled[row, :length], batch.actions[row, :length])
        assert bool((sampled[row, length:] != moved[row, length:]).all())


def test_guidance_finds_a_gradient(model: StateModel) -> None:
    batch = _batch()
    assert batch.actions is not None
    noise = torch.zeros(BATCH, HORIZON, 8)
    weights = torch.zeros(BATCH, HORIZON)
    weights[:, :4] = 1
    pulled = model.sample_guided(model.encode(batch), batch.state, noise, batch.action_mask, batch.actions, weights)
    free = model.sample(model.encode(batch), batch.state, noise, batch.action_mask)
    near, far = ((x - batch.actions)[:, :4].abs().mean() for x in (pulled, free))
    assert near < far


def test_its_config_is_read_back_and_checked() -> None:
    assert ModelConfig.from_json(CONFIG.to_json()) == CONFIG
    with pytest.raises(ValueError, match="hidden_size 60 must be head_dim 32 times"):
        state_config(32, 8, 16, hidden_size=60)
    with pytest.raises(ValueError, match="head_dim must be an integer of 1 or more"):
        state_config(32, 8, 16, head_dim=0)
