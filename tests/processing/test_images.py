import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from cerebella.processing.images import ImageConfig, patchify


@pytest.mark.parametrize(("patch_size", "sizes"), [(8, [(64, 96)] * 3), (16, [(64, 96), (32, 64)])])
def test_patches_equal_the_image_processor_of_transformers(patch_size: int, sizes: list[tuple[int, int]]) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]
    theirs = Qwen2VLImageProcessorPil(
        patch_size=patch_size,
        merge_size=2,
        temporal_patch_size=2,
        do_resize=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )([Image.fromarray(image) for image in images], return_tensors="pt")
    pixel_values, grid = patchify(images, ImageConfig(patch_size))
    torch.testing.assert_close(pixel_values, theirs["pixel_values"], rtol=0, atol=1e-6)
    assert torch.equal(grid, theirs["image_grid_thw"])


def test_a_side_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"multiples of 16 px.*60 x 96"):
        patchify([np.zeros((60, 96, 3), dtype=np.uint8)], ImageConfig(8))
