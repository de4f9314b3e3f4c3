"""The policy directory: everything that is needed to run, judge and train a policy again, in plain files.

config.json         model geometry, attention rule, image geometry, stages trained
model.safetensors   weights
tokenizer*.json, processor_config.json   what Transformers needs
embodiment.json  statistics.json  recipe.json  curves.jsonl  README.md
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.embodiment import Embodiment, read_json_object
from cerebella.interfaces import PolicyMetadata
from cerebella.models.checkpoint import load_weights
from cerebella.models.config import MASK_VARIANTS, ModelConfig
from cerebella.models.vla import VLA
from cerebella.policies.vla_policy import VLAPolicy
from cerebella.processing.hub_processor import make_hub_processor
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import IMAGE_TOKEN
from cerebella.processing.statistics import Statistics

FORMAT_VERSION = 1
_SAME_IN_BRAIN = (
    ("patch_size", "patch_size"),
    ("merge_size", "spatial_merge_size"),
    ("temporal_patch_size", "temporal_patch_size"),
)
REQUIRED_FILES = (
    "config.json",
    "model.safetensors",
    "embodiment.json",
    "statistics.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
TIED_HEAD = "brain.lm_head.weight"
"""Shares its storage with the token embeddings; stored once, under their name."""


@dataclass(frozen=True)
class StageRecord:
    """One finished training stage, as `config.json` remembers it."""

    name: str
    num_steps: int
    mask_variant: str
    max_prefix: int
    fingerprint: str


def save_policy(
    directory: Path,
    model: VLA,
    processor: Processor,
    stages: Sequence[StageRecord],
    recipe: Mapping[str, Any],
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a policy directory; existing files of the same names are replaced.

    Args:
        dtype: of the stored weights. A policy computes in float32 on a CPU whatever the file holds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "format_version": FORMAT_VERSION,
        "model": json.loads(model.config.to_json()),
        "images": asdict(processor.images),
        "stages": [asdict(stage) for stage in stages],
    }
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    weights = {
        name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items() if name != TIED_HEAD
    }
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    make_hub_processor(processor.tokenizer, processor.images).save_pretrained(directory)
    processor.embodiment.save(directory / "embodiment.json")
    processor.statistics.save(directory / "statistics.json")
    (directory / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")


def load_policy(
    directory: Path | str,
    embodiment: str | None = None,
    mask_variant: str | None = None,
    num_flow_steps: int | None = None,
) -> VLAPolicy:
    """Read a policy directory.

    Args:
        embodiment, mask_variant: what the caller relies on; an error if the policy is of another kind.

    Raises:
        FileNotFoundError: a file is missing (names it). ValueError: unknown format, weights that do not fit, stages
            trained under another attention rule than the one configured, or not what the caller relies on.
    """
    directory = Path(directory)
    for name in REQUIRED_FILES:
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} is not a policy directory: {name} is missing")
    model_config, images, stages = _read_config(directory / "config.json")
    _check_variant(directory, model_config, stages, mask_variant)
    robot = Embodiment.load(directory / "embodiment.json")
    if embodiment is not None and robot.name != embodiment:
        raise ValueError(f"{directory} was trained for the embodiment {robot.name!r}, not for {embodiment!r}")
    statistics = Statistics.load(directory / "statistics.json", robot.name, robot.control_mode)
    model = VLA(model_config)
    load_weights(model, directory / "model.safetensors")
    processor = Processor(
        embodiment=robot,
        statistics=statistics,
        tokenizer=_read_tokenizer(directory, model_config),
        images=images,
        horizon=model_config.horizon,
        model_state_dim=model_config.state_dim,
        model_action_dim=model_config.action_dim,
    )
    metadata = PolicyMetadata(
        policy_id=f"{directory.name}@{weights_hash(directory)}",
        embodiment=robot,
        horizon=model_config.horizon,
        mask_variant=model_config.mask_variant,
        max_trained_prefix=max((stage.max_prefix for stage in stages), default=0),
        statistics_hash=statistics.hash,
    )
    return VLAPolicy(model, processor, metadata, num_flow_steps)


def _read_config(path: Path) -> tuple[ModelConfig, ImageConfig, list[StageRecord]]:
    """What `config.json` holds, checked; every ValueError names the file."""
    stored = read_json_object(path)
    if stored.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version {stored.get('format_version')!r}; this release reads {FORMAT_VERSION}"
        )
    try:
        model = ModelConfig.from_json(json.dumps(stored["model"]))
        images = ImageConfig(**stored["images"])
        stages = [StageRecord(**stage) for stage in stored["stages"]]
        vision = model.brain["vision_config"]
        for ours, theirs in _SAME_IN_BRAIN:
            if getattr(images, ours) != vision[theirs]:
                raise ValueError(
                    f"images.{ours} is {getattr(images, ours)!r}, but the brain's {theirs} is {vision[theirs]}"
                )
        for stage in stages:
            if not 0 <= stage.max_prefix < model.horizon:
                raise ValueError(
                    f"stage {stage.name!r}: max_prefix must be in 0..{model.horizon - 1} rows; got {stage.max_prefix}"
                )
    except KeyError as error:
        raise ValueError(f"{path}: the field {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return model, images, stages


def _read_tokenizer(directory: Path, config: ModelConfig) -> Qwen2Tokenizer:
    """The tokenizer of a policy directory; a ValueError if it is broken or was made for another brain."""
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


def weights_hash(directory: Path) -> str:
    """First twelve hex digits of the SHA-256 of the weights file."""
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()[:12]


def _check_variant(directory: Path, config: ModelConfig, stages: Sequence[StageRecord], wanted: str | None) -> None:
    trained = {stage.mask_variant for stage in stages if stage.name != "warmup_vision"}
    if trained and trained != {config.mask_variant}:
        raise ValueError(
            f"{directory}: the model is configured for the attention rule {config.mask_variant!r}, but its stages were "
            f"trained with {', '.join(sorted(trained))}; running it would mix two rules"
        )
    if wanted is not None and wanted not in MASK_VARIANTS:
        raise ValueError(f"unknown attention rule {wanted!r}; known rules: {', '.join(MASK_VARIANTS)}")
    if wanted is not None and wanted != config.mask_variant:
        raise ValueError(
            f"{directory} was trained with the attention rule {config.mask_variant!r}; it cannot run as {wanted!r}"
        )
