"""Who may look at whom among the cerebellum's tokens, and where they sit: pure functions, one per question.

Drawn for p = 3 clean prefix rows `P`, noisy rows `n`, H = 8. Rows look at columns; every row also sees the whole
context, the sink and the state; the sink sees itself, the state sees sink and itself; neither ever sees an action.

            causal            band, w = 2        lambda, w = 2      full
      P 0   x . . . . . . .   x . . . . . . .   x . . . . . . .   x x x . . . . .
      P 1   x x . . . . . .   x x . . . . . .   x x . . . . . .   x x x . . . . .
      P 2   x x x . . . . .   x x x . . . . .   x x x . . . . .   x x x . . . . .
      n 3   x x x x . . . .   . x x x . . . .   x x x x . . . .   x x x x x x x x
      n 4   x x x x x . . .   . . x x x . . .   x x x x x . . .   x x x x x x x x
      n 5   x x x x x x . .   . . . x x x . .   . . . x x x . .   x x x x x x x x
      n 6   x x x x x x x .   . . . . x x x .   . . . x x x x .   x x x x x x x x
      n 7   x x x x x x x x   . . . . . x x x   . . . x x x x x   x x x x x x x x

`causal` is the released inference code, `band` the released post-training code (row i sees rows i - w .. i), `lambda`
the paper's rule (only the first w noisy rows see the prefix, the others must look at the scene), `full` bidirectional.
A mask removes the direct edge of one layer only: through the rows between, a deep network still relays.
"""

import torch
from torch import Tensor

from cerebella.models.config import MASK_VARIANTS

NUM_ALWAYS_VISIBLE = 2
"""The last prefix rows that random hiding never touches (released post-training code)."""


def action_mask_between(
    variant: str, horizon: int, prefix_length: Tensor, window: int, hidden_columns: Tensor | None = None
) -> Tensor:
    """May action row i look at action row j?

    Args:
        variant: one of `MASK_VARIANTS`.
        horizon: H. prefix_length: int64[B], each in 0..H-1. window: w, rows.
        hidden_columns: bool[H], training only: prefix columns that no noisy row of any sample may see. Only columns
            j < prefix_length - `NUM_ALWAYS_VISIBLE` are affected.

    Returns:
        bool[B, H, H], `[b, i, j]` true where row i sees row j. The diagonal is always true.

    Raises:
        ValueError: unknown variant, a prefix length out of range, or a wrong shape.
    """
    if variant not in MASK_VARIANTS:
        raise ValueError(f"mask variant is {variant!r}; known variants: {', '.join(MASK_VARIANTS)}")
    check_prefix_length(prefix_length, horizon)
    rows = torch.arange(horizon, device=prefix_length.device)
    query, key = rows[None, :, None], rows[None, None, :]
    prefix = prefix_length[:, None, None]
    query_is_noisy, key_is_clean = query >= prefix, key < prefix
    if variant == "full":
        may_attend = query_is_noisy | key_is_clean
    else:
        may_attend = (key <= query).expand(len(prefix_length), -1, -1)
    if variant == "band":
        may_attend = may_attend & (query - key <= window)
    if variant == "lambda":
        may_attend = may_attend & ~(key_is_clean & (query - prefix >= window))
    if hidden_columns is not None:
        if hidden_columns.shape != (horizon,) or hidden_columns.dtype != torch.bool:
            raise ValueError(
                f"hidden_columns must be bool[{horizon}]; got {hidden_columns.dtype}{list(hidden_columns.shape)}"
            )
        is_hidden = hidden_columns[None, None, :] & (key < prefix - NUM_ALWAYS_VISIBLE)
        may_attend = may_attend & ~(is_hidden & query_is_noisy)
    return may_attend


def token_mask(
    variant: str, horizon: int, prefix_length: Tensor, window: int, hidden_columns: Tensor | None = None
) -> Tensor:
    """`action_mask_between` with sink and state in front: bool[B, 2 + H, 2 + H] over [sink, state, action rows]."""
    actions = action_mask_between(variant, horizon, prefix_length, window, hidden_columns)
    may_attend = actions.new_zeros(len(actions), 2 + horizon, 2 + horizon)
    may_attend[:, 0, 0] = True
    may_attend[:, 1:, :2] = True
    may_attend[:, 2:, 2:] = actions
    return may_attend


def full_mask(context_is_valid: Tensor, tokens: Tensor) -> Tensor:
    """Context columns (bool[B, L], false on padding) before the token columns: bool[B, 1, 2 + H, L + 2 + H]."""
    context = context_is_valid[:, None, :].expand(-1, tokens.shape[1], -1)
    return torch.cat([context, tokens], dim=-1)[:, None]


def token_positions(last_position: Tensor, horizon: int, prefix_length: Tensor, offset: int) -> Tensor:
    """Rotary position of every token: int64[B, 2 + H] over [sink, state, action rows].

    Tokens count on from the brain's largest position of their sample (sink = last_position + 1); noisy rows are moved
    by `offset` more, also when there is no prefix.
    """
    check_prefix_length(prefix_length, horizon)
    index = torch.arange(2 + horizon, device=last_position.device)[None]
    is_noisy = index - 2 >= prefix_length[:, None]
    return last_position[:, None] + 1 + index + offset * is_noisy


def draw_hidden_columns(horizon: int, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """One draw for a whole batch, bool[H]: each prefix column hidden with `probability` (released code: 0.5)."""
    return torch.rand(horizon, generator=generator) < probability


def check_prefix_length(prefix_length: Tensor, horizon: int) -> None:
    """Raise a ValueError unless every entry of int64[B] lies in 0..H-1 (a chunk must have something left to decide)."""
    if prefix_length.dtype != torch.int64 or prefix_length.ndim != 1:
        raise ValueError(f"prefix_length must be int64[B] (rows); got {prefix_length.dtype}{list(prefix_length.shape)}")
    if bool(((prefix_length < 0) | (prefix_length >= horizon)).any()):
        raise ValueError(
            f"prefix_length must lie in 0..{horizon - 1} (rows of {horizon}); got {prefix_length.tolist()}"
        )
