"""The cerebellum with static shapes: K/V written in place behind the context's, modulation computed once for all time.

The flow times of the Euler steps are known beforehand, so what they modulate (shift, scale, gate of every layer) is a
constant; `1 + scale` is folded into the weight of the norm in front of it. Every prefix length runs through the same
graph: the attention rule is a table with one row per length.
"""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cerebella.models import attention_mask
from cerebella.models.cerebellum import EPSILON, Cerebellum, Layer, Projector, rotary_table, rotate
from cerebella.policies.engine.fuse import fuse_linear, share, share_linear


class ActionDecoder(nn.Module):
    """See the module. Shares its weights with `cerebellum`."""

    def __init__(self, cerebellum: Cerebellum) -> None:
        super().__init__()
        self.config = cerebellum.config
        self.layers = nn.ModuleList(ActionLayer(layer) for layer in cast(Iterable[Layer], cerebellum.layers))
        self.state = TwoLayers(cerebellum.state_projector)
        self.action = TwoLayers(cerebellum.action_projector)
        self.output = TwoLayers(cerebellum.action_output_layer)
        self.sink = share(cerebellum.sink.weight)
        self.frequency = nn.Buffer(cerebellum.rotary_emb.inv_freq.float(), persistent=False)
        self.time_embedder, self.time_projector = cerebellum.t_embedder, cerebellum.t_projector

    @torch.no_grad()
    def modulation(self, num_flow_steps: int) -> Tensor:
        """[steps, layers, 6, width]: per Euler step and layer (shift, weight of the norm, gate) of attention and MLP.

        "Weight of the norm" is the norm's own weight times (1 + scale).
        """
        weight = self.sink
        flow_time = torch.arange(num_flow_steps, dtype=weight.dtype, device=weight.device) / num_flow_steps
        shared = self.time_projector(self.time_embedder(flow_time))
        layers = cast(Iterable[ActionLayer], self.layers)
        rows = torch.stack([layer.table + shared for layer in layers], dim=1)
        norms = torch.stack([torch.stack([layer.norm_1, layer.norm_2]) for layer in layers])
        shift, scale, gate = rows.unflatten(2, (2, 3)).unbind(3)
        return torch.stack([shift, (1 + scale) * norms, gate], dim=3).flatten(2, 3)

    def prefix_table(self, horizon: int) -> Tensor:
        """bool[H, 2 + H, 2 + H]: row p is the attention rule among the tokens behind p prefix rows."""
        lengths = torch.arange(horizon)
        table = attention_mask.token_mask(self.config.mask_variant, horizon, lengths, self.config.mask_window)
        return table.to(self.sink.device)

    def prepare(
        self, is_valid: Tensor, last_position: Tensor, prefix_length: Tensor, prefix_table: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What stays the same over the Euler steps.

        Args:
            is_valid: bool[B, L]. last_position, prefix_length: int64[B]. prefix_table: see there.

        Returns:
            attention bias [B, 1, 2 + H, L + 2 + H] (0 or minus infinity), cos and sin [B, 1, 2 + H, head_dim], and
            is_noisy bool[B, H, 1].
        """
        dtype = self.sink.dtype
        between = prefix_table[prefix_length]
        may_attend = attention_mask.full_mask(is_valid, between)
        bias = torch.zeros_like(may_attend, dtype=dtype).masked_fill(~may_attend, -torch.inf)
        num_tokens = between.shape[-1]
        index = torch.arange(num_tokens, device=is_valid.device)[None]
        is_noisy = index - 2 >= prefix_length[:, None]
        positions = last_position[:, None] + 1 + index + self.config.position_offset * is_noisy
        cos, sin = rotary_table(positions, self.frequency, dtype)
        return bias, cos, sin, is_noisy[:, 2:, None]

    def tokens(self, state: Tensor) -> Tensor:
        """The two tokens before the actions, [B, 2, width]: sink and state float[B, 1, S]."""
        return torch.cat([self.sink.expand(len(state), 1, -1), self.state(state)], dim=1)

    def forward(
        self,
        actions: Tensor,
        tokens: Tensor,
        action_mask: Tensor,
        modulation: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        bias: Tensor,
        cos: Tensor,
        sin: Tensor,
        is_noisy: Tensor,
        step_size: float,
    ) -> Tensor:
        """One Euler step: actions [B, H, A] -> the same, moved along the velocity; prefix rows keep their bits.

        Args:
            modulation: [layers, 6, width]. keys, values: per layer [B, heads, L + 2 + H, head_dim]; the last 2 + H rows are
                overwritten. The others: see `prepare` and `tokens`.
        """
        x = torch.cat([tokens, self.action(actions * action_mask)], dim=1)
        for index, layer in enumerate(self.layers):
            x = layer(x, modulation[index], keys[index], values[index], bias, cos, sin)
        velocity = self.output(x[:, 2:]).masked_fill(~is_noisy, 0.0)
        return actions + velocity * step_size


class ActionLayer(nn.Module):
    """One layer of the cerebellum; the norms before attention and MLP come with their weight from the modulation."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        attention, mlp = layer.attn, layer.mlp
        self.head_dim = attention.head_dim
        self.qkv = share_linear(attention.qkv_proj.weight, attention.qkv_proj.bias)
        self.query_norm, self.key_norm = share(attention.q_norm.weight), share(attention.k_norm.weight)
        self.out = share_linear(attention.o_proj.weight)
        self.gate_up = fuse_linear([mlp.gate_proj, mlp.up_proj])
        self.down = share_linear(mlp.down_proj.weight)
        self.norm_1, self.norm_2 = share(layer.input_layernorm.weight), share(layer.post_layernorm.weight)
        self.stream_norm_1, self.stream_norm_2 = (
            share(layer.middle_layernorm.weight),
            share(layer.final_layernorm.weight),
        )
        self.table = share(layer.adaln_table)

    def forward(
        self, x: Tensor, modulation: Tensor, keys: Tensor, values: Tensor, bias: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        """[B, 2 + H, width] -> the same; writes this layer's own K/V behind the context's."""
        shift_1, weight_1, gate_1, shift_2, weight_2, gate_2 = modulation
        num_tokens = x.shape[1]
        heads = (self.head_dim,)
        qkv = self.qkv(_norm(x, weight_1) + shift_1).unflatten(-1, (3, -1, self.head_dim))
        query, key, value = qkv.unbind(2)
        query = F.rms_norm(query, heads, self.query_norm, EPSILON).transpose(1, 2)
        key = F.rms_norm(key, heads, self.key_norm, EPSILON).transpose(1, 2)
        keys[:, :, -num_tokens:] = rotate(key, cos, sin)
        values[:, :, -num_tokens:] = value.transpose(1, 2)
        seen = F.scaled_dot_product_attention(rotate(query, cos, sin), keys, values, attn_mask=bias)
        x = _norm(x + gate_1 * self.out(seen.transpose(1, 2).flatten(2)), self.stream_norm_1)
        gate, up = self.gate_up(_norm(x, weight_2) + shift_2).chunk(2, dim=-1)
        return _norm(x + gate_2 * self.down(F.silu(gate) * up), self.stream_norm_2)


class TwoLayers(nn.Module):
    """Linear, tanh-GELU, linear."""

    def __init__(self, projector: Projector) -> None:
        super().__init__()
        self.first = share_linear(projector.get_parameter("layers.0.weight"))
        self.second = share_linear(projector.get_parameter("layers.2.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return self.second(F.gelu(self.first(x), approximate="tanh"))


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight, EPSILON)
