"""Flow matching with asynchronous conditioning: one training step's loss (Xiaomi-Robotics-0, pre- and post-training).

Chance and computation are apart: `draw_flow` decides everything that is random, on the CPU; `flow_objective` computes the
loss from it on whatever device the model is.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models import flow
from cerebella.models.action_model import ActionModel
from cerebella.models.attention_mask import draw_hidden_columns
from cerebella.training.stages import Stage

DRAW_BLOCK = 64
"""Windows that share one seed. However a step is cut into processes and micro-batches, its draws stay the same."""


@dataclass(frozen=True, eq=False)
class FlowDraws:
    """Everything that is random in one step, for B windows and r = `flow_repeats` draws of each.

    Args:
        prefix_length: int64[B]. hidden_columns: bool[H], for the whole step.
        noise: float32[B * r, H, A]; the draws of one window lie side by side. flow_time: float32[B * r].
    """

    prefix_length: Tensor
    hidden_columns: Tensor
    noise: Tensor
    flow_time: Tensor

    def to(self, device: torch.device) -> "FlowDraws":
        """The same on another device."""
        tensors = (self.prefix_length, self.hidden_columns, self.noise, self.flow_time)
        return FlowDraws(*(tensor.to(device) for tensor in tensors))


def draw_flow(stage: Stage, batch: Batch, seed: tuple[int, ...], first_window: int = 0) -> FlowDraws:
    """The draws for the windows `first_window` onwards of the step that `seed` names; on the CPU.

    Raises:
        ValueError: the batch holds committed rows beyond the stage's longest prefix, or that prefix fills a chunk.
    """
    assert batch.prefix_length is not None, "training needs to know how many rows were committed"
    _, horizon, action_dim = batch.action_mask.shape
    if stage.max_prefix >= horizon:
        raise ValueError(
            f"stage {stage.name!r} trains prefixes of up to {stage.max_prefix} rows, but its chunks have {horizon}; "
            f"max_prefix must be at most {horizon - 1}"
        )
    end, repeats = first_window + len(batch), stage.flow_repeats
    pieces = []
    for block in range(first_window // DRAW_BLOCK, (end - 1) // DRAW_BLOCK + 1):
        generator = torch.Generator().manual_seed(_seed(*seed, *((block,) if block else ())))
        lengths = draw_prefix_lengths(stage, DRAW_BLOCK, generator)
        hidden = draw_hidden_columns(horizon, stage.hide_probability, generator)
        noise = torch.randn(DRAW_BLOCK * repeats, horizon, action_dim, generator=generator)
        times = flow.sample_flow_time((len(noise),), generator, law=stage.time_law)
        pieces.append(FlowDraws(lengths, hidden, noise, times))
    skip = first_window % DRAW_BLOCK
    chosen, chosen_draws = slice(skip, skip + len(batch)), slice(skip * repeats, (skip + len(batch)) * repeats)
    first = torch.Generator().manual_seed(_seed(*seed))
    shared = draw_prefix_lengths(stage, DRAW_BLOCK, first)[0]
    hidden = draw_hidden_columns(horizon, stage.hide_probability, first)
    lengths = torch.cat([piece.prefix_length for piece in pieces])[chosen]
    if stage.prefix_draw == "batch":
        lengths = shared.expand(len(batch))
    return FlowDraws(
        prefix_length=at_least_committed(stage, lengths, batch.prefix_length.cpu()),
        hidden_columns=hidden,
        noise=torch.cat([piece.noise for piece in pieces])[chosen_draws],
        flow_time=torch.cat([piece.flow_time for piece in pieces])[chosen_draws],
    )


def draw_prefix_lengths(stage: Stage, num: int, generator: torch.Generator) -> Tensor:
    """int64[num] by the stage's `prefix_law`.

    half_zero_uniform: 0 with probability 1 - async_probability, else uniform on 1..max_prefix (released code).
    uniform_0_to_max: uniform on 0..max_prefix (paper).
    """
    if stage.prefix_law == "uniform_0_to_max":
        return torch.randint(0, stage.max_prefix + 1, (num,), generator=generator)
    has_prefix = torch.rand(num, generator=generator) < stage.async_probability
    drawn = torch.randint(1, max(stage.max_prefix, 1) + 1, (num,), generator=generator)
    return torch.where(has_prefix, drawn, 0)


def at_least_committed(stage: Stage, lengths: Tensor, num_committed: Tensor) -> Tensor:
    """Prefix lengths, int64[B], that are never below the rows that were promised before the observation.

    Raises:
        ValueError: more rows were committed than the stage gives as a prefix.
    """
    if int(num_committed.max()) > stage.max_prefix:
        raise ValueError(
            f"stage {stage.name!r} trains prefixes of at most {stage.max_prefix} rows, but the data holds samples with "
            f"{int(num_committed.max())} committed rows"
        )
    return torch.maximum(lengths, num_committed)


def flow_objective(model: ActionModel, batch: Batch, stage: Stage, draws: FlowDraws) -> Mapping[str, Tensor]:
    """Losses of one step: `loss` (to minimise), its parts `mse` and `frequency`, and the mean `prefix_length`.

    One brain pass serves `stage.flow_repeats` draws of noise and flow time. A sample with a prefix carries its clean
    target in the first rows, its loss counts on the later rows only, and its errors are weighted by how far the
    sampler, run without gradient from the same noise and prefix, ends from the target.

    Args:
        batch, draws: on the model's device.
    """
    assert batch.actions is not None, "training needs targets"
    with torch.set_grad_enabled(stage.trains_brain and torch.is_grad_enabled()):
        context = model.encode(batch)
    repeats = stage.flow_repeats
    context = context.repeat_interleave(repeats)
    prefix_length = draws.prefix_length.repeat_interleave(repeats)
    actions, action_mask, state = (
        x.repeat_interleave(repeats, dim=0) for x in (batch.actions, batch.action_mask, batch.state)
    )
    noise = draws.noise if stage.noise_in_unused_slots else draws.noise * action_mask
    noisy = flow.join_prefix(actions, flow.interpolate(noise, actions, draws.flow_time), prefix_length)
    hidden = draws.hidden_columns
    velocity = model.velocity(context, state, noisy, draws.flow_time, action_mask, prefix_length, hidden)
    weight = None
    has_prefix = prefix_length > 0
    if stage.reweight_errors and bool(has_prefix.any()):
        sampled = actions.clone()
        with torch.no_grad():
            sampled[has_prefix] = model.sample(
                context.detach().take(has_prefix),
                state[has_prefix],
                noise[has_prefix],
                action_mask[has_prefix],
                actions[has_prefix],
                prefix_length[has_prefix],
                hidden_columns=hidden,
            ).to(sampled.dtype)
        weight = flow.error_weight(sampled, actions, action_mask, prefix_length)
    target = flow.target_velocity(noise, actions)
    losses = flow.flow_losses(velocity, target, action_mask, weight, prefix_length, stage.frequency_is_masked)
    return {
        "loss": stage.mse_weight * losses.mse + stage.frequency_weight * losses.frequency,
        "mse": losses.mse.detach(),
        "frequency": losses.frequency.detach(),
        "prefix_length": prefix_length.float().mean(),
    }


def _seed(*numbers: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "big") >> 1
