"""Taxel images to one token per finger: a small vision transformer, an MLP, and the convolutional branches of version 1.

All of them map pressures float[B, F, R, C] (counts / 255) to tokens float[B, F, width]. The first two share their weights over
fingers; the branches do not.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_DIM = 32
MLP_RATIO = 2
"""Width inside a feed-forward network, in widths of the stream."""


@dataclass(frozen=True)
class EncoderGeometry:
    """What an encoder must know of the sensor and of itself; the first fields of `TouchRefinerConfig`.

    Args:
        num_fingers, num_rows, num_columns: of the taxels.
        width: of the tokens.
        patch_rows, patch_columns, patch_width, encoder_depth: of the encoder. The MLP reads the depth, the branches read the
            patch width as their channels.
    """

    num_fingers: int = 5
    num_rows: int = 11
    num_columns: int = 9
    width: int = 128
    patch_rows: int = 4
    patch_columns: int = 3
    patch_width: int = 32
    encoder_depth: int = 1


class Attention(nn.Module):
    """Multi-head attention of tokens x to tokens y; one head per `HEAD_DIM` of the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """float[B, T, width], float[B, S, width] -> float[B, T, width]."""
        query = self.query(x).unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)
        key, value = self.key_value(y).unflatten(-1, (2, -1, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer block, norms first. With `context` tokens it looks at those instead of at its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width)
        self.up, self.down = nn.Linear(width, MLP_RATIO * width), nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """float[B, T, width] (context float[B, S, width]) -> float[B, T, width]."""
        seen = self.norm_1(x)
        x = x + self.attention(seen, seen if context is None else self.norm_1(context))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class VitEncoder(nn.Module):
    """Patches through a linear layer, transformer blocks over the patches of one finger, all of them joined to a token.

    Rows and columns that fill no patch are padded with zeros behind the last ones. Patches are joined, not averaged: where a
    contact lies is what the token is for.
    """

    def __init__(self, config: EncoderGeometry) -> None:
        super().__init__()
        self.patch = (config.patch_rows, config.patch_columns)
        rows, columns = (
            -(-n // size) for n, size in zip((config.num_rows, config.num_columns), self.patch, strict=True)
        )
        self.padding = (0, columns * self.patch[1] - config.num_columns, 0, rows * self.patch[0] - config.num_rows)
        self.to_patches = nn.Linear(self.patch[0] * self.patch[1], config.patch_width)
        self.position_embed = nn.Parameter(0.02 * torch.randn(rows * columns, config.patch_width))
        self.blocks = nn.ModuleList(Block(config.patch_width) for _ in range(config.encoder_depth))
        self.norm = nn.LayerNorm(config.patch_width)
        self.join = nn.Linear(rows * columns * config.patch_width, config.width)

    def forward(self, pressures: Tensor) -> Tensor:
        """See the module."""
        height, width = self.patch
        images = F.pad(pressures.flatten(0, 1), self.padding)
        cut = images.unflatten(2, (-1, width)).unflatten(1, (-1, height)).transpose(2, 3)
        x = self.to_patches(cut.flatten(3).flatten(1, 2)) + self.position_embed
        for block in self.blocks:
            x = block(x)
        return self.join(self.norm(x).flatten(1)).unflatten(0, pressures.shape[:2])


class MlpEncoder(nn.Module):
    """All taxels of a finger through `encoder_depth` hidden layers."""

    def __init__(self, config: EncoderGeometry) -> None:
        super().__init__()
        widths = [config.num_rows * config.num_columns, *[2 * config.width] * config.encoder_depth]
        hidden = [
            layer
            for narrow, wide in pairwise(widths)
            for layer in (nn.Linear(narrow, wide), nn.GELU(approximate="tanh"))
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], config.width))

    def forward(self, pressures: Tensor) -> Tensor:
        """See the module."""
        return self.layers(pressures.flatten(2))


class ConvolutionalBranches(nn.Module):
    """A convolutional branch of its own for every finger, as groups of one convolution."""

    def __init__(self, config: EncoderGeometry) -> None:
        super().__init__()
        fingers, channels = config.num_fingers, config.patch_width
        self.num_fingers = fingers
        self.first = nn.Conv2d(fingers, fingers * channels // 2, 3, padding=1, groups=fingers)
        self.second = nn.Conv2d(fingers * channels // 2, fingers * channels, 3, stride=2, padding=1, groups=fingers)
        self.third = nn.Conv2d(fingers * channels, fingers * channels, 3, stride=2, padding=1, groups=fingers)
        rows, columns = (-(-n // 4) for n in (config.num_rows, config.num_columns))
        # One linear layer per finger: a convolution over all that is left.
        self.join = nn.Conv2d(fingers * channels, fingers * config.width, (rows, columns), groups=fingers)

    def forward(self, pressures: Tensor) -> Tensor:
        """See the module."""
        x = pressures
        for layer in (self.first, self.second, self.third):
            x = F.gelu(layer(x), approximate="tanh")
        return self.join(x).flatten(1).unflatten(1, (self.num_fingers, -1))
