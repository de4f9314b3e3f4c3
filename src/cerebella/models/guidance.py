"""Guidance at inference time: pull a flow towards what the robot is about to do (real-time chunking, arXiv 2506.07339).

A model that was never trained on action prefixes can still continue the running chunk. At every flow step the denoised
chunk is compared with the running plan, and the velocity is bent towards it. With x at flow time tau, velocity v,
denoised chunk xhat = x + (1 - tau) v, plan y and weights W:

    v' = v + g(tau) J^T W (y - xhat)        J = d xhat / d x
    g(tau) = min(beta, (1 - tau) / tau * (tau^2 + (1 - tau)^2) / (1 - tau)^2)

Weights of the rows, for d frozen rows of H and s rows between two inferences:

    row      0 .. d-1     d .. H-s-1              H-s .. H-1
    weight   1            falls towards 0         0            soft
    weight   1            0                       0            hard

The hard weights keep what will be sent anyway; the soft ones also keep the way it was meant to go on, right or wrong.

Without touching the flow at all, several chunks may be drawn and the one nearest to the plan be taken (`nearest`).
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

BETA = 5.0
"""The largest gain, as in the code that the paper's authors published."""

Ramp = Literal["soft", "hard"]
RAMPS: tuple[str, ...] = get_args(Ramp)
Velocity = Callable[[Tensor, Tensor], Tensor]
"""(float[B, H, A], flow_time float[B]) -> float[B, H, A]."""


def guidance_weights(
    num_frozen: Tensor, execute_horizon: Tensor, num_rows: Tensor, horizon: int, ramp: Ramp = "soft"
) -> Tensor:
    """How much each row is pulled towards the plan: float32[B, H], 0..1.

    1 for rows i < d. Then u (e^u - 1) / (e - 1) with u = (H - s - i) / (H - s - d + 1) for d <= i < H - s (soft), or 0
    (hard). 0 from row H - s on, and where the plan has ended. Frozen rows have weight 1 even beyond H - s.

    Args:
        num_frozen: d, int64[B], 0..num_rows. execute_horizon: s, int64[B], 1..H. num_rows: of the plan, int64[B], 0..H.
        horizon: H.

    Raises:
        ValueError: a number out of range, tensors of different length, or an unknown ramp.
    """
    if ramp not in RAMPS:
        raise ValueError(f"ramp is {ramp!r}; known ramps: {', '.join(RAMPS)}")
    lengths = {"num_frozen": (num_frozen, 0, num_rows), "execute_horizon": (execute_horizon, 1, horizon)}
    for name, (value, low, high) in {**lengths, "num_rows": (num_rows, 0, horizon)}.items():
        if value.shape != num_rows.shape or value.ndim != 1 or value.is_floating_point():
            raise ValueError(f"{name} must be int64[B], one for each sample; got {value.dtype}{list(value.shape)}")
        if bool(((value < low) | (value > high)).any()):
            most = high.tolist() if isinstance(high, Tensor) else high
            raise ValueError(f"{name} must lie in {low}..{most} (rows); got {value.tolist()}")
    row = torch.arange(horizon, device=num_rows.device)[None]
    end, frozen = (horizon - execute_horizon)[:, None], num_frozen[:, None]
    rest = torch.zeros(1, device=num_rows.device)
    if ramp == "soft":
        share = (end - row).clamp(min=0) / (end - frozen + 1).clamp(min=1)
        rest = share * share.expm1() / torch.ones_like(share).expm1()
    return torch.where(row < frozen, 1.0, rest) * (row < num_rows[:, None])


def guidance_gain(flow_time: Tensor, beta: float = BETA) -> Tensor:
    """g, float32[B]: beta at both ends of the flow, 2 (or beta, if that is smaller) in the middle.

    Args:
        flow_time: float[B], 0..1. beta: above 0.

    Raises:
        ValueError: beta is not above 0.
    """
    if not beta > 0:
        raise ValueError(f"beta must be above 0 (no guidance is weights of 0); got {beta}")
    time = flow_time.float() if flow_time.dtype in (torch.float16, torch.bfloat16) else flow_time
    return ((time**2 + (1 - time) ** 2) / (time * (1 - time))).clamp(max=beta)


def nearest(candidates: Tensor, plan: Tensor, weights: Tensor) -> Tensor:
    """Which of N chunks continues the plan best: int64[B], the first of equals (bidirectional decoding, arXiv 2408.17355).

        argmin over n of sum_i w_i |a^n_i - y_i|

    This is the paper's backward coherence; its contrast with a weaker policy is left out. With no weight above 0 all
    candidates are equal, and the first is taken.

    Args:
        candidates: a, float[B, N, H, A] in model units. plan: y, float[B, H, A]; entries of weight 0 are ignored, whatever
            they hold. weights: float[B, H, A], `guidance_weights` times the action mask.

    Raises:
        ValueError: shapes that do not fit, or no candidate.
    """
    num_samples, horizon, width = plan.shape
    if candidates.ndim != 4 or not candidates.shape[1] or weights.shape != plan.shape:
        raise ValueError(
            f"candidates must be float[{num_samples}, 1.., {horizon}, {width}] and weights float{list(plan.shape)}; got "
            f"{list(candidates.shape)} and {list(weights.shape)}"
        )
    plan = plan.where(weights > 0, 0.0)
    distance = (weights[:, None] * (candidates - plan[:, None])).norm(dim=-1).sum(dim=-1)
    return distance.argmin(dim=1)


def guide(
    velocity: Velocity, plan: Tensor, weights: Tensor, use_jacobian: Tensor | bool = True, beta: float = BETA
) -> Velocity:
    """The guided velocity v' as a function for `flow.euler`; without gradient, whatever mode it is called in.

    Only the noisy actions are differentiated: parameters get no gradient. Where no weight is above 0 this is `velocity`.

    Args:
        velocity: v. plan: y, float[B, H, A] in model units; entries of weight 0 are ignored, whatever they hold.
        weights: W, float[B, H, A].
        use_jacobian: False takes J as the identity, which needs no gradient at all: another method under its own name, not
            an approximation of the first. bool[B] decides per sample.

    Raises:
        ValueError: plan and weights differ in shape, or a bad beta.
    """
    if plan.shape != weights.shape:
        raise ValueError(f"weights must have the shape of plan {list(plan.shape)}; got {list(weights.shape)}")
    guidance_gain(torch.zeros(1), beta)
    if not bool(weights.any()):
        return velocity
    plan = plan.where(weights > 0, 0.0)
    needs_gradient = bool(torch.as_tensor(use_jacobian).any())
    through = torch.as_tensor(use_jacobian, device=plan.device).reshape(-1, 1, 1)

    def guided(noisy_actions: Tensor, flow_time: Tensor) -> Tensor:
        remaining = (1 - flow_time)[:, None, None]
        with torch.set_grad_enabled(needs_gradient):
            start = noisy_actions.detach().requires_grad_(needs_gradient)
            forward = velocity(start, flow_time)
            denoised = start + remaining * forward
        pull = weights * (plan - denoised.detach())
        if needs_gradient:
            (seen,) = torch.autograd.grad(denoised, start, pull.to(denoised.dtype))
            pull = torch.where(through, seen, pull)
        forward = forward.detach()
        return forward + (guidance_gain(flow_time, beta)[:, None, None] * pull).to(forward.dtype)

    return guided
