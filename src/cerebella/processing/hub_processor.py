"""The same processing as Transformers sees it: an image-and-text `Qwen3VLProcessor` that needs no video and no torchvision.

A policy directory carries its files, so that the brain can be used with Transformers alone. `Processor` is what Cerebella
itself runs (whole batches, no Python per image); a test holds the two together.
"""

from typing import Any

from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl import processing_qwen3_vl
from transformers.processing_utils import ProcessorMixin

from cerebella.processing.images import ImageConfig


class Qwen3VLProcessor(processing_qwen3_vl.Qwen3VLProcessor):
    """Transformers' class of this name without its video half, which needs torchvision.

    The name is the same on purpose: it is written into the saved files, and the stock `AutoProcessor` must know it.
    """

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.vision_start_token, self.vision_end_token = "<|vision_start|>", "<|vision_end|>"
        for name in ("image_token", "video_token", "vision_start_token", "vision_end_token"):
            setattr(self, f"{name}_id", tokenizer.convert_tokens_to_ids(getattr(self, name)))
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def make_hub_processor(tokenizer: Qwen2Tokenizer, images: ImageConfig) -> Qwen3VLProcessor:
    """The Transformers processor with this tokenizer and image geometry."""
    sizes = {}
    if images.max_pixels is not None:
        sizes["size"] = {"shortest_edge": max(1, images.min_pixels), "longest_edge": images.max_pixels}
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=images.patch_size,
        merge_size=images.merge_size,
        temporal_patch_size=images.temporal_patch_size,
        image_mean=[images.mean] * 3,
        image_std=[images.std] * 3,
        do_resize=images.max_pixels is not None,
        **sizes,
    )
    return Qwen3VLProcessor(image_processor=image_processor, tokenizer=tokenizer)
