"""Flow matching with asynchronous conditioning: one training step's loss (Xiaomi-Robotics-0, post-training)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models import flow
from cerebella.models.attention_mask import draw_hidden_columns
from cerebella.models.vla import VLA
from cerebella.training.stages import Stage


def flow_objective(model: VLA, batch: Batch, stage: Stage, generator: torch.Generator) -> Mapping[str, Tensor]:
    """Losses of one step: `loss` (to minimise), its parts `mse` and `frequency`, and the mean `prefix_length`.

    One brain pass serves `stage.flow_repeats` draws of noise and flow time. A sample with a prefix carries its clean
    target in the first rows, its loss counts on the later rows only, and its errors are weighted by how far the
    sampler, run without gradient from the same noise and prefix, ends from the target.

    Args:
        batch: with targets. generator: decides every draw of the step, so that a step can be repeated exactly.

    Raises:
        ValueError: the batch holds committed rows, but the stage trains without a prefix.
    """
    assert batch.actions is not None, "training needs targets"
    assert batch.prefix_length is not None, "training needs to know how many rows were committed"
    with torch.set_grad_enabled(stage.trains_brain):
        context = model.encode(batch)
    repeats = stage.flow_repeats
    context = context.repeat_interleave(repeats)
    prefix_length = draw_prefix_lengths(stage, batch.prefix_length, generator).repeat_interleave(repeats)
    actions, action_mask, state = (
        x.repeat_interleave(repeats, dim=0) for x in (batch.actions, batch.action_mask, batch.state)
    )
    hidden = draw_hidden_columns(actions.shape[1], stage.hide_probability, generator)
    # The model cannot see noise in a slot that is not in use, so asking for it back would only add noise to the gradient.
    noise = torch.randn(actions.shape, generator=generator) * action_mask
    flow_time = flow.sample_flow_time((len(actions),), generator)
    noisy = flow.join_prefix(actions, flow.interpolate(noise, actions, flow_time), prefix_length)
    velocity = model.velocity(context, state, noisy, flow_time, action_mask, prefix_length, hidden)
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
            )
        weight = flow.error_weight(sampled, actions, action_mask, prefix_length)
    losses = flow.flow_losses(velocity, flow.target_velocity(noise, actions), action_mask, weight, prefix_length)
    return {
        "loss": stage.mse_weight * losses.mse + stage.frequency_weight * losses.frequency,
        "mse": losses.mse.detach(),
        "frequency": losses.frequency.detach(),
        "prefix_length": prefix_length.float().mean(),
    }


def draw_prefix_lengths(stage: Stage, num_committed: Tensor, generator: torch.Generator) -> Tensor:
    """int64[B]: 0 with probability 1 - async_probability, else uniform on 1..max_prefix; never below `num_committed`.

    The released code draws one length for a whole batch; here every sample has its own.
    """
    if int(num_committed.max()) > stage.max_prefix:
        raise ValueError(
            f"stage {stage.name!r} trains prefixes of at most {stage.max_prefix} rows, but the data holds samples with "
            f"{int(num_committed.max())} committed rows"
        )
    num = len(num_committed)
    has_prefix = torch.rand(num, generator=generator) < stage.async_probability
    drawn = torch.randint(1, max(stage.max_prefix, 1) + 1, (num,), generator=generator)
    return torch.maximum(torch.where(has_prefix, drawn, 0), num_committed)
