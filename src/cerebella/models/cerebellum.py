"""The cerebellum: a diffusion transformer (DiT) that turns noise into actions while it looks at the brain's cache.

Its sequence is [sink, state, action_0 ... action_{H-1}]. Layer i attends jointly to its own tokens and to the cached
K/V of brain layer N - L + i, without any projection between. Module names equal the tensor names of the released
Xiaomi-Robotics-0 checkpoints (`layers.N.*` is `dit.layers.N.*` there), so that loading is a change of prefix.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cerebella.models import attention_mask, flow
from cerebella.models.config import ModelConfig
from cerebella.models.context import Context

EPSILON = 1e-6
NUM_TIME_FREQUENCIES = 128
TIME_SCALE = 1000.0
MAX_PERIOD = 10000.0


@dataclass(frozen=True, eq=False)
class Seating:
    """What stays the same over all flow steps of one batch.

    Args:
        prefix_length: int64[B].
        may_attend: bool[B, 1, 2 + H, L + 2 + H].
        cos, sin: float[B, 1, 2 + H, head_dim], the rotation of each token.
    """

    prefix_length: Tensor
    may_attend: Tensor
    cos: Tensor
    sin: Tensor


class Projector(nn.Module):
    """Two linear layers without bias and a tanh-GELU between, as wide inside as at the end."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_in, num_out, bias=False), nn.GELU(approximate="tanh"), nn.Linear(num_out, num_out, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """float[..., num_in] -> float[..., num_out]."""
        return self.layers(x)


class FlowTimeEmbedder(nn.Module):
    """flow_time float[B] -> float[B, width]: 128 cosines, 128 sines of 1000 flow_time, then a two-layer MLP (SiLU)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * NUM_TIME_FREQUENCIES, width, bias=False), nn.SiLU(), nn.Linear(width, width, bias=False)
        )

    def forward(self, flow_time: Tensor) -> Tensor:
        """Angles are computed in float32 and cast to the weights' type."""
        step = torch.arange(NUM_TIME_FREQUENCIES, dtype=torch.float32, device=flow_time.device)
        frequency = torch.exp(-math.log(MAX_PERIOD) * step / NUM_TIME_FREQUENCIES)
        angle = (flow_time * TIME_SCALE).float()[:, None] * frequency[None]
        return self.mlp(torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.mlp.get_parameter("0.weight").dtype))


