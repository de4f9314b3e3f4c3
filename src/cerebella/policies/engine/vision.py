"""The vision tower with static shapes: patches in, image tokens and DeepStack features out.

Same arithmetic as Transformers' `Qwen3VLVisionModel`, without its per-image splits, which read sizes from the device.
"""

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionBlock, Qwen3VLVisionModel

from cerebella.policies.engine.fuse import share, share_linear
from cerebella.policies.engine.layout import Grid, patch_coordinates

EPSILON = 1e-6


class VisionTower(nn.Module):
    """See the module. Shares its weights with `visual`."""

    def __init__(self, visual: Qwen3VLVisionModel) -> None:
        super().__init__()
        config = visual.config
        self.head_dim = config.hidden_size // config.num_heads
        self.merge_size = config.spatial_merge_size
        self.frequency = nn.Buffer(visual.rotary_pos_emb.inv_freq.float(), persistent=False)
        self.taps = tuple(config.deepstack_visual_indexes)
        self.grid_side = int(config.num_position_embeddings**0.5)
        self.position_table = share(visual.pos_embed.weight)
        projection = visual.patch_embed.proj
        self.patch = share_linear(projection.weight.flatten(1), projection.bias)
        blocks = cast(Iterable[Qwen3VLVisionBlock], visual.blocks)
        self.blocks = nn.ModuleList(VisionBlock(block, self.head_dim) for block in blocks)
        self.merger = Merger(visual.merger)
        self.tap_mergers = nn.ModuleList(Merger(merger) for merger in visual.deepstack_merger_list)

    def constants(self, grids: tuple[Grid, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """What depends on the picture sizes only: position embedding [P, width], cos and sin float32[P, 1, head_dim]."""
        coordinates = patch_coordinates(grids, self.merge_size)
        device, side = self.position_table.device, self.grid_side
        table = self.position_table.float()
        embeddings, angles = [], []
        frequency = self.frequency.cpu()
        for (height, width), (row, column) in zip(grids, coordinates, strict=True):
            embedding = torch.zeros(len(row), table.shape[1], device=device)
            for row_tap, row_weight in _axis_taps(row, height, side):
                for column_tap, column_weight in _axis_taps(column, width, side):
                    weight = torch.from_numpy(row_weight * column_weight).to(device)
                    embedding += table[torch.from_numpy(row_tap * side + column_tap).to(device)] * weight[:, None]
            embeddings.append(embedding)
            axes = [torch.from_numpy(axis).float()[:, None] * frequency for axis in (row, column)]
            angles.append(torch.cat([*axes, *axes], dim=-1))
        angle = torch.cat(angles)[:, None]
        return (
            torch.cat(embeddings).to(self.position_table.dtype),
            angle.cos().to(device),
            angle.sin().to(device),
        )

    def forward(
        self, pixels: Tensor, position: Tensor, cos: Tensor, sin: Tensor, grids: tuple[Grid, ...]
    ) -> tuple[Tensor, list[Tensor]]:
        """pixels [P, 3 * time * patch * patch] -> image tokens [N, brain width] and the same for every DeepStack tap."""
        x = self.patch(pixels) + position
        taps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x, cos, sin, grids)
            if index in self.taps:
                taps.append(self.tap_mergers[self.taps.index(index)](x))
        return self.merger(x), taps


class VisionBlock(nn.Module):
    """Attention within each picture, then the MLP; LayerNorm before both."""

    def __init__(self, block: Qwen3VLVisionBlock, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.norm_1, self.norm_2 = block.norm1, block.norm2
        self.qkv = share_linear(block.attn.qkv.weight, block.attn.qkv.bias)
        self.out = share_linear(block.attn.proj.weight, block.attn.proj.bias)
        self.up = share_linear(block.mlp.linear_fc1.weight, block.mlp.linear_fc1.bias)
        self.down = share_linear(block.mlp.linear_fc2.weight, block.mlp.linear_fc2.bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, grids: tuple[Grid, ...]) -> Tensor:
        """[P, width] -> [P, width]."""
        query, key, value = self.qkv(self.norm_1(x)).unflatten(-1, (3, -1, self.head_dim)).unbind(1)
        query, key = _rotate(query, cos, sin), _rotate(key, cos, sin)
        x = x + self.out(_attend_within(query, key, value, grids).flatten(1))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class Merger(nn.Module):
    """Four patches side by side become one token of the brain's width."""

    def __init__(self, merger: nn.Module) -> None:
        super().__init__()
        first, second = merger.get_submodule("linear_fc1"), merger.get_submodule("linear_fc2")
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        self.norm = merger.get_submodule("norm")
        self.norms_merged = bool(merger.use_postshuffle_norm)
        self.width = first.in_features
        self.up = share_linear(first.weight, first.bias)
        self.down = share_linear(second.weight, second.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[P, width] -> [P / 4, brain width]."""
        x = self.norm(x.view(-1, self.width)) if self.norms_merged else self.norm(x).view(-1, self.width)
        return self.down(F.gelu(self.up(x)))


def _attend_within(query: Tensor, key: Tensor, value: Tensor, grids: tuple[Grid, ...]) -> Tensor:
    """[P, heads, head_dim] each; pictures do not see each other. Equal pictures go through one batched product."""
    if len(set(grids)) == 1:
        shape = (len(grids), -1, *query.shape[1:])
        query, key, value = (x.reshape(shape).transpose(1, 2) for x in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(0, 1)
    seen: list[Tensor] = []
    start = 0
    for height, width in grids:
        rows = slice(start, start + height * width)
        q, k, v = (x[rows].transpose(0, 1)[None] for x in (query, key, value))
        seen.append(F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1))
        start += height * width
    return torch.cat(seen)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate [P, heads, head_dim] in float32, as the brain was trained."""
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def _axis_taps(index: np.ndarray, size: int, side: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Linear interpolation of `side` learned positions to `size` patches, ends aligned: two (tap, weight) pairs."""
    place = index.astype(np.float32) * np.float32((side - 1) / (size - 1) if size > 1 else 0.0)
    low = np.floor(place).astype(np.int64)
    share_of_high = (place - low).astype(np.float32)
    return [(low, 1 - share_of_high), (np.minimum(low + 1, side - 1), share_of_high)]
