"""Rectified flow between noise (flow_time 0) and actions (flow_time 1): pure functions on tensors.

Shapes: B samples, H rows, A padded action width. `prefix_length` is int64[B]: the first rows of a sample are already
decided, keep their value, have velocity 0 and take no part in any loss. Equations as in Xiaomi-Robotics-0 (2026) and
its released post-training code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

TimeLaw = Literal["beta", "uniform", "logit_normal"]
TIME_LAWS: tuple[str, ...] = get_args(TimeLaw)
MAX_FLOW_TIME = 0.999
MSE_SHARE = 0.5
FREQUENCY_SHARE = 1.0
WEIGHT_RANGE = (0.5, 5.0)


def sample_flow_time(
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    law: TimeLaw = "beta",
) -> Tensor:
    """Flow times, float32, by one of the three laws of the released post-training code.

    beta: 0.999 (1 - u), u ~ Beta(1.5, 1): dense near the noise, never quite 1. Beta(a, 1) has the distribution function
    u^a, so u is a uniform number to the power 1 / 1.5. uniform: on 0..1. logit_normal: the logistic function of a
    standard normal number, dense in the middle.

    Raises:
        ValueError: unknown law.
    """
    if law not in TIME_LAWS:
        raise ValueError(f"time law is {law!r}; known laws: {', '.join(TIME_LAWS)}")
    if law == "logit_normal":
        return torch.randn(shape, generator=generator, device=device).sigmoid()
    uniform = torch.rand(shape, generator=generator, device=device)
    return MAX_FLOW_TIME * (1 - uniform ** (1 / 1.5)) if law == "beta" else uniform


def interpolate(noise: Tensor, actions: Tensor, flow_time: Tensor) -> Tensor:
    """(1 - flow_time) noise + flow_time actions; flow_time float[B], the others float[B, H, A]."""
    share = flow_time[:, None, None]
    return (1 - share) * noise + share * actions


def target_velocity(noise: Tensor, actions: Tensor) -> Tensor:
    """The constant velocity of the straight path: actions - noise."""
    return actions - noise


def rows_are_noisy(prefix_length: Tensor, horizon: int) -> Tensor:
    """bool[B, H, 1], true on the rows that are not part of the prefix."""
    return (torch.arange(horizon, device=prefix_length.device)[None] >= prefix_length[:, None])[..., None]


def join_prefix(action_prefix: Tensor, rest: Tensor, prefix_length: Tensor) -> Tensor:
    """The first prefix_length[b] rows of `action_prefix`, then the rows of `rest`, bit for bit; all float[B, H, A]."""
    return torch.where(rows_are_noisy(prefix_length, rest.shape[1]), rest, action_prefix)


def euler(velocity: Callable[[Tensor, Tensor], Tensor], start: Tensor, num_flow_steps: int) -> Tensor:
    """Integrate from flow_time 0 to 1 in equal steps: x <- x + velocity(x, k / n) / n.

    Args:
        velocity: (float[B, H, A], flow_time float[B]) -> float[B, H, A]. Rows with velocity 0 keep their bits.
        start: float[B, H, A], noise, with the prefix already in place.
        num_flow_steps: n, 1 or more.
    """
    if num_flow_steps < 1:
        raise ValueError(f"num_flow_steps must be 1 or more; got {num_flow_steps}")
    actions = start
    for k in range(num_flow_steps):
        flow_time = torch.full((len(start),), k / num_flow_steps, dtype=start.dtype, device=start.device)
        actions = actions + velocity(actions, flow_time) * (1.0 / num_flow_steps)
    return actions


def error_weight(sampled: Tensor, actions: Tensor, action_mask: Tensor, prefix_length: Tensor) -> Tensor:
    """How much each entry should count, from how wrong the sampler is now: float[B, H, A], without gradient.

    |sampled - actions| divided by its mean over the active entries behind a prefix, then clamped to [0.5, 5]. Inactive
    entries are clamped without the division (they matter to the frequency loss only, as in the released code). Samples
    without a prefix get weight 1.
    """
    with torch.no_grad():
        error = (sampled - actions).abs().float()
        has_prefix = (prefix_length > 0)[:, None, None]
        is_active = action_mask.bool() & rows_are_noisy(prefix_length, actions.shape[1]) & has_prefix
        if bool(is_active.any()):
            error = torch.where(is_active, error / error[is_active].mean(), error)
        return torch.where(has_prefix, error.clamp(*WEIGHT_RANGE), torch.ones_like(error))


@dataclass(frozen=True, eq=False)
class FlowLosses:
    """Scalars with gradient: `total` = 0.5 `mse` + 1.0 `frequency`."""

    total: Tensor
    mse: Tensor
    frequency: Tensor


def flow_losses(
    predicted: Tensor,
    target: Tensor,
    action_mask: Tensor,
    weight: Tensor | None = None,
    prefix_length: Tensor | None = None,
    frequency_is_masked: bool = False,
) -> FlowLosses:
    """Masked squared error plus the distance of the spectra along time.

    mse: mean of weight (predicted - target)^2 over the active entries (mask 1, behind the prefix) of the whole batch.
    frequency: |rFFT(predicted) - rFFT(target)| along the rows behind the prefix, times the sample's mean weight,
    averaged over frequencies and dimensions, then over samples. Not masked, as in the released code of
    Xiaomi-Robotics-0; masked (as its successor does), inactive entries are 0 before the transform, and the averages are
    over the dimensions with an active entry, the weight's over active entries.

    Args:
        predicted, target: velocities, float[B, H, A]. action_mask: float[B, H, A], 0 or 1.
        weight: float[B, H, A]; None is 1 everywhere. prefix_length: int64[B]; None is 0 everywhere.

    Raises:
        ValueError: no entry is active; there is nothing to learn from such a batch.
    """
    predicted, target = predicted.float(), target.float()
    if prefix_length is None:
        prefix_length = torch.zeros(len(predicted), dtype=torch.int64, device=predicted.device)
    if weight is None:
        weight = torch.ones_like(predicted)
    is_active = action_mask.bool() & rows_are_noisy(prefix_length, predicted.shape[1])
    if not bool(is_active.any()):
        raise ValueError("action_mask has no active entry behind the prefix: this batch has no target to learn")
    mse = ((predicted - target).square() * weight)[is_active].mean()
    counts = is_active.float() if frequency_is_masked else torch.ones_like(predicted)
    frequency = _frequency_loss(predicted - target, weight, prefix_length, counts)
    return FlowLosses(total=MSE_SHARE * mse + FREQUENCY_SHARE * frequency, mse=mse, frequency=frequency)


def _frequency_loss(error: Tensor, weight: Tensor, prefix_length: Tensor, counts: Tensor) -> Tensor:
    """The transform is linear, so the difference of spectra is the spectrum of the error; one group per prefix."""
    total = error.new_zeros(())
    for length in prefix_length.unique().tolist():
        samples = prefix_length == length
        rest, rest_weight, rest_counts = (x[samples, length:] for x in (error, weight, counts))
        spectrum = torch.fft.rfft(rest * rest_counts, dim=1).abs().mean(dim=1)
        has_any = rest_counts.amax(dim=1)
        per_sample = (spectrum * has_any).sum(dim=1) / has_any.sum(dim=1).clamp(min=1)
        mean_weight = (rest_weight * rest_counts).sum(dim=(1, 2)) / rest_counts.sum(dim=(1, 2)).clamp(min=1)
        total = total + (per_sample * mean_weight).sum()
    return total / len(error)
