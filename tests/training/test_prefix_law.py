"""The lengths of the prefixes that training draws follow their declared law."""

from dataclasses import replace

import pytest
import torch

from cerebella.training.flow_objective import draw_prefix_lengths
from cerebella.training.stages import xr0_posttrain


@pytest.mark.parametrize("async_probability", [0.5, 0.8])
def test_the_released_prefix_law(async_probability: float) -> None:
    """M-10: no prefix with 1 - q, else uniform on 1..6; chi-square, 22.46 is the 99.9 % quantile at 6 degrees."""
    num = 100_000
    stage = replace(xr0_posttrain(is_async=True), async_probability=async_probability)
    assert (stage.prefix_law, stage.max_prefix) == ("half_zero_uniform", 6)
    seen = torch.bincount(draw_prefix_lengths(stage, num, torch.Generator().manual_seed(0)), minlength=7).double()
    expected = num * torch.tensor([1 - async_probability] + [async_probability / 6] * 6, dtype=torch.float64)
    assert ((seen - expected) ** 2 / expected).sum() < 22.46
