"""What the policy directory and the released layout have in common: tokenizer, image geometry, attention rule, hash."""

import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.embodiment import read_json_object
from cerebella.models.checkpoint import load_weights, weight_files
from cerebella.models.config import MASK_VARIANTS, ModelConfig
from cerebella.models.vla import VLA, build
from cerebella.processing.images import ImageConfig
from cerebella.processing.prompt import IMAGE_TOKEN

_logger = logging.getLogger("cerebella")
_SAME_IN_BRAIN = (
    ("patch_size", "patch_size"),
    ("merge_size", "spatial_merge_size"),
    ("temporal_patch_size", "temporal_patch_size"),
)


def read_model(directory: Path, config: ModelConfig, dtype: torch.dtype) -> VLA:
    """The network with the weights of a directory. Raises as `checkpoint.load_weights`."""
    model = build(config, dtype)
    load_weights(model, directory)
    return model.eval()


def read_tokenizer(directory: Path, config: ModelConfig) -> Qwen2Tokenizer:
    """The tokenizer of a directory.

    Raises:
        FileNotFoundError: a file is missing. ValueError: it is broken, or was made for another brain.
    """
    read_json_object(directory / "tokenizer_config.json")
    vocabulary = read_json_object(directory / "tokenizer.json").get("added_tokens")
    index = {token.get("content"): token.get("id") for token in vocabulary or [] if isinstance(token, dict)}
    wanted = config.brain["image_token_id"]
    if index.get(IMAGE_TOKEN) != wanted:
        raise ValueError(
            f"{directory / 'tokenizer.json'}: the token {IMAGE_TOKEN!r} has the id {index.get(IMAGE_TOKEN)}; "
            f"the brain expects {wanted}"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory)
    except Exception as error:  # the tokenizers library raises nothing narrower for a vocabulary that does not fit
        raise ValueError(f"{directory / 'tokenizer.json'} cannot be read: {error}") from error
    if tokenizer.pad_token is None:
        raise ValueError(f"{directory / 'tokenizer_config.json'}: the pad_token is missing")
    return tokenizer


def check_images(images: ImageConfig, config: ModelConfig) -> None:
    """Raise a ValueError unless pictures are cut as the brain's vision tower wants them."""
    vision = config.brain["vision_config"]
    for ours, theirs in _SAME_IN_BRAIN:
        if getattr(images, ours) != vision[theirs]:
            raise ValueError(
                f"images.{ours} is {getattr(images, ours)!r}, but the brain's {theirs} is {vision[theirs]}"
            )


def check_rule(directory: Path, config: ModelConfig, trained: Sequence[str], wanted: str | None) -> None:
    """Raise a ValueError unless a policy runs under the one attention rule that it was trained with.

    Args:
        trained: rules of its training stages. wanted: what the caller relies on, None is any.
    """
    if trained and set(trained) != {config.mask_variant}:
        raise ValueError(
            f"{directory}: the model is configured for the attention rule {config.mask_variant!r}, but its stages were "
            f"trained with {', '.join(sorted(set(trained)))}; running it would mix two rules"
        )
    if wanted is not None and wanted not in MASK_VARIANTS:
        raise ValueError(f"unknown attention rule {wanted!r}; known rules: {', '.join(MASK_VARIANTS)}")
    if wanted is not None and wanted != config.mask_variant:
        raise ValueError(
            f"{directory} was trained with the attention rule {config.mask_variant!r}; it cannot run as {wanted!r}: "
            "its weights have learnt whom each row may see, and running it would mix two rules"
        )


def weights_hash(directory: Path) -> str:
    """First twelve hex digits of the SHA-256 of the weights: of the file, or of all shards in the order of their names."""
    digest = hashlib.sha256()
    for path in weight_files(directory):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


def as_dtype(wanted: torch.dtype | str) -> torch.dtype:
    """A floating-point type by itself or by name. Raises ValueError for anything else."""
    number_type = getattr(torch, wanted, None) if isinstance(wanted, str) else wanted
    if not isinstance(number_type, torch.dtype) or not number_type.is_floating_point:
        raise ValueError(f"dtype is {wanted!r}; give a floating-point type such as torch.bfloat16")
    return number_type


def as_device(wanted: torch.device | str | int | None) -> torch.device:
    """A device that works here; `auto` is the GPU if there is one, None the CPU. Raises ValueError for any other."""
    if wanted is None:
        return torch.device("cpu")
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(wanted)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError) as error:  # what torch raises differs from device to device
        raise ValueError(
            f"device is {wanted!r}, which does not work here ({_first_line(error)}); give cpu, cuda or auto"
        ) from error
    if place.type == "meta":
        raise ValueError("device is 'meta', which holds no weights; give cpu, cuda or auto")
    return place


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def log_loaded(
    source: str | Path, model: VLA, robot_type: str | None = None, num_flow_steps: int | None = None
) -> None:
    """One line about what was loaded and how it runs: INFO of the logger `cerebella`, or stderr if nobody set up logging."""
    config, number_type = model.config, model.cerebellum.sink.weight.dtype
    robot = "" if robot_type is None else f"robot type {robot_type}, "
    window = f" (window {config.mask_window})" if config.mask_variant in ("band", "lambda") else ""
    steps = config.num_flow_steps if num_flow_steps is None else num_flow_steps
    line = (
        f"{source}: {robot}attention rule {config.mask_variant}{window}, position offset {config.position_offset}, "
        f"{steps} flow steps, {str(number_type).removeprefix('torch.')}"
    )
    if _logger.hasHandlers():
        _logger.info("%s", line)
    else:
        print(line, file=sys.stderr)
