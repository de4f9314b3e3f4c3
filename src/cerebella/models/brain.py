"""The brain: a stock Qwen3-VL that reads views and an instruction once and leaves its K/V cache as `Context`.

`encode` is what acting needs. `read` goes through the same layers for training and for text: it can append vectors that
are no tokens (queries), and it gives the stream of the last layer.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.cache_utils import DynamicCache, DynamicLayer

from cerebella.batch import NOT_COUNTED, BrainInput, VisionLanguageBatch
from cerebella.models.config import ModelConfig
from cerebella.models.context import Context
from cerebella.models.packing import pack
from cerebella.models.positions import rope_positions
from cerebella.models.vision import PACKED_ATTENTION, see


@dataclass(frozen=True, eq=False)
class Reading:
    """What the brain made of L tokens and Q appended vectors.

    Args:
        stream: float[B, L + Q, hidden], after the last norm. attention_mask: int64[B, L + Q], 1 where not padding.
        last_position: int64[B], the largest rotary position of each sample.
        cache: K/V of every layer, for `read_on`; None if it was not kept.
    """

    stream: Tensor
    attention_mask: Tensor
    last_position: Tensor
    cache: DynamicCache | None


def build_brain(config: ModelConfig) -> Qwen3VLForConditionalGeneration:
    """A freshly initialised brain with scaled-dot-product attention, on the default device."""
    brain_config = Qwen3VLConfig(**config.brain)
    brain_config._attn_implementation = "sdpa"
    brain = Qwen3VLForConditionalGeneration(brain_config)
    brain.model.visual.config._attn_implementation = PACKED_ATTENTION
    return brain


def position_ids(brain: Qwen3VLForConditionalGeneration, batch: BrainInput) -> Tensor:
    """Rotary positions on three axes (time, height, width), int64[3, B, L]; 0 on padding."""
    return rope_positions(batch, brain.model.visual.config.spatial_merge_size)


def encode(brain: Qwen3VLForConditionalGeneration, batch: BrainInput, num_layers: int) -> Context:
    """Run the brain without its word head and keep the K/V of its last `num_layers` layers.

    Gradients flow through the cache into the brain; wrap in `torch.no_grad` or use `Context.detach` to stop them.

    Raises:
        ValueError: gradient checkpointing is on for the language model (it would drop the cache).
    """
    reading = read(brain, batch, keep_cache=True)
    if reading.cache is None:
        raise ValueError("the brain kept no K/V cache: gradient checkpointing must be off for its language model")
    layers = cast(list[DynamicLayer], reading.cache.layers)[-num_layers:]
    return Context(
        keys=[cast(Tensor, layer.keys) for layer in layers],
        values=[cast(Tensor, layer.values) for layer in layers],
        is_valid=batch.attention_mask.bool(),
        last_position=reading.last_position,
    )


def read(
    brain: Qwen3VLForConditionalGeneration,
    batch: BrainInput,
    queries: Tensor | None = None,
    keep_cache: bool = False,
) -> Reading:
    """Tokens, then vectors, in one call of the language model.

    The vectors follow the padding in the sequence, but not in position: they count on from the last real token of their
    sample, see the real tokens and the vectors before them, and never the padding. One call, and not a cache with a
    second call, because gradients through a cache do not survive sharded parameters.

    Args:
        queries: float[B, Q, hidden], appended; None for none.
        keep_cache: for `read_on`. Needs gradient checkpointing to be off for the language model.
    """
    embeddings, is_image, deepstack = _embed(brain, batch)
    positions, attention_mask = position_ids(brain, batch), batch.attention_mask
    last_position = torch.amax(positions, dim=(0, 2))
    if queries is not None:
        embeddings = torch.cat([embeddings, queries.to(embeddings.dtype)], dim=1)
        positions, attention_mask, last_position = _appended(positions, attention_mask, last_position, queries.shape[1])
        if is_image is not None:
            is_image = F.pad(is_image, (0, queries.shape[1]))
    output = brain.model.language_model(
        inputs_embeds=cast(torch.FloatTensor, embeddings),
        attention_mask=attention_mask,
        position_ids=cast(torch.LongTensor, positions),
        visual_pos_masks=is_image,
        deepstack_visual_embeds=deepstack,
        use_cache=keep_cache,
    )
    cache = cast(DynamicCache | None, output.past_key_values) if keep_cache else None
    return Reading(output.last_hidden_state, attention_mask, last_position, cache)


def read_on(brain: Qwen3VLForConditionalGeneration, reading: Reading, vectors: Tensor) -> Reading:
    """Continue a reading that kept its cache, which grows in place; the stream is that of the new vectors only.

    Args:
        vectors: float[B, Q, hidden], seen causally behind everything before.
    """
    assert reading.cache is not None, "read with keep_cache=True"
    empty = reading.last_position.new_zeros(3, len(vectors), 0)
    positions, attention_mask, last_position = _appended(
        empty, reading.attention_mask, reading.last_position, vectors.shape[1]
    )
    output = brain.model.language_model(
        inputs_embeds=cast(torch.FloatTensor, vectors),
        attention_mask=attention_mask,
        position_ids=cast(torch.LongTensor, positions),
        past_key_values=reading.cache,
        use_cache=True,
    )
    return Reading(output.last_hidden_state, attention_mask, last_position, reading.cache)


def word_losses(brain: Qwen3VLForConditionalGeneration, batch: VisionLanguageBatch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of every counted token: (float32[K], the sample of each, int64[K]), in reading order.

    Conversations share rows (`packing`). The word head runs on the K positions before a counted token only; logits of a
    whole batch would not fit in memory for a vocabulary of 150 000.
    """
    embeddings, is_image, deepstack = _embed(brain, batch)
    packing = pack(batch.attention_mask)
    if is_image is not None and deepstack is not None:
        number = is_image.flatten().cumsum(0).view(is_image.shape) - 1
        is_image = packing.rows(is_image) & packing.is_real
        deepstack = [features[packing.rows(number)[is_image]] for features in deepstack]
    output = brain.model.language_model(
        inputs_embeds=cast(torch.FloatTensor, packing.rows(embeddings)),
        attention_mask=packing.mask(embeddings.dtype),
        position_ids=cast(torch.LongTensor, packing.rows(position_ids(brain, batch).movedim(0, -1)).movedim(-1, 0)),
        visual_pos_masks=is_image,
        deepstack_visual_embeds=deepstack,
        use_cache=False,
    )
    is_counted = batch.labels[:, 1:] != NOT_COUNTED
    sample, position = is_counted.nonzero(as_tuple=True)
    stream = output.last_hidden_state.flatten(0, 1)[packing.place[sample, position]]
    logits = brain.lm_head(stream).float()
    return F.cross_entropy(logits, batch.labels[sample, position + 1], reduction="none"), sample


