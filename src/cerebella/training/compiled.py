"""Layers compiled one by one, for GPUs: a small model spends most of its step on starting kernels.

Names and numbers of the weights stay as they are, so checkpoints do too.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

from torch import nn

from cerebella.models.vla import VLA


@contextmanager
def compiled_layers(model: VLA) -> Iterator[None]:
    """Inside, every layer of vision tower, language model and cerebellum runs compiled (`torch.compile`).

    The first steps take a minute or two. Shapes that change (longer texts) are compiled once more, for any length. Outside,
    where texts grow token by token, the layers run as they are written.
    """
    parts = (model.brain.model.visual.blocks, model.brain.model.language_model.layers, model.cerebellum.layers)
    layers = [layer for part in parts for layer in cast(Iterable[nn.Module], part)]
    try:
        for layer in layers:
            layer.compile()
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
