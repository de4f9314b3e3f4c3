"""The peer: the same weights through the parts that the reference stack is made of, used as they come.

Transformers' `Qwen3VLForConditionalGeneration` reads images and text with its word head on every position (as the released
post-training code runs it), then a plain eager diffusion transformer joins its K/V to the brain's by concatenation in
every layer of every flow step. Nothing is copied: every tensor belongs to the `VLA` that is compared.

The reference stack uses FlashAttention-2 in the brain where it is installed; here it is PyTorch's scaled-dot-product
attention, on both sides.
"""

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from cerebella.batch import Batch
from cerebella.models import attention_mask
from cerebella.models.cerebellum import EPSILON, Layer, Seating, rotary_table
from cerebella.models.context import Context
from cerebella.models.vla import VLA


class Peer:
    """Same `encode` and `sample` as `VLA`.

    Args:
        model: whose weights are used, in evaluation mode. word_head: compute the logits of every position, as the
            reference stack does; false skips them.
    """

    def __init__(self, model: VLA, word_head: bool = True) -> None:
        self.model = model
        self.config = model.config
        self.word_head = word_head
        self.brain = stock_brain(model.brain)
        self._read: Callable[..., Any] = self.brain if word_head else self.brain.model
        self._velocity: Callable[..., Tensor] = self._velocity_of

    def compiled(self, **options: Any) -> "Peer":
        """The same peer with `torch.compile` around brain and velocity, default mode, static shapes."""
        other = Peer(self.model, self.word_head)
        other._read = torch.compile(self._read, dynamic=False, **options)
        other._velocity = torch.compile(self._velocity_of, dynamic=False, **options)
        return other

    def encode(self, batch: Batch) -> Context:
        """One pass of the Transformers class with its cache."""
        positions, _ = self.brain.model.get_rope_index(
            cast(torch.LongTensor, batch.input_ids),
            mm_token_type_ids=cast(torch.IntTensor, batch.mm_token_type_ids),
            image_grid_thw=cast(torch.LongTensor | None, batch.image_grid_thw),
            attention_mask=batch.attention_mask,
        )
        output = self._read(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=positions,
            pixel_values=batch.pixel_values,
            image_grid_thw=batch.image_grid_thw,
            mm_token_type_ids=batch.mm_token_type_ids,
            use_cache=True,
        )
        layers = output.past_key_values.layers[-self.config.num_layers :]
        return Context(
            keys=[layer.keys for layer in layers],
            values=[layer.values for layer in layers],
            is_valid=batch.attention_mask.bool(),
            last_position=positions.amax(dim=(0, 2)),
        )

    def sample(
        self,
        context: Context,
        state: Tensor,
        noise: Tensor,
        action_mask: Tensor,
        action_prefix: Tensor | None = None,
        prefix_length: Tensor | None = None,
        num_flow_steps: int | None = None,
        hidden_columns: Tensor | None = None,
    ) -> Tensor:
        """Noise float[B, H, A] to actions in Euler steps; see `VLA.sample`."""
        horizon = noise.shape[1]
        num_steps = self.config.num_flow_steps if num_flow_steps is None else num_flow_steps
        if prefix_length is None:
            prefix_length = torch.zeros(len(noise), dtype=torch.int64, device=noise.device)
        is_noisy = (torch.arange(horizon, device=noise.device)[None] >= prefix_length[:, None])[..., None]
        seating = self.seat(context, horizon, prefix_length, hidden_columns)
        state_token = self.model.cerebellum.state_projector(state)
        actions = noise if action_prefix is None else torch.where(is_noisy, noise, action_prefix)
        for step in range(num_steps):
            flow_time = torch.ones(len(noise), device=noise.device, dtype=noise.dtype) * step / num_steps
            velocity = self.velocity(context, seating, state_token, actions, flow_time, action_mask)
            actions = actions + torch.where(is_noisy, velocity, 0.0) * (1.0 / num_steps)
        return actions

    def seat(
        self, context: Context, horizon: int, prefix_length: Tensor, hidden_columns: Tensor | None = None
    ) -> Seating:
        """Mask and rotation of every token; see `Cerebellum.seat`."""
        config = self.config
        between = attention_mask.token_mask(
            config.mask_variant, horizon, prefix_length, config.mask_window, hidden_columns
        )
        positions = attention_mask.token_positions(
            context.last_position, horizon, prefix_length, config.position_offset
        )
        cos, sin = rotary_table(positions, self.model.cerebellum.rotary_emb.inv_freq, context.keys[0].dtype)
        return Seating(prefix_length, attention_mask.full_mask(context.is_valid, between), cos, sin)

    def velocity(
        self,
        context: Context,
        seating: Seating,
        state_token: Tensor,
        actions: Tensor,
        flow_time: Tensor,
        action_mask: Tensor,
    ) -> Tensor:
        """One pass of the diffusion transformer, float[B, H, A]; rows of a prefix have one, too.

        Args:
            state_token: float[B, 1, width], the projected state.
        """
        return self._velocity(
            actions,
            flow_time,
            state_token,
            action_mask,
            context.keys,
            context.values,
            seating.may_attend,
            seating.cos,
            seating.sin,
        )

    def _velocity_of(
        self,
        actions: Tensor,
        flow_time: Tensor,
        state_token: Tensor,
        action_mask: Tensor,
        context_keys: list[Tensor],
        context_values: list[Tensor],
        may_attend: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> Tensor:
        cerebellum = self.model.cerebellum
        modulation = cerebellum.t_projector(cerebellum.t_embedder(flow_time))
        sink = cerebellum.sink.weight[None].repeat(len(actions), 1, 1)
        x = torch.cat([sink, state_token, cerebellum.action_projector(actions * action_mask)], dim=1)
        for layer, key, value in zip(cerebellum.layers, context_keys, context_values, strict=True):
            x = _layer(cast(Layer, layer), x, key, value, may_attend, cos, sin, modulation)
        return cerebellum.action_output_layer(x[:, -actions.shape[1] :])


def stock_brain(brain: Qwen3VLForConditionalGeneration) -> Qwen3VLForConditionalGeneration:
    """The Transformers class as it comes, with its default attention, around the very tensors of `brain`."""
    tensors = {id(tensor): tensor for tensor in (*brain.parameters(), *brain.buffers())}
    stock = copy.deepcopy(brain, tensors)
    stock.set_attn_implementation("sdpa")
    return stock


def _layer(
    layer: Layer,
    x: Tensor,
    context_key: Tensor,
    context_value: Tensor,
    may_attend: Tensor,
    cos: Tensor,
    sin: Tensor,
    modulation: Tensor,
) -> Tensor:
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = (layer.adaln_table[None] + modulation).chunk(6, dim=1)
    attention, mlp = layer.attn, layer.mlp
    hidden = _rms_norm(x, layer.input_layernorm.weight) * (1 + scale_1) + shift_1
    query, key, value = attention.qkv_proj(hidden).unflatten(-1, (3, -1, attention.head_dim)).unbind(2)
    query = _rms_norm(query, attention.q_norm.weight).transpose(1, 2)
    key = _rms_norm(key, attention.k_norm.weight).transpose(1, 2)
    query, key = query * cos + _half_turn(query) * sin, key * cos + _half_turn(key) * sin
    group = query.shape[1] // context_key.shape[1]
    key = torch.cat([context_key.repeat_interleave(group, dim=1), key], dim=2)
    value = torch.cat([context_value.repeat_interleave(group, dim=1), value.transpose(1, 2)], dim=2)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=may_attend)
    seen = attention.o_proj(seen.transpose(1, 2).contiguous().flatten(2))
    x = _rms_norm(x + gate_1 * seen, layer.middle_layernorm.weight)
    hidden = _rms_norm(x, layer.post_layernorm.weight) * (1 + scale_2) + shift_2
    thought = mlp.down_proj(F.silu(mlp.gate_proj(hidden)) * mlp.up_proj(hidden))
    return _rms_norm(x + gate_2 * thought, layer.final_layernorm.weight)


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """As Transformers' Qwen classes compute it: statistics in float32, one operation at a time."""
    wide = x.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPSILON)
    return weight * wide.to(x.dtype)


def _half_turn(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)