def _embed(
    brain: Qwen3VLForConditionalGeneration, batch: BrainInput
) -> tuple[Tensor, Tensor | None, list[Tensor] | None]:
    """Token embeddings with the pictures in their places, where those are bool[B, L], and the DeepStack features."""
    embeddings = brain.get_input_embeddings()(batch.input_ids)
    if batch.pixel_values is None:
        return embeddings, None, None
    assert batch.image_grid_thw is not None, "pictures come with their sizes"
    features, deepstack = see(brain, batch.pixel_values, batch.image_grid_thw)
    features = features.to(embeddings.dtype)
    is_image = batch.mm_token_type_ids == 1
    if (num_tokens := int(is_image.sum())) != len(features):
        raise ValueError(f"the pictures give {len(features)} image tokens, but the text has room for {num_tokens}")
    return embeddings.masked_scatter(is_image[..., None], features), is_image, deepstack


def _appended(
    positions: Tensor, attention_mask: Tensor, last_position: Tensor, num: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions int64[3, B, .], mask and last position with `num` more entries per sample, all real."""
    more = last_position[:, None] + 1 + torch.arange(num, device=last_position.device)
    return (
        torch.cat([positions, more.expand(3, -1, -1)], dim=2),
        F.pad(attention_mask, (0, num), value=1),
        last_position + num,
    )
