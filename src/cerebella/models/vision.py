"""Pictures through the stock vision tower, without its loops over pictures.

Transformers splits the patches of a batch and attends picture by picture, and makes the positions of each one by itself.
Where all pictures have one size, which is the rule in training, one batched product does. Numbers are the same up to
rounding; weights and module names are the stock ones.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

PACKED_ATTENTION = "flash_packed_sdpa"
"""Name of our attention for vision towers. Transformers hands all patches at once to any whose name has `flash` in it."""


def see(brain: Qwen3VLForConditionalGeneration, pixel_values: Tensor, grid: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Image tokens float[N, hidden] and the same for every DeepStack tap.

    Args:
        pixel_values: float[P, 3 * time * patch * patch]. grid: int64[images, 3], in patches.
    """
    visual = brain.model.visual
    sizes = grid.tolist()
    known: dict[str, Any] = {}
    if all(size == sizes[0] for size in sizes):
        side, merge = visual.num_grid_per_side, visual.config.spatial_merge_size
        one = grid[:1]
        indices, weights = get_vision_interpolation_indices_and_weights(
            one,
            num_grid_per_side=side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=merge,
        )
        known = {
            "position_ids": get_vision_position_ids(one, merge).repeat(len(grid), 1),
            "interp_indices": indices.repeat(len(grid), 1),
            "interp_weights": weights.repeat(len(grid), 1),
        }
    largest = max(rows * columns for _, rows, columns in sizes)
    seen = visual(pixel_values.to(visual.dtype), grid_thw=grid, max_seqlen=largest, **known)
    seen = cast(BaseModelOutputWithDeepstackFeatures, seen)
    assert seen.pooler_output is not None
    assert seen.deepstack_features is not None
    return seen.pooler_output, list(seen.deepstack_features)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: Tensor,
    max_length_q: int | Tensor,
    **_: Any,
) -> tuple[Tensor, None]:
    """Scaled-dot-product attention within each of several sequences that lie end to end (an attention of Transformers).

    Args:
        query, key, value: float[1, heads, P, head_dim]. attention_mask: none. cu_seq_lens_q: int32[n + 1], where each
            sequence starts, and P. max_length_q: length of the longest.

    Returns:
        float[1, P, heads, head_dim], and no weights.
    """
    num, total, longest = len(cu_seq_lens_q) - 1, query.shape[2], int(max_length_q)
    if num * longest == total:  # none is longer than the longest, so all are equal
        q, k, v = (x[0].unflatten(1, (num, longest)).transpose(0, 1) for x in (query, key, value))
        seen = F.scaled_dot_product_attention(q, k, v, scale=scaling)
        return seen.transpose(1, 2).flatten(0, 1)[None], None
    lengths = cu_seq_lens_q.diff().tolist()
    parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*part, scale=scaling) for part in parts], dim=2).transpose(
        1, 2
    ), None


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
