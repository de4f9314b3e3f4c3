"""Camera images to the flat patches that a Qwen3-VL vision tower eats.

The layout equals Transformers' `Qwen2VLImageProcessor`, with and without resizing (a test compares the two); this one
works on whole batches, which is what makes small-model training on a CPU affordable.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from cerebella.batch import NUM_FRAMES, PIXEL_MEAN, PIXEL_STD
from cerebella.types import ImageArray

RELEASED_MAX_PIXELS = 90_000
"""Largest picture of the released post-training code: 640 x 480 becomes 320 x 256, 1280 x 720 becomes 384 x 224."""


@dataclass(frozen=True)
class ImageConfig:
    """Geometry of the vision tower's input; pixel values become (x / 255 - mean) / std.

    Args:
        patch_size: side of a patch, pixels. merge_size: patches per language token along each side.
        temporal_patch_size: a still frame is repeated this often in time.
        max_pixels: pictures are resized so that both sides are multiples of `factor` and the area is at most this; None
            leaves every picture as it is, and one whose sides do not fit is an error.
        min_pixels: with `max_pixels`, pictures of a smaller area are enlarged to at least this.
    """

    patch_size: int
    merge_size: int = 2
    temporal_patch_size: int = 2
    mean: float = 0.5
    std: float = 0.5
    max_pixels: int | None = None
    min_pixels: int = 0

    def __post_init__(self) -> None:
        for name in ("patch_size", "merge_size", "temporal_patch_size"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise ValueError(f"images: {name} must be an integer of 1 or more; got {value!r}")
        if not math.isfinite(self.mean) or not math.isfinite(self.std) or self.std <= 0:
            raise ValueError(f"images: mean and std must be finite, std above 0; got {self.mean} and {self.std}")
        if self.max_pixels is None:
            if self.min_pixels:
                raise ValueError(f"min_pixels {self.min_pixels} needs max_pixels; without it nothing is resized")
        elif not 0 <= self.min_pixels <= self.max_pixels or self.max_pixels < self.factor**2:
            raise ValueError(
                f"max_pixels must be at least min_pixels and {self.factor} x {self.factor} px; "
                f"got max_pixels {self.max_pixels}, min_pixels {self.min_pixels}"
            )

    @property
    def factor(self) -> int:
        """Sides must be a multiple of this; one language token covers factor x factor pixels."""
        return self.patch_size * self.merge_size

    @classmethod
    def from_preprocessor(cls, config: Mapping[str, Any]) -> "ImageConfig":
        """What a `preprocessor_config.json` of the Qwen family says; unset fields are the defaults of its class.

        Raises:
            ValueError: it rescales or normalises in a way that this one cannot.
        """
        stock = Qwen2VLImageProcessorPil(**{name: value for name, value in config.items() if name in _READ_FIELDS})
        if len(set(stock.image_mean)) > 1 or len(set(stock.image_std)) > 1:
            raise ValueError(
                "image_mean and image_std must be one number for all channels; "
                f"got {list(stock.image_mean)} and {list(stock.image_std)}"
            )
        wanted = {"do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "resample": 3}  # 3 is bicubic
        for name, value in wanted.items():
            if abs(getattr(stock, name) - value) > 1e-9:
                raise ValueError(f"an image processor with {name} {getattr(stock, name)!r}; supported is {value!r}")
        return cls(
            patch_size=stock.patch_size,
            merge_size=stock.merge_size,
            temporal_patch_size=stock.temporal_patch_size,
            mean=stock.image_mean[0],
            std=stock.image_std[0],
            max_pixels=stock.size["longest_edge"] if stock.do_resize else None,
            min_pixels=stock.size["shortest_edge"] if stock.do_resize else 0,
        )


_READ_FIELDS = (
    *("patch_size", "merge_size", "temporal_patch_size", "image_mean", "image_std", "rescale_factor"),
    *("do_resize", "do_rescale", "do_normalize", "resample", "size", "min_pixels", "max_pixels"),
)


def fitted_size(height: int, width: int, config: ImageConfig) -> tuple[int, int]:
    """(height, width) that a picture of this size gets, pixels.

    Both sides go to the nearest multiple of `factor`, at least one; too large an area is scaled by
    sqrt(area / max_pixels) and rounded down to multiples (released post-training code; Transformers' `smart_resize`).

    Raises:
        ValueError: one side is more than 200 times the other.
    """
    if config.max_pixels is None:
        return height, width
    size = smart_resize(height, width, config.factor, min_pixels=config.min_pixels, max_pixels=config.max_pixels)
    return max(config.factor, size[0]), max(config.factor, size[1])


def fit(image: ImageArray, config: ImageConfig) -> ImageArray:
    """uint8[h, w, 3] resized to its `fitted_size`, bicubic as in the released code; untouched where it fits already."""
    height, width = image.shape[:2]
    wanted = fitted_size(height, width, config)
    if wanted == (height, width):
        return image
    return np.array(Image.fromarray(image).resize((wanted[1], wanted[0]), Image.Resampling.BICUBIC))


def patchify(images: Sequence[ImageArray], config: ImageConfig, as_bytes: bool = False) -> tuple[Tensor, Tensor]:
    """Images to (`pixel_values` float32[patches, 3 * time * patch * patch], `image_grid_thw` int64[images, 3]).

    Args:
        images: uint8[h, w, 3] each, already fitted; images of one size are handled in one stroke.
        as_bytes: leave the pixels uint8[patches, 3 * patch * patch], to be normalised on the device (`BrainInput.to`). A
            config with another normalisation than Qwen3-VL's gives numbers all the same.

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
    as_bytes &= (config.mean, config.std, config.temporal_patch_size) == (PIXEL_MEAN, PIXEL_STD, NUM_FRAMES)
    if len({image.shape for image in images}) == 1:
        pixels = _patchify_equal(np.stack(images), config, as_bytes)
    else:
        pixels = torch.cat([_patchify_equal(image[None], config, as_bytes) for image in images])
    return pixels, torch.tensor(grids, dtype=torch.int64)


def _patchify_equal(images: ImageArray, config: ImageConfig, as_bytes: bool) -> Tensor:
    """uint8[n, h, w, 3] -> as `patchify`, tokens of one merge block side by side."""
    num_images, height, width, _ = images.shape
    patch, merge = config.patch_size, config.merge_size
    blocks = torch.from_numpy(images).view(
        num_images, height // config.factor, merge, patch, width // config.factor, merge, patch, 3
    )
    # (image, block row, block column, row in block, column in block, channel, y, x)
    patches = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6)
    if as_bytes:
        return patches.reshape(-1, 3 * patch * patch)
    values = (patches.float() / 255 - config.mean) / config.std
    frames = values.unsqueeze(6).expand(*values.shape[:6], config.temporal_patch_size, patch, patch)
    return frames.reshape(-1, 3 * config.temporal_patch_size * patch * patch)
