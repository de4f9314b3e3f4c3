"""Batches of several robots as one, so that a model takes a mixture in one step."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from cerebella.batch import Batch


def join(batches: Sequence[Batch], pad_token_id: int) -> Batch:
    """Rows of several processors one below the other, in the given order; one batch comes back as it is.

    Tokens are padded on the right to the longest row. A shorter horizon is padded with rows of 0 whose `action_mask` is 0.
    Pictures follow each other. Where only some batches have an action prefix, the others get one of length 0.

    Args:
        pad_token_id: fills `input_ids` where `attention_mask` is 0.

    Raises:
        ValueError: no batch, state or action widths that differ, or targets in some batches only.
    """
    if not batches:
        raise ValueError("need at least one batch to join; got none")
    if len(batches) == 1:
        return batches[0]
    widths = {(batch.state.shape[-1], batch.action_mask.shape[-1]) for batch in batches}
    if len(widths) > 1:
        raise ValueError(f"batches must have one padded (state, action) width; got {sorted(widths)}")
    actions = [batch.actions for batch in batches if batch.actions is not None]
    if len(actions) not in (0, len(batches)):
        raise ValueError(f"{len(actions)} of {len(batches)} batches have target actions; join needs all or none")
    prefixes = [batch.action_mask * 0 if batch.action_prefix is None else batch.action_prefix for batch in batches]
    lengths = [
        torch.zeros_like(batch.input_ids[:, 0]) if batch.prefix_length is None else batch.prefix_length
        for batch in batches
    ]
    return Batch(
        input_ids=_tokens([batch.input_ids for batch in batches], pad_token_id),
        attention_mask=_tokens([batch.attention_mask for batch in batches], 0),
        mm_token_type_ids=_tokens([batch.mm_token_type_ids for batch in batches], 0),
        pixel_values=_pictures([batch.pixel_values for batch in batches]),
        image_grid_thw=_pictures([batch.image_grid_thw for batch in batches]),
        state=torch.cat([batch.state for batch in batches]),
        action_mask=_rows([batch.action_mask for batch in batches]),
        actions=_rows(actions) if actions else None,
        action_prefix=_rows(prefixes) if any(batch.action_prefix is not None for batch in batches) else None,
        prefix_length=torch.cat(lengths) if any(batch.prefix_length is not None for batch in batches) else None,
    )


def _tokens(rows: Sequence[Tensor], value: int) -> Tensor:
    longest = max(row.shape[1] for row in rows)
    return torch.cat([pad(row, (0, longest - row.shape[1]), value=value) for row in rows])


def _rows(chunks: Sequence[Tensor]) -> Tensor:
    horizon = max(chunk.shape[1] for chunk in chunks)
    return torch.cat([pad(chunk, (0, 0, 0, horizon - chunk.shape[1])) for chunk in chunks])


def _pictures(pictures: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in pictures if tensor is not None]
    return torch.cat(present) if present else None
