"""The policy directory: everything that is needed to run, judge and train a policy again, in plain files.

config.json         model geometry, attention rule, image geometry, stages trained
model.safetensors   weights
tokenizer*.json, processor_config.json   what Transformers needs
embodiment.json  statistics.json  recipe.json  curves.jsonl  README.md
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from cerebella.embodiment import Embodiment, read_json_object
from cerebella.interfaces import PolicyMetadata
from cerebella.models.checkpoint import save_weights
from cerebella.models.config import ModelConfig
from cerebella.models.guidance import BETA
from cerebella.models.hub_config import CerebellaConfig
from cerebella.models.vla import VLA
from cerebella.policies.accelerate import accelerate
from cerebella.policies.hub import fetch
from cerebella.policies.layout import layout_of
from cerebella.policies.released.directory import read_released
from cerebella.policies.released.processing import CerebellaProcessor
from cerebella.policies.stored import (
    as_device,
    as_dtype,
    check_images,
    check_rule,
    log_loaded,
    read_model,
    read_tokenizer,
    weights_hash,
)
from cerebella.policies.vla_policy import VLAPolicy
from cerebella.processing.hub_processor import make_hub_processor
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.statistics import Statistics

__all__ = [
    "REQUIRED_FILES",
    "StageRecord",
    "load_policy",
    "read_policy_config",
    "save_as_policy",
    "save_policy",
    "weights_hash",
]

EngineKind = Literal["readable", "fast"]
ENGINES: tuple[str, ...] = get_args(EngineKind)
_WITHOUT_CEREBELLUM = ("warmup_vision", "pretrain_brain")
FORMAT_VERSION = 1
MODEL_CLASS = "CerebellaForActionGeneration"
REQUIRED_FILES = (
    "config.json",
    "model.safetensors",
    "embodiment.json",
    "statistics.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_ONE_FILE = 1 << 62
"""A policy directory has its weights in one file, whatever their size."""


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
        "model_type": CerebellaConfig.model_type,
        "architectures": [MODEL_CLASS],
        "format_version": FORMAT_VERSION,
        "model": json.loads(model.config.to_json()),
        "images": asdict(processor.images),
        "stages": [asdict(stage) for stage in stages],
    }
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_weights(model, directory, dtype, names="ours", max_shard_size=_ONE_FILE)
    hub = make_hub_processor(processor.tokenizer, processor.images)
    CerebellaProcessor(image_processor=hub.image_processor, tokenizer=hub.tokenizer).save_pretrained(directory)
    processor.embodiment.save(directory / "embodiment.json")
    processor.statistics.save(directory / "statistics.json")
    (directory / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")


def save_as_policy(policy: VLAPolicy, directory: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a loaded policy, whatever layout it came from, as a policy directory.

    Raises:
        ValueError: its model is not a `VLA` (an engine keeps its weights in another form).
    """
    if not isinstance(policy.model, VLA):
        raise ValueError(
            f"only a policy with the readable model can be saved; this one runs a {type(policy.model).__name__}"
        )
    metadata = policy.metadata
    stage = StageRecord(
        name="imported",
        num_steps=0,
        mask_variant=policy.model.config.mask_variant,
        max_prefix=metadata.max_trained_prefix,
        fingerprint=metadata.policy_id.rpartition("@")[2],
    )
    save_policy(directory, policy.model, policy.processor, [stage], {"imported_from": metadata.policy_id}, dtype)


