"""The timed training step does the work of one, and leaves the weights to the others."""

import pytest
import torch

from bench.measure.request import Request
from bench.measure.train_step import training_step
from cerebella.models.vla import VLA


@pytest.mark.parametrize("trains_brain", [True, False])
def test_a_step_reaches_what_it_trains(model: VLA, request_64: Request, trains_brain: bool) -> None:
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step = training_step(model, request_64, trains_brain)
    touched: set[str] = set()
    handles = [
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: touched.add(name))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    loss = step()
    for handle in handles:
        handle.remove()
    model.requires_grad_(False)
    assert bool(torch.isfinite(loss))
    assert any(name.startswith("cerebellum.layers.0") for name in touched)
    assert any("visual.blocks.0" in name for name in touched) == trains_brain
    assert not any("embed_tokens" in name for name in touched)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
