"""Sampling for requests that show the running plan: pulled towards it, or the nearest of several free chunks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cerebella.interfaces import Guidance
from cerebella.models.action_model import ActionModel
from cerebella.models.context import Context
from cerebella.models.guidance import guidance_weights, nearest
from cerebella.processing.noise import noise_seed
from cerebella.types import Observation

MAX_ROWS = 64
"""Candidates of several observations share a pass of the cerebellum up to this size: each copies the encoded scene."""


def initial_noise(observation: Observation, horizon: int, model_action_dim: int, num_draws: int = 1) -> Tensor:
    """float32[num_draws, H, A], a function of the observation alone; the first draw is the same for any number."""
    generator = torch.Generator().manual_seed(noise_seed(observation))
    return torch.stack([torch.randn((horizon, model_action_dim), generator=generator) for _ in range(num_draws)])


def sample_with_plan(
    model: ActionModel,
    context: Context,
    state: Tensor,
    action_mask: Tensor,
    plan: Tensor,
    observations: Sequence[Observation],
    guidances: Sequence[Guidance],
    beta: float,
    num_flow_steps: int | None,
) -> Tensor:
    """One chunk per observation, float[B, H, A] in model units on the device of `state`; no gradient.

    Args:
        context: encoded under `torch.no_grad`. state: float[B, 1, S]. action_mask: float[B, H, A].
        plan: float[B, H, A], the plans of `guidances` in the frames of `observations`.
        observations: give the noise. guidances: may differ in everything, the way of using the plan included.
        beta, num_flow_steps: see `ActionModel.sample_guided`.

    Raises:
        ValueError: a plan or execute horizon longer than the chunk; as `ActionModel.sample_guided`.
    """
    weights = guidance_weights(
        num_frozen=torch.tensor([guidance.num_frozen for guidance in guidances]),
        execute_horizon=torch.tensor([guidance.execute_horizon for guidance in guidances]),
        num_rows=torch.tensor([len(guidance.plan) for guidance in guidances]),
        horizon=plan.shape[1],
    ).to(state.device)
    use_jacobian = torch.tensor([guidance.use_jacobian for guidance in guidances], device=state.device)
    chunks = plan.new_empty(plan.shape)
    for num_candidates in dict.fromkeys(guidance.num_candidates for guidance in guidances):
        alike = torch.tensor([i for i, g in enumerate(guidances) if g.num_candidates == num_candidates])
        for chosen in alike.split(max(1, MAX_ROWS // num_candidates) if num_candidates else len(alike)):
            noise = torch.stack([_noise(observations[i], plan, max(1, num_candidates)) for i in chosen.tolist()])
            rows = chosen.to(state.device)
            part = context.take(rows), state[rows], noise.to(state.device), action_mask[rows]
            if num_candidates:
                pull = weights[rows][..., None] * action_mask[rows]
                chunks[rows] = _nearest_of(model, *part, plan[rows], pull, num_flow_steps)
            else:
                scene, own_state, noise, mask = part
                chunks[rows] = model.sample_guided(
                    scene,
                    own_state,
                    noise[:, 0],
                    mask,
                    plan[rows],
                    weights[rows],
                    use_jacobian[rows],
                    beta,
                    num_flow_steps,
                ).to(chunks.dtype)
    return chunks


def _noise(observation: Observation, plan: Tensor, num_draws: int) -> Tensor:
    return initial_noise(observation, plan.shape[1], plan.shape[2], num_draws)


def _nearest_of(
    model: ActionModel,
    context: Context,
    state: Tensor,
    noise: Tensor,
    action_mask: Tensor,
    plan: Tensor,
    weights: Tensor,
    num_flow_steps: int | None,
) -> Tensor:
    """Float[B, H, A]: of the chunks that noise float[B, N, H, A] becomes, the one nearest to the plan."""
    num_samples, num_candidates = noise.shape[:2]
    with torch.no_grad():
        free = model.sample(
            context.repeat_interleave(num_candidates),
            state.repeat_interleave(num_candidates, dim=0),
            noise.flatten(0, 1),
            action_mask.repeat_interleave(num_candidates, dim=0),
            num_flow_steps=num_flow_steps,
        )
    candidates = free.unflatten(0, (num_samples, num_candidates)).to(plan.dtype)
    return candidates[torch.arange(num_samples, device=plan.device), nearest(candidates, plan, weights)]