class Modulation(nn.Module):
    """float[B, width] -> float[B, 6, width]: shift, scale, gate of the attention, then of the MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor) -> Tensor:
        """One row per modulation vector."""
        return self.layers(x).unflatten(-1, (6, -1))


class Attention(nn.Module):
    """Joint attention to the context and to the own tokens; RMSNorm per head on queries and keys, then rotation."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(head_dim, eps=EPSILON)
        self.k_norm = nn.RMSNorm(head_dim, eps=EPSILON)

    def forward(self, x: Tensor, context_key: Tensor, context_value: Tensor, seating: Seating) -> Tensor:
        """x: float[B, T, width]; context float[B, num_kv_heads, L, head_dim] -> float[B, T, width].

        Each context head serves heads / num_kv_heads neighbouring heads.
        """
        query, key, value = self.qkv_proj(x).unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        query = rotate(self.q_norm(query), seating.cos, seating.sin)
        key = rotate(self.k_norm(key), seating.cos, seating.sin)
        num_repeats = query.shape[1] // context_key.shape[1]
        if num_repeats > 1:
            context_key = context_key.repeat_interleave(num_repeats, dim=1)
            context_value = context_value.repeat_interleave(num_repeats, dim=1)
        key, value = torch.cat([context_key, key], dim=2), torch.cat([context_value, value], dim=2)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=seating.may_attend)
        return self.o_proj(seen.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """down(SiLU(gate(x)) * up(x)), four times as wide inside, without bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, 4 * width, bias=False)
        self.up_proj = nn.Linear(width, 4 * width, bias=False)
        self.down_proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """float[..., width] -> float[..., width]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and MLP, each between two RMSNorms; the second of each pair normalises the stream itself."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.attn = Attention(width, head_dim)
        self.mlp = SwiGLU(width)
        self.input_layernorm = nn.RMSNorm(width, eps=EPSILON)
        self.middle_layernorm = nn.RMSNorm(width, eps=EPSILON)
        self.post_layernorm = nn.RMSNorm(width, eps=EPSILON)
        self.final_layernorm = nn.RMSNorm(width, eps=EPSILON)
        self.adaln_table = nn.Parameter(torch.randn(6, width) / width**0.5)

    def forward(
        self, x: Tensor, context_key: Tensor, context_value: Tensor, seating: Seating, modulation: Tensor
    ) -> Tensor:
        """x: float[B, T, width]; modulation: float[B, 6, width], the part that all layers share."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = (self.adaln_table + modulation).split(1, dim=1)
        seen = self.attn(self.input_layernorm(x) * (1 + scale_1) + shift_1, context_key, context_value, seating)
        x = self.middle_layernorm(x + gate_1 * seen)
        thought = self.mlp(self.post_layernorm(x) * (1 + scale_2) + shift_2)
        return self.final_layernorm(x + gate_2 * thought)


class RotaryFrequencies(nn.Module):
    """Radians per position of each rotated pair, float32[head_dim / 2]; not stored in checkpoints.

    A cast of the whole model to bfloat16 rounds them, as it does the brain's, so that both keep turning alike; the
    released server and training code run that way.
    """

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.inv_freq = nn.Buffer(rotary_frequencies(head_dim, theta), persistent=False)


class Cerebellum(nn.Module):
    """Context, state and noisy actions in, velocity out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.layers = nn.ModuleList(Layer(width, config.head_dim) for _ in range(config.num_layers))
        self.state_projector = Projector(config.state_dim, width)
        self.action_projector = Projector(config.action_dim, width)
        self.action_output_layer = Projector(width, config.action_dim)
        self.t_embedder = FlowTimeEmbedder(width)
        self.t_projector = Modulation(width)
        self.sink = nn.Embedding(1, width)
        self.rotary_emb = RotaryFrequencies(config.head_dim, config.rope_theta)

    def seat(
        self, context: Context, horizon: int, prefix_length: Tensor, hidden_columns: Tensor | None = None
    ) -> Seating:
        """Mask and rotation of every token, from the config's variant, window and offset.

        Args:
            horizon: H, 1 or more; no weight depends on it. prefix_length: int64[B], each in 0..H-1.
            hidden_columns: bool[H], training only.
        """
        config = self.config
        between = attention_mask.token_mask(
            config.mask_variant, horizon, prefix_length, config.mask_window, hidden_columns
        )
        positions = attention_mask.token_positions(
            context.last_position, horizon, prefix_length, config.position_offset
        )
        cos, sin = rotary_table(positions, self.rotary_emb.inv_freq, context.keys[0].dtype)
        return Seating(prefix_length, attention_mask.full_mask(context.is_valid, between), cos, sin)

    def forward(
        self,
        context: Context,
        seating: Seating,
        state: Tensor,
        noisy_actions: Tensor,
        flow_time: Tensor,
        action_mask: Tensor,
    ) -> Tensor:
        """Velocity, float[B, H, A]; exactly 0 on prefix rows.

        Args:
            state: float[B, 1, S]. noisy_actions: float[B, H, A], clean on prefix rows. flow_time: float[B], one for
                the whole sequence. action_mask: float[B, H, A]; unused action slots enter as 0.
        """
        modulation = self.t_projector(self.t_embedder(flow_time))
        sink = self.sink.weight.expand(len(noisy_actions), 1, -1)
        actions = self.action_projector(noisy_actions * action_mask)
        x = torch.cat([sink, self.state_projector(state), actions], dim=1)
        for layer, key, value in zip(self.layers, context.keys, context.values, strict=True):
            x = layer(x, key, value, seating, modulation)
        velocity = self.action_output_layer(x[:, 2:])
        return velocity.masked_fill(~flow.rows_are_noisy(seating.prefix_length, velocity.shape[1]), 0.0)


def rotary_frequencies(head_dim: int, theta: float) -> Tensor:
    """Radians per position of each rotated pair, float32[head_dim / 2]."""
    return 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)


def rotary_table(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary embedding, [B, 1, T, head_dim] each.

    The brain rotates on three axes; the cerebellum's tokens have the same index on all of them, which makes its
    interleaved form the ordinary one-axis form.

    Args:
        positions: int64[B, T]. frequencies: float[head_dim / 2], see `RotaryFrequencies`.
    """
    angle = positions[:, None, :, None].float() * frequencies.float()
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + head_dim / 2) of float[B, heads, T, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
