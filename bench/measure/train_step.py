"""One training step as it is timed: flow matching on random data that already lies on the device."""

from collections.abc import Callable
from dataclasses import replace

import torch

from cerebella.models import flow
from cerebella.models.vla import VLA

from .request import Request

NUM_FLOW_SAMPLES = 4
"""Draws of noise and flow time per brain pass, as in the released post-training run."""


def training_step(model: VLA, request: Request, trains_brain: bool) -> Callable[[], torch.Tensor]:
    """A function that runs forward, backward and AdamW once and returns the loss.

    Weights, gradients and optimiser state have the model's type (in bfloat16 no float32 copy is kept: this measures speed,
    it is no recipe), and a learning rate of 0 leaves the weights to whoever shares them. The brain is frozen unless `trains_brain`; token embeddings and the word head always are.

    Args:
        request: on the model's device, of the model's type. The noise takes the place of the target.
    """
    model.requires_grad_(False)
    model.cerebellum.requires_grad_(True)
    if trains_brain:
        model.brain.model.requires_grad_(True)
        model.brain.model.language_model.embed_tokens.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0, fused=True)
    batch = replace(request.batch, action_prefix=None, prefix_length=None)
    actions, action_mask, state = (
        x.repeat_interleave(NUM_FLOW_SAMPLES, dim=0) for x in (request.noise, batch.action_mask, batch.state)
    )

    def step() -> torch.Tensor:
        with torch.set_grad_enabled(trains_brain):
            context = model.encode(batch).repeat_interleave(NUM_FLOW_SAMPLES)
        noise = torch.randn_like(actions)
        flow_time = flow.sample_flow_time((len(actions),), device=actions.device).to(actions.dtype)
        velocity = model.velocity(context, state, flow.interpolate(noise, actions, flow_time), flow_time, action_mask)
        loss = flow.flow_losses(velocity, flow.target_velocity(noise, actions), action_mask).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step
