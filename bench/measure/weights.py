"""A model of any size with random weights, built in its final type: float32 is never touched."""

import torch
from torch import Tensor

from cerebella.models.config import ModelConfig
from cerebella.models.vla import VLA, build

BLOCK_LENGTH = 1_000_003
"""Numbers drawn; a prime, so that no row of a weight repeats the one above it."""


def random_model(config: ModelConfig, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> VLA:
    """A VLA whose matrices repeat one block of normal numbers, scaled to keep signals of size 1; norms 1, biases 0.

    Drawing 4.7 billion normal numbers takes longer on a CPU than everything else together.
    """
    model = build(config, dtype, device)
    generator = torch.Generator().manual_seed(seed)
    block = torch.randn(BLOCK_LENGTH, generator=generator).to(device=device, dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _fill(name, parameter, block)
    return model.eval()


def _fill(name: str, parameter: Tensor, block: Tensor) -> None:
    if parameter.ndim == 1:
        parameter.fill_(float("norm" in name and name.endswith("weight")))
        return
    fan_in = parameter[0].numel()
    scaled = block * fan_in**-0.5
    flat = parameter.view(-1)
    for start in range(0, len(flat), len(block)):
        part = flat[start : start + len(block)]
        part.copy_(scaled[: len(part)])