def load_policy(
    source: Path | str,
    embodiment: Embodiment | str | None = None,
    mask_variant: str | None = None,
    num_flow_steps: int | None = None,
    robot_type: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str = "cpu",
    engine: EngineKind = "readable",
    guidance_beta: float = BETA,
) -> VLAPolicy:
    """Read a policy directory, or a checkpoint in the released layout; one INFO line says what was loaded.

    Args:
        source: a directory, or `owner/name` on a hub.
        embodiment: the robot, or the name that the caller relies on. A released checkpoint says only which slots move; for a
            robot type that is not one of the released simulations' it has to be given in full.
        mask_variant: what the caller relies on; an error if the policy was trained under another rule.
        robot_type: which of a released checkpoint's statistics; needed where it has several.
        dtype: of the parameters. None is float32 for a policy directory and the stored type for a released checkpoint. In
            bfloat16 a released checkpoint runs as in the released server: rotary frequencies are rounded as well.
        device: where it runs; `auto` is the GPU if there is one.
        engine: `readable` is the model as it is written down, `fast` the engine with the same numbers (see `accelerate` for
            its options); warm it up before a robot waits for it. Mode `guided` needs the readable one.
        guidance_beta: the largest gain of a guided sampler, see `models.guidance`.

    Raises:
        FileNotFoundError: no such directory or repository, or a file is missing (names it). ValueError: unknown format,
            weights that do not fit, stages trained under another attention rule than the one configured, an unknown robot
            type, or not what the caller relies on.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; known: {', '.join(ENGINES)}")
    place = as_device(device)
    dtype = None if dtype is None else as_dtype(dtype)
    directory, name = fetch(source), Path(source).expanduser().resolve().name
    if layout_of(directory) == "released":
        policy = read_released(
            directory, robot_type, embodiment, mask_variant, num_flow_steps, dtype, name, guidance_beta
        )
    else:
        policy = _read_own(directory, name, robot_type, embodiment, mask_variant, num_flow_steps, dtype, guidance_beta)
    assert isinstance(policy.model, VLA)
    policy.model.to(place)
    return policy if engine == "readable" else accelerate(policy)


def _read_own(
    directory: Path,
    policy_name: str,
    robot_type: str | None,
    embodiment: Embodiment | str | None,
    mask_variant: str | None,
    num_flow_steps: int | None,
    dtype: torch.dtype | None,
    guidance_beta: float,
) -> VLAPolicy:
    """A policy directory of ours; arguments as `load_policy`."""
    for name in REQUIRED_FILES:
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} is not a policy directory: {name} is missing")
    model_config, images, stages = read_policy_config(directory / "config.json")
    check_rule(directory, model_config, rules_of(stages), mask_variant)
    robot = Embodiment.load(directory / "embodiment.json")
    for wanted in (embodiment if isinstance(embodiment, str | None) else embodiment.name, robot_type):
        if wanted is not None and robot.name != wanted:
            raise ValueError(f"{directory} was trained for the embodiment {robot.name!r}, not for {wanted!r}")
    statistics = Statistics.load(directory / "statistics.json", robot.name, robot.control_mode)
    processor = Processor(
        embodiment=robot,
        statistics=statistics,
        tokenizer=read_tokenizer(directory, model_config),
        images=images,
        horizon=model_config.horizon,
        model_state_dim=model_config.state_dim,
        model_action_dim=model_config.action_dim,
    )
    model = read_model(directory, model_config, torch.float32 if dtype is None else dtype)
    metadata = PolicyMetadata(
        policy_id=f"{policy_name}@{weights_hash(directory)}",
        embodiment=robot,
        horizon=model_config.horizon,
        mask_variant=model_config.mask_variant,
        max_trained_prefix=max((stage.max_prefix for stage in stages), default=0),
        statistics_hash=statistics.hash,
    )
    log_loaded(directory, model, robot.name, num_flow_steps)
    return VLAPolicy(model, processor, metadata, num_flow_steps, guidance_beta)


def rules_of(stages: Sequence[StageRecord]) -> list[str]:
    """The attention rules under which a cerebellum has learnt; other stages do not run it, so any rule may follow them."""
    return [stage.mask_variant for stage in stages if stage.name not in _WITHOUT_CEREBELLUM]


def read_policy_config(path: Path) -> tuple[ModelConfig, ImageConfig, list[StageRecord]]:
    """What the `config.json` of a policy directory holds, checked; every ValueError names the file."""
    stored = read_json_object(path)
    if stored.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version {stored.get('format_version')!r}; this release reads {FORMAT_VERSION}"
        )
    try:
        model = ModelConfig.from_json(json.dumps(stored["model"]))
        images = ImageConfig(**stored["images"])
        stages = [StageRecord(**stage) for stage in stored["stages"]]
        check_images(images, model)
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
