"""Several short sequences in one row, so that no layer computes on padding.

Conversations of a batch differ in length; padded to the longest, a third of the work of the brain's layers is on nothing.
Here sequences share rows as long as the longest of them, and a mask keeps them apart. Positions are given to the brain in
any case, so the numbers are the same up to rounding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the tokens of B padded sequences of L columns go: R rows of W columns, R at most B and W at most L.

    Args:
        source: int64[R, W], index of the token in [B * L]; any token where there is none.
        is_real: bool[R, W].
        place: int64[B, L], index in [R * W] of every token that is no padding, else 0.
        may_attend: bool[R, 1, W, W], causal and within one sequence. Columns without a token see each other, so that no
            softmax is over nothing.
    """

    source: Tensor
    is_real: Tensor
    place: Tensor
    may_attend: Tensor

    def rows(self, values: Tensor) -> Tensor:
        """[B, L, ...] -> [R, W, ...]."""
        return values.flatten(0, 1)[self.source]

    def mask(self, dtype: torch.dtype) -> Tensor:
        """0 where a token may look, else minus infinity: float[R, 1, W, W], as every attention of Transformers takes it."""
        return torch.zeros(self.may_attend.shape, dtype=dtype, device=self.source.device).masked_fill_(
            ~self.may_attend, -torch.inf
        )


def pack(attention_mask: Tensor) -> Packing:
    """First fit, the longest sequences first.

    Args:
        attention_mask: int64[B, L], 1 on real tokens; padding may be on either side.
    """
    lengths = attention_mask.sum(dim=1).tolist()
    width = max(lengths)
    used: list[int] = []
    begin = [0] * len(lengths)
    for sample in sorted(range(len(lengths)), key=lambda sample: -lengths[sample]):
        fitting = (row for row, length in enumerate(used) if length + lengths[sample] <= width)
        row = next(fitting, len(used))
        if row == len(used):
            used.append(0)
        begin[sample] = row * width + used[row]
        used[row] += lengths[sample]
    is_token = attention_mask.bool()
    within = attention_mask.cumsum(1) - 1
    place = torch.where(is_token, attention_mask.new_tensor(begin)[:, None] + within, 0)
    source = attention_mask.new_zeros(len(used) * width)
    owner = attention_mask.new_full((len(used) * width,), -1)
    filled = place[is_token]
    source[filled] = is_token.flatten().nonzero().flatten()
    owner[filled] = is_token.nonzero()[:, 0]
    owner = owner.view(len(used), width)
    is_causal = torch.ones(width, width, dtype=torch.bool, device=attention_mask.device).tril()
    may_attend = (owner[:, :, None] == owner[:, None, :]) & is_causal
    return Packing(source.view(owner.shape), owner >= 0, place, may_attend[:, None])
