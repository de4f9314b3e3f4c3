"""Camera images to the flat patches that a Qwen3-VL vision tower eats.

The layout equals Transformers' `Qwen2VLImageProcessor` with resizing disabled (a test compares the two); this one works
on whole batches, which is what makes small-model training on a CPU affordable.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cerebella.types import ImageArray


@dataclass(frozen=True)
class ImageConfig:
    """Geometry of the vision tower's input; pixel values become (x / 255 - mean) / std.

    Args:
        patch_size: side of a patch, pixels. merge_size: patches per language token along each side.
        temporal_patch_size: a still frame is repeated this often in time.
    """

    patch_size: int
    merge_size: int = 2
    temporal_patch_size: int = 2
    mean: float = 0.5
    std: float = 0.5

    @property
    def factor(self) -> int:
        """Sides must be a multiple of this; one language token covers factor x factor pixels."""
        return self.patch_size * self.merge_size


def patchify(images: Sequence[ImageArray], config: ImageConfig) -> tuple[Tensor, Tensor]:
    """Images to (`pixel_values` float32[patches, 3 * time * patch * patch], `image_grid_thw` int64[images, 3]).

    Args:
        images: uint8[h, w, 3] each; images of one size are handled in one stroke.

    Raises:
        ValueError: a side is not a multiple of `config.factor`.
    """
    grids = []
    for image in images:
        height, width = image.shape[:2]
        if height % config.factor or width % config.factor:
            raise ValueError(
                f"image sides must be multiples of {config.factor} px for this vision tower; got {height} x {width}"
            )
        grids.append((1, height // config.patch_size, width // config.patch_size))
    if len({image.shape for image in images}) == 1:
        pixels = _patchify_equal(np.stack(images), config)
    else:
        pixels = torch.cat([_patchify_equal(image[None], config) for image in images])
    return pixels, torch.tensor(grids, dtype=torch.int64)


def _patchify_equal(images: ImageArray, config: ImageConfig) -> Tensor:
    """uint8[n, h, w, 3] -> float32[n * patches, 3 * time * patch * patch], tokens of one merge block side by side."""
    num_images, height, width, _ = images.shape
    patch, merge = config.patch_size, config.merge_size
    blocks = torch.from_numpy(images).view(
        num_images, height // config.factor, merge, patch, width // config.factor, merge, patch, 3
    )
    # (image, block row, block column, row in block, column in block, channel, y, x)
    patches = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6)
    values = (patches.float() / 255 - config.mean) / config.std
    frames = values.unsqueeze(6).expand(*values.shape[:6], config.temporal_patch_size, patch, patch)
    return frames.reshape(-1, 3 * config.temporal_patch_size * patch * patch)
