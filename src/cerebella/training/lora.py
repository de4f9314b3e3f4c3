"""Low-rank adapters (LoRA) in the brain's language model, through the package `peft`.

They are put in before a run and merged into the weights at its end, so that nobody after training sees them.
"""

import importlib.util

import torch
from torch import nn

from cerebella.models.vla import VLA

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def add_adapters(model: VLA, rank: int, alpha: float, seed: int) -> None:
    """An adapter of `rank` beside every projection of the language model, in place; they start as no change.

    Args:
        alpha: the adapters' product enters with alpha / rank. seed: decides their first weights.

    Raises:
        ValueError: peft is not installed, or the rank is not 1 or more.
    """
    if rank < 1:
        raise ValueError(f"the rank of adapters must be 1 or more; got {rank}")
    if importlib.util.find_spec("peft") is None:
        raise ValueError("adapters (lora_rank) need the package peft: pip install 'cerebella[lora]'")
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=int(alpha), target_modules=list(TARGETS), lora_dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model.brain.model.language_model)


def merge_adapters(model: VLA) -> None:
    """Add the adapters to the weights and take them out again, in place."""
    from peft.tuners.lora import LoraLayer

    for module in list(model.brain.model.language_model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()  # pyright: ignore[reportCallIssue]
                base = child.get_base_layer()
                assert isinstance(base, nn.Module)
                setattr(module, name, base)


def is_adapter(name: str) -> bool:
    """True for the name of an adapter's parameter."""
    return ".lora_" in name
