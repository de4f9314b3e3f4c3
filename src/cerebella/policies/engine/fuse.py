"""Several linear layers that read the same input, as one. The originals become views of the fused weight: no second copy."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def fuse_linear(parts: Sequence[nn.Linear]) -> nn.Linear:
    """One layer whose output is the outputs of `parts`, one after the other.

    The parts keep working: each weight and bias is replaced by its rows of the fused tensor, so the memory of both is one.

    Raises:
        ValueError: the parts have different inputs, or only some have a bias.
    """
    if len({part.in_features for part in parts}) > 1 or len({part.bias is None for part in parts}) > 1:
        raise ValueError("only layers with the same input width, all or none with a bias, can be fused")
    fused = share_linear(
        torch.cat([part.weight for part in parts]),
        None if parts[0].bias is None else torch.cat([part.bias for part in parts]),
    )
    start = 0
    for part in parts:
        rows = slice(start, start + part.out_features)
        part.weight.data = fused.weight.data[rows]
        if part.bias is not None:
            part.bias.data = fused.bias.data[rows]
        start += part.out_features
    return fused


def share_linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear layer around existing tensors, without gradient."""
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def share(parameter: Tensor) -> nn.Parameter:
    """The same storage as a parameter without gradient."""
    return nn.Parameter(parameter.detach(), requires_grad=False)
