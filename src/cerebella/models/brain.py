"""The brain: a stock Qwen3-VL that reads views and an instruction once and leaves its K/V cache as `Context`."""

from typing import cast

import torch
from torch import Tensor
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from cerebella.batch import Batch
from cerebella.models.config import ModelConfig
from cerebella.models.context import Context


def build_brain(config: ModelConfig) -> Qwen3VLForConditionalGeneration:
    """A freshly initialised brain with scaled-dot-product attention, on the default device."""
    brain_config = Qwen3VLConfig(**config.brain)
    brain_config._attn_implementation = "sdpa"
    return Qwen3VLForConditionalGeneration(brain_config)


def position_ids(brain: Qwen3VLForConditionalGeneration, batch: Batch) -> Tensor:
    """Rotary positions on three axes (time, height, width), int64[3, B, L]; 0 on padding."""
    positions, _ = brain.model.get_rope_index(
        cast(torch.LongTensor, batch.input_ids),
        mm_token_type_ids=cast(torch.IntTensor, batch.mm_token_type_ids),
        image_grid_thw=cast(torch.LongTensor | None, batch.image_grid_thw),
        attention_mask=batch.attention_mask,
    )
    return positions


def encode(brain: Qwen3VLForConditionalGeneration, batch: Batch, num_layers: int) -> Context:
    """Run the brain without its word head and keep the K/V of its last `num_layers` layers.

    Gradients flow through the cache into the brain; wrap in `torch.no_grad` or use `Context.detach` to stop them.

    Raises:
        ValueError: gradient checkpointing is on for the language model (it would drop the cache).
    """
    positions = position_ids(brain, batch)
    output = brain.model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=positions,
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        mm_token_type_ids=batch.mm_token_type_ids,
        use_cache=True,
    )
    if output.past_key_values is None:
        raise ValueError("the brain kept no K/V cache: gradient checkpointing must be off for its language model")
    layers = output.past_key_values.layers[-num_layers:]
    return Context(
        keys=[layer.keys for layer in layers],
        values=[layer.values for layer in layers],
        is_valid=batch.attention_mask.bool(),
        last_position=torch.amax(positions, dim=(0, 2)),
    )
