"""Training augmentation of camera images, as in the released post-training code (`JsonDataset._augment`).

One sample's views keep belonging together: which changes are made and how strongly is drawn once for all of them; only
the position of the crop is drawn view by view. The released code's hue change has the amount 0 and is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from cerebella.types import ImageArray


@dataclass(frozen=True)
class Augmentation:
    """Random crop and colour; the defaults are the released ones.

    Args:
        crop_fraction: side of the crop over side of the image, rounded down to pixels; always made, resized back
            (bilinear).
        brightness: factor drawn from 1 - brightness to 1 + brightness.
        contrast, saturation: (lowest, highest) factor; 1 changes nothing.
        probability: of each of the three colour changes.
    """

    crop_fraction: float = 0.95
    brightness: float = 32 / 255
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must be above 0 and at most 1; got {self.crop_fraction}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in 0..1; got {self.probability}")
        ranges = {"brightness": (1 - self.brightness, 1 + self.brightness)}
        for name, (low, high) in (ranges | {"contrast": self.contrast, "saturation": self.saturation}).items():
            if not 0 <= low <= high:
                raise ValueError(f"{name} factors must be 0 or more, lowest first; got {low} to {high}")

    def apply(self, images: Sequence[ImageArray], generator: np.random.Generator) -> list[ImageArray]:
        """The views of one sample, uint8[h, w, 3] each, changed; sizes stay. The generator's state decides all of it."""
        factors = (
            (ImageEnhance.Brightness, generator.uniform(1 - self.brightness, 1 + self.brightness)),
            (ImageEnhance.Contrast, generator.uniform(*self.contrast)),
            (ImageEnhance.Color, generator.uniform(*self.saturation)),
        )
        is_made = generator.random(len(factors)) < self.probability
        changed = []
        for image in images:
            picture = self._crop(image, generator)
            for make, (enhancer, factor) in zip(is_made, factors, strict=True):
                if make:
                    picture = enhancer(picture).enhance(float(factor))
            changed.append(np.array(picture))
        return changed

    def _crop(self, image: ImageArray, generator: np.random.Generator) -> Image.Image:
        height, width = image.shape[:2]
        crop_height, crop_width = (max(1, int(side * self.crop_fraction)) for side in (height, width))
        top = int(generator.integers(height - crop_height + 1))
        left = int(generator.integers(width - crop_width + 1))
        cropped = Image.fromarray(image[top : top + crop_height, left : left + crop_width])
        return cropped.resize((width, height), Image.Resampling.BILINEAR)
