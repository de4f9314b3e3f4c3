"""The peer of a training step: what somebody who knows Transformers and PyTorch writes first.

- the stock `Qwen3VLForConditionalGeneration`, its default attention (scaled dot product), conversations padded to the
  longest, `labels=` for the next-token loss;
- for flow matching the plain diffusion transformer of `peer.py`: one brain pass with `use_cache` serves all draws of noise and
  flow time, as in the released post-training code, by repeating the cache;
- frozen parts have `requires_grad_(False)`, the loop stays the same;
- `torch.optim.AdamW` as it comes (not fused), `clip_grad_norm_`, `loss.item()`; `torch.autocast` for bfloat16.

What is not raced is shared: noise and flow times (drawn outside the timer), the attention rule and the loss of `models.flow`.
"""

import copy
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration

from cerebella.batch import Batch, VisionLanguageBatch
from cerebella.models import flow
from cerebella.models.vla import VLA
from cerebella.training.flow_objective import FlowDraws
from cerebella.training.optimizer import BETAS
from cerebella.training.stages import Stage
from cerebella.training.step import Precision

from .peer import Peer


class PlainLoop:
    """Its own weights, equal to those of `model` at the start, and its own optimiser.

    Args:
        model: copied. stage: which parts learn, at which rate. precision: `float32` or `bfloat16` (autocast).
    """

    def __init__(self, model: VLA, stage: Stage, precision: Precision) -> None:
        self.stage, self.precision = stage, precision
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.peer = Peer(self.model)
        self.brain: Qwen3VLForConditionalGeneration = self.peer.brain
        self.brain.requires_grad_(stage.trains_brain)
        self.brain.get_input_embeddings().requires_grad_("embeddings" in stage.trains)
        self.model.cerebellum.requires_grad_("cerebellum" in stage.trains)
        self.parameters = [*self.brain.parameters(), *self.model.cerebellum.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=stage.learning_rate, betas=BETAS, weight_decay=stage.weight_decay
        )
        self.brain.train()

    def next_token(self, batch: VisionLanguageBatch) -> float:
        """One step on conversations; the loss before it."""
        with self._autocast():
            output = self.brain(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                pixel_values=batch.pixel_values,
                image_grid_thw=batch.image_grid_thw,
                mm_token_type_ids=batch.mm_token_type_ids,
                labels=batch.labels,
            )
        assert output.loss is not None
        return self._step(output.loss)

    def flow(self, batch: Batch, draws: FlowDraws) -> float:
        """One step on robot windows; the loss before it."""
        with self._autocast():
            loss = self._flow_loss(batch, draws)
        return self._step(loss)

    def _flow_loss(self, batch: Batch, draws: FlowDraws) -> Tensor:
        assert batch.actions is not None
        stage, repeats = self.stage, self.stage.flow_repeats
        context = self.peer.encode(batch).repeat_interleave(repeats)
        prefix = draws.prefix_length.repeat_interleave(repeats)
        actions, mask, state = (
            x.repeat_interleave(repeats, dim=0) for x in (batch.actions, batch.action_mask, batch.state)
        )
        noise = draws.noise * mask
        noisy = flow.join_prefix(actions, flow.interpolate(noise, actions, draws.flow_time), prefix)
        seats = self.peer.seat(context, noisy.shape[1], prefix, draws.hidden_columns)
        state_token = self.model.cerebellum.state_projector(state)
        velocity = self.peer.velocity(context, seats, state_token, noisy, draws.flow_time, mask)
        velocity = velocity * flow.rows_are_noisy(prefix, noisy.shape[1])
        weight = None
        chosen = prefix > 0
        if stage.reweight_errors and bool(chosen.any()):
            sampled = actions.clone()
            with torch.no_grad():
                sampled[chosen] = self.peer.sample(
                    context.take(chosen),
                    state[chosen],
                    noise[chosen],
                    mask[chosen],
                    actions[chosen],
                    prefix[chosen],
                    hidden_columns=draws.hidden_columns,
                ).to(sampled.dtype)
            weight = flow.error_weight(sampled, actions, mask, prefix)
        losses = flow.flow_losses(velocity, flow.target_velocity(noise, actions), mask, weight, prefix)
        return stage.mse_weight * losses.mse + stage.frequency_weight * losses.frequency

    def _step(self, loss: Tensor) -> float:
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.stage.clip_norm)
        self.optimizer.step()
        return loss.item()

    def _autocast(self):
        return torch.autocast("cpu", torch.bfloat16) if self.precision == "bfloat16" else nullcontext()
