"""Layers compiled one by one, for GPUs: a small model spends most of its step on starting kernels.

Names and numbers of the weights stay as they are, so checkpoints do too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from torch import nn

from cerebella.models.action_model import ActionModel
from cerebella.models.vla import VLA


@contextmanager
def compiled_layers(model: ActionModel) -> Iterator[None]:
    """Inside, every layer of vision tower, language model and cerebellum runs compiled (`torch.compile`).

    The first steps take a minute or two. Shapes that change (longer texts) are compiled once more, for any length. Outside,
    where texts grow token by token, the layers run as they are written.
    """
    parts = [model.cerebellum.layers]
    if isinstance(model, VLA):
        brain = model.brain.model
        parts += [cast(nn.ModuleList, part) for part in (brain.visual.blocks, brain.language_model.layers)]
    layers = [layer for part in parts for layer in part]
    try:
        for layer in layers:
            layer.compile()
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
