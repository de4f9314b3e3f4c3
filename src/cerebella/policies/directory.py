"""The policy directory: everything that is needed to run, judge and train a policy again, in plain files.

config.json         model geometry, attention rule, image geometry, stages trained
model.safetensors   weights
tokenizer*.json, preprocessor_config.json ...   what Transformers needs
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

from cerebella.embodiment import Embodiment
from cerebella.interfaces import PolicyMetadata
from cerebella.models.checkpoint import load_weights
from cerebella.models.config import ModelConfig
from cerebella.models.vla import VLA
from cerebella.policies.vla_policy import VLAPolicy
from cerebella.processing.hub_processor import make_hub_processor
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.statistics import Statistics

FORMAT_VERSION = 1
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
    for name in ("config.json", "model.safetensors", "embodiment.json", "statistics.json"):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} is not a policy directory: {name} is missing")
    config = json.loads((directory / "config.json").read_text())
    if config.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{directory}: format_version {config.get('format_version')!r}; this release reads {FORMAT_VERSION}"
        )
    model_config = ModelConfig.from_json(json.dumps(config["model"]))
    stages = [StageRecord(**stage) for stage in config["stages"]]
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
        tokenizer=AutoTokenizer.from_pretrained(directory),
        images=ImageConfig(**config["images"]),
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
    if wanted is not None and wanted != config.mask_variant:
        raise ValueError(
            f"{directory} was trained with the attention rule {config.mask_variant!r}; it cannot run as {wanted!r}"
        )
