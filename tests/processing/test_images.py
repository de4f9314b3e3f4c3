from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from cerebella.processing.hub_processor import make_hub_processor
from cerebella.processing.images import RELEASED_MAX_PIXELS, ImageConfig, fit, fitted_size, patchify
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.types import ImageArray

XR0 = ImageConfig(16, max_pixels=RELEASED_MAX_PIXELS)
STOCK: dict[str, Any] = {
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
STOCK_SIZE: dict[str, Any] = {"size": {"shortest_edge": 65_536, "longest_edge": 16_777_216}}
"""What the stock Qwen3-VL preprocessor_config.json says."""


def noise(height: int, width: int) -> ImageArray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        ({"patch_size": 8, "do_resize": False}, [(64, 96)] * 3),
        ({"patch_size": 16, "do_resize": False}, [(64, 96), (32, 64)]),
        (STOCK_SIZE, [(256, 256), (200, 200), (84, 84), (480, 640), (256, 320)]),
        ({"min_pixels": 1024, "max_pixels": RELEASED_MAX_PIXELS}, [(480, 640), (720, 1280), (64, 96), (45, 37)]),
    ],
)
def test_pixels_equal_the_image_processor_of_transformers(config: dict[str, Any], sizes: list[tuple[int, int]]) -> None:
    """Bit for bit, with and without resizing."""
    images = [noise(height, width) for height, width in sizes]
    stock = Qwen2VLImageProcessorPil(**{**STOCK, **config})
    theirs = stock([Image.fromarray(image) for image in images], return_tensors="pt")
    ours = ImageConfig.from_preprocessor({**STOCK, **config})
    pixel_values, grid = patchify([fit(image, ours) for image in images], ours)
    assert torch.equal(grid, theirs["image_grid_thw"])
    assert torch.equal(pixel_values, theirs["pixel_values"])


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((480, 640), (256, 320)),
        ((720, 1280), (224, 384)),
        ((256, 256), (256, 256)),
        ((256, 320), (256, 320)),
        ((288, 320), (256, 288)),  # multiples of 32, but 92 160 px
        ((84, 84), (96, 96)),
        ((10, 200), (32, 192)),
        ((1, 1), (32, 32)),
    ],
)
def test_the_released_sizing_rule(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Values of `resize_image` in the released post-training code (height x width here)."""
    assert fitted_size(*size, XR0) == wanted
    assert fit(noise(*size), XR0).shape == (*wanted, 3)


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_a_fitted_picture_fits_and_is_left_alone(height: int, width: int) -> None:
    assume(max(height, width) <= 60 * min(height, width))  # thinner, and a single row of tokens is already too large
    fitted = fitted_size(height, width, XR0)
    assert all(side % 32 == 0 and side >= 32 for side in fitted)
    assert fitted[0] * fitted[1] <= RELEASED_MAX_PIXELS
    assert fitted_size(*fitted, XR0) == fitted


def test_what_fits_is_not_copied_and_without_a_limit_nothing_is_resized() -> None:
    image = noise(256, 320)
    assert fit(image, XR0) is image
    odd = noise(60, 96)
    assert fit(odd, ImageConfig(8)) is odd


def test_a_side_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"multiples of 16 px.*60 x 96"):
        patchify([np.zeros((60, 96, 3), dtype=np.uint8)], ImageConfig(8))


def test_the_processor_for_transformers_resizes_alike() -> None:
    tokenizer = train_tokenizer([robot_prompt(["base"], "pick it")], vocab_size=300)
    image = noise(480, 640)
    for config, picture in ((XR0, image), (ImageConfig(16), noise(64, 96))):
        hub = make_hub_processor(tokenizer, config)
        theirs = hub.image_processor([Image.fromarray(picture)], return_tensors="pt")
        pixel_values, grid = patchify([fit(picture, config)], config)
        assert torch.equal(pixel_values, theirs["pixel_values"])
        assert torch.equal(grid, theirs["image_grid_thw"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"min_pixels": 100}, "min_pixels 100 needs max_pixels"),
        ({"max_pixels": 1000}, "at least min_pixels and 32 x 32 px; got max_pixels 1000"),
        ({"max_pixels": 2000, "min_pixels": 3000}, "got max_pixels 2000, min_pixels 3000"),
    ],
)
def test_impossible_limits_are_refused(fields: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ImageConfig(16, **fields)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image_mean": [0.4, 0.5, 0.5]}, r"one number for all channels; got \[0.4, 0.5, 0.5\]"),
        ({"do_normalize": False}, "do_normalize False; supported is True"),
        ({"rescale_factor": 1.0}, "rescale_factor 1.0"),
        ({"resample": 2}, "resample 2; supported is 3"),
    ],
)
def test_an_image_processor_of_another_kind_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ImageConfig.from_preprocessor({**STOCK, **changed})
