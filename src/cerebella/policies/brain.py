"""A brain by itself, in the layout of Transformers: what `pretrain_brain` starts from, small or published.

Qwen3-VL checkpoints have this layout, and so have the brains that are trained here from nothing. `checkpoint.load_brain` reads
the weights.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.embodiment import read_json_object
from cerebella.models.config import ModelConfig
from cerebella.models.published import BRAIN_TYPE, brain_fields
from cerebella.models.vla import VLA
from cerebella.policies.stored import check_images, read_tokenizer
from cerebella.processing.hub_processor import make_hub_processor
from cerebella.processing.images import ImageConfig

PREPROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class BrainFiles:
    """What comes with the weights of a brain.

    Args:
        directory: where it is. tokenizer: its words. images: how it cuts pictures.
    """

    directory: Path
    tokenizer: Qwen2Tokenizer
    images: ImageConfig


def is_brain(directory: Path) -> bool:
    """Whether a directory holds a plain Qwen3-VL."""
    path = directory / "config.json"
    return path.is_file() and read_json_object(path).get("model_type") == BRAIN_TYPE


def read_brain(directory: Path, config: ModelConfig) -> BrainFiles:
    """Tokenizer and picture geometry of a brain directory, checked against the geometry that a model wants.

    Raises:
        FileNotFoundError: a file is missing. ValueError: no Qwen3-VL, or one of another geometry.
    """
    if not is_brain(directory):
        raise ValueError(f"{directory} holds no plain Qwen3-VL (config.json with model_type {BRAIN_TYPE!r})")
    stored = brain_fields(read_json_object(directory / "config.json"))
    for part in ("text_config", "vision_config"):
        for name, wanted in config.brain[part].items():
            found = stored.get(part, {}).get(name)
            if isinstance(wanted, int) and found != wanted:
                raise ValueError(
                    f"{directory}: {part}.{name} of this brain is {found}; the model {config.name!r} wants {wanted}"
                )
    images = ImageConfig.from_preprocessor(read_json_object(directory / PREPROCESSOR_FILE))
    check_images(images, config)
    return BrainFiles(directory, read_tokenizer(directory, config), images)


def save_brain(
    directory: Path, model: VLA, tokenizer: Qwen2Tokenizer, images: ImageConfig, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write the brain of `model` so that Transformers loads it (`AutoModelForImageTextToText`), rounded to `dtype`."""
    directory.mkdir(parents=True, exist_ok=True)
    tied = "lm_head.weight" if model.brain.config.tie_word_embeddings else ""
    weights = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in model.brain.state_dict().items()
        if name != tied
    }
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    config = copy.deepcopy(model.brain.config)
    config.dtype, config.architectures = dtype, [type(model.brain).__name__]
    config.save_pretrained(directory)
    processor = make_hub_processor(tokenizer, images)
    processor.save_pretrained(directory)
    processor.image_processor.save_pretrained(directory)
