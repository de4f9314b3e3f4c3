"""Rotary positions of text and pictures, for a whole batch at once.

The same numbers as `Qwen3VLModel.get_rope_index` (a test compares them), which goes through a batch sample by sample and
waits for the device at each one: for the batches of small models that took longer than the network itself.
"""

import torch
from torch import Tensor

from cerebella.batch import BrainInput


def rope_positions(batch: BrainInput, merge_size: int) -> Tensor:
    """Positions on three axes (time, height, width), int64[3, B, L]; 0 on padding, which may be on either side.

    A text token is one further than the one before it. The tokens of a picture lie at their row and column beyond its
    start; behind it the count goes on from its longer side, not from its number of tokens.

    Args:
        merge_size: patches per token along each side (`spatial_merge_size`).
    """
    is_real = batch.attention_mask.bool()
    advance = is_real.long()
    offsets = torch.zeros(3, *advance.shape, dtype=torch.int64, device=advance.device)
    if batch.image_grid_thw is not None:
        is_image = (batch.mm_token_type_ids == 1) & is_real
        sample, column = is_image.nonzero(as_tuple=True)
        frames, rows, columns = (batch.image_grid_thw // batch.image_grid_thw.new_tensor([1, *2 * [merge_size]])).T
        size = frames * rows * columns
        end = size.cumsum(0)
        index = torch.arange(len(sample), device=advance.device)
        picture = torch.searchsorted(end, index, right=True)
        within = index - (end - size)[picture]
        is_last = index + 1 == end[picture]
        advance[sample, column] = torch.where(is_last, torch.maximum(rows, columns)[picture], 0)
        rows, columns = rows[picture], columns[picture]
        offsets[:, sample, column] = torch.stack(
            [within // (rows * columns), within // columns % rows, within % columns]
        )
    start = advance.cumsum(1) - advance
    return (start + offsets) * is_real
