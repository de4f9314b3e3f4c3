"""A model of a few thousand parameters with the real topology, and inputs for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models.config import ModelConfig
from cerebella.models.context import Context
from cerebella.models.vla import VLA

IMAGE_PAD, VISION_START, VISION_END, TEXT = 62, 60, 61, 7


@pytest.fixture(scope="session")
def make_config() -> Callable[..., ModelConfig]:
    """A config with `num_kv_heads`, `num_layers` and any other field replaced."""

    def make(num_kv_heads: int = 2, **overrides: Any) -> ModelConfig:
        text = {
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": num_kv_heads,
            "head_dim": 32,
            "rope_theta": 5e6,
            "rope_scaling": {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True},
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
        }
        vision = {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 1,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        }
        brain = {
            "text_config": text,
            "vision_config": vision,
            "vision_start_token_id": VISION_START,
            "vision_end_token_id": VISION_END,
            "image_token_id": IMAGE_PAD,
            "video_token_id": 63,
            "tie_word_embeddings": True,
        }
        fields: dict[str, Any] = {
            "name": "test",
            "brain": brain,
            "hidden_size": 64,
            "num_layers": 2,
            "head_dim": 32,
            "num_kv_heads": num_kv_heads,
            "mask_variant": "lambda",
            "mask_window": 2,
            "position_offset": 10,
            "state_dim": 6,
            "action_dim": 5,
            "horizon": 8,
        }
        return ModelConfig(**(fields | overrides))

    return make


@pytest.fixture(scope="session")
def make_model(make_config: Callable[..., ModelConfig]) -> Callable[..., VLA]:
    """A model with fixed random weights; same arguments, same weights."""

    def make(**overrides: Any) -> VLA:
        torch.manual_seed(0)
        return VLA(make_config(**overrides)).eval()

    return make


@pytest.fixture(scope="session")
def make_context() -> Callable[..., Context]:
    """A random context for a config; the last tokens of sample 1 are padding."""

    def make(config: ModelConfig, batch_size: int = 2, num_tokens: int = 7) -> Context:
        generator = torch.Generator().manual_seed(1)
        shape = (batch_size, config.num_kv_heads, num_tokens, config.head_dim)
        is_valid = torch.ones(batch_size, num_tokens, dtype=torch.bool)
        is_valid[1:, -2:] = False
        return Context(
            keys=[torch.randn(shape, generator=generator) for _ in range(config.num_layers)],
            values=[torch.randn(shape, generator=generator) for _ in range(config.num_layers)],
            is_valid=is_valid,
            last_position=is_valid.sum(dim=1) - 1,
        )

    return make


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., dict[str, Tensor]]:
    """Random state, actions and an all-ones action mask for a config."""

    def make(config: ModelConfig, batch_size: int = 2, seed: int = 2) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        actions = (batch_size, config.horizon, config.action_dim)
        return {
            "state": torch.randn(batch_size, 1, config.state_dim, generator=generator),
            "actions": torch.randn(actions, generator=generator),
            "action_mask": torch.ones(actions),
        }

    return make


@pytest.fixture(scope="session")
def make_batch(make_inputs: Callable[..., dict[str, Tensor]]) -> Callable[..., Batch]:
    """One image of `grid` x `grid` patches and some words per sample, right padded to the longest."""

    def make(config: ModelConfig, num_words: tuple[int, ...] = (3, 5), grid: int = 4) -> Batch:
        generator = torch.Generator().manual_seed(3)
        num_image_tokens = (grid // 2) ** 2
        head = [TEXT, VISION_START] + [IMAGE_PAD] * num_image_tokens + [VISION_END]
        rows = [head + [10 + i for i in range(count)] for count in num_words]
        width = max(len(row) for row in rows)
        input_ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        is_real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        inputs = make_inputs(config, len(rows))
        return Batch(
            input_ids=input_ids,
            attention_mask=is_real,
            mm_token_type_ids=(input_ids == IMAGE_PAD).long(),
            pixel_values=torch.randn(len(rows) * grid * grid, 3 * 2 * 8 * 8, generator=generator),
            image_grid_thw=torch.tensor([[1, grid, grid]] * len(rows)),
            state=inputs["state"],
            action_mask=inputs["action_mask"],
            actions=inputs["actions"],
        )

    return make
