"""The language model as an encoder with static shapes: tokens in, the K/V that the cerebellum reads out.

No word head; the last layer is cut down to its keys and values; only the layers that the cerebellum reads are kept.
Tokens are right padded, so the causal rule alone keeps real tokens from seeing padding.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextDecoderLayer, Qwen3VLTextModel

from cerebella.policies.engine.fuse import fuse_linear, share, share_linear


class LanguageModel(nn.Module):
    """See the module. Shares its weights with `model`; keeps the K/V of the last `num_kept` layers."""

    def __init__(self, model: Qwen3VLTextModel, num_kept: int) -> None:
        super().__init__()
        config = model.config
        self.head_dim, self.num_kv_heads = config.head_dim, config.num_key_value_heads
        self.epsilon = config.rms_norm_eps
        rope = cast(dict[str, Any], config.rope_parameters)
        self.embedding = share(model.embed_tokens.weight)
        self.frequency = nn.Buffer(model.rotary_emb.inv_freq.float(), persistent=False)
        self.axis = nn.Buffer(rotary_axes(rope["mrope_section"]).to(self.embedding.device), persistent=False)
        *others, last = cast(Iterable[Qwen3VLTextDecoderLayer], model.layers)
        self.layers = nn.ModuleList(LanguageLayer(layer) for layer in others)
        self.last_norm = share(last.input_layernorm.weight)
        self.last_kv = fuse_linear([last.self_attn.k_proj, last.self_attn.v_proj])
        self.last_key_norm = share(last.self_attn.k_norm.weight)
        self.first_kept = len(model.layers) - num_kept

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cos and sin [B, 1, L, head_dim] of positions int64[3, B, L]."""
        angle = positions.float()[self.axis].permute(1, 2, 0) * self.frequency
        angle = torch.cat([angle, angle], dim=-1)[:, None]
        dtype = self.embedding.dtype
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def forward(
        self,
        input_ids: Tensor,
        image_tokens: Tensor | None,
        taps: list[Tensor],
        image_index: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """K/V of the kept layers, each [B, num_kv_heads, L, head_dim].

        Args:
            input_ids: int64[B, L]. image_tokens: [N, width], None without pictures. taps: the same per DeepStack tap, added
                behind the first layers. image_index: int64[N] into the flattened tokens. cos, sin: see `rotation`.
        """
        x = F.embedding(input_ids, self.embedding)
        if image_tokens is not None:
            x = x.flatten(0, 1).index_copy(0, image_index, image_tokens).view_as(x)
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            x, key, value = layer(x, cos, sin)
            if index < len(taps):
                x = x.flatten(0, 1).index_add(0, image_index, taps[index]).view_as(x)
            if index >= self.first_kept:
                keys.append(key)
                values.append(value)
        key, value = self.last_kv(F.rms_norm(x, x.shape[-1:], self.last_norm, self.epsilon)).chunk(2, dim=-1)
        heads = (self.num_kv_heads, self.head_dim)
        key = F.rms_norm(key.unflatten(-1, heads), heads[1:], self.last_key_norm, self.epsilon).transpose(1, 2)
        keys.append(rotate(key, cos, sin))
        values.append(value.unflatten(-1, heads).transpose(1, 2))
        return keys, values


class LanguageLayer(nn.Module):
    """Grouped-query attention and SwiGLU with one product for query, key, value and one for gate and up."""

    def __init__(self, layer: Qwen3VLTextDecoderLayer) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.head_dim, self.epsilon = attention.head_dim, layer.input_layernorm.variance_epsilon
        self.num_heads = attention.q_proj.out_features // self.head_dim
        self.num_kv_heads = attention.k_proj.out_features // self.head_dim
        self.norm_1, self.norm_2 = share(layer.input_layernorm.weight), share(layer.post_attention_layernorm.weight)
        self.query_norm, self.key_norm = share(attention.q_norm.weight), share(attention.k_norm.weight)
        self.qkv = fuse_linear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = share_linear(attention.o_proj.weight, attention.o_proj.bias)
        self.gate_up = fuse_linear([mlp.gate_proj, mlp.up_proj])
        self.down = share_linear(mlp.down_proj.weight)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, L, width] -> the same, and this layer's rotated keys and values [B, num_kv_heads, L, head_dim]."""
        qkv = self.qkv(F.rms_norm(x, x.shape[-1:], self.norm_1, self.epsilon)).unflatten(-1, (-1, self.head_dim))
        query, key, value = qkv.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=-2)
        query = F.rms_norm(query, query.shape[-1:], self.query_norm, self.epsilon).transpose(1, 2)
        key = F.rms_norm(key, key.shape[-1:], self.key_norm, self.epsilon).transpose(1, 2)
        query, key, value = rotate(query, cos, sin), rotate(key, cos, sin), value.transpose(1, 2)
        seen = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=self.num_heads != self.num_kv_heads
        )
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(F.rms_norm(x, x.shape[-1:], self.norm_2, self.epsilon)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up), key, value


def rotary_axes(sections: Sequence[int]) -> Tensor:
    """The axis that each rotary frequency belongs to, int64[head_dim / 2]: 0 time, 1 height, 2 width.

    The axes take turns (interleaved) until height and width have as many as `sections` says; time gets what is left.
    """
    axis = torch.zeros(sum(sections), dtype=torch.int64)
    for which, section in enumerate(sections[1:], start=1):
        axis[which : 3 * section : 3] = which
    return axis


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + head_dim / 2) of [B, heads, L, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
