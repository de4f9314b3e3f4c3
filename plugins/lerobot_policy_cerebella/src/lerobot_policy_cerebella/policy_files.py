"""A policy directory inside a LeRobot checkpoint: all of its files but the weights, which LeRobot stores in its own way.

CHECKPOINT/config.json, model.safetensors   LeRobot's
CHECKPOINT/cerebella/                       config.json, embodiment.json, statistics.json, tokenizer*.json, ... of the policy

Imports the learning side of cerebella, so nothing imports this module before a policy is to run in this process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download

from cerebella.embodiment import Embodiment
from cerebella.interfaces import PolicyMetadata
from cerebella.models.checkpoint import load_weights
from cerebella.models.vla import VLA, build
from cerebella.policies.directory import StageRecord, read_policy_config, save_policy
from cerebella.policies.hub import fetch
from cerebella.policies.layout import layout_of
from cerebella.policies.stored import check_rule, read_tokenizer, weights_hash
from cerebella.policies.vla_policy import VLAPolicy
from cerebella.processing.processor import Processor
from cerebella.processing.statistics import Statistics
from cerebella.training.stages import Stage
from lerobot_policy_cerebella.configuration_cerebella import CerebellaConfig

FOLDER = "cerebella"
"""The folder of a LeRobot checkpoint that holds the policy's files."""


@dataclass(frozen=True, eq=False)
class StoredPolicy:
    """A policy as it was read.

    Args:
        policy: acts with `model`. model: the readable one; its weights are meaningless until they have been loaded.
        stages: how it was trained before. files: name -> content of everything but the weights.
    """

    policy: VLAPolicy
    model: VLA
    stages: Sequence[StageRecord]
    files: Mapping[str, bytes]

    def write(self, checkpoint: Path) -> None:
        """Put the files into a LeRobot checkpoint."""
        folder = checkpoint / FOLDER
        folder.mkdir(exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def checkpoint_folder(checkpoint: str | Path, **hub: Any) -> Path:
    """The policy's files of a LeRobot checkpoint.

    Args:
        checkpoint: a directory, or `owner/name` on a hub. hub: arguments of `snapshot_download`, e.g. a revision.

    Raises:
        FileNotFoundError: the checkpoint has none.
    """
    path = Path(checkpoint)
    if not path.is_dir():
        path = Path(snapshot_download(str(checkpoint), allow_patterns=[f"{FOLDER}/*"], **hub))
    if not (path / FOLDER).is_dir():
        raise FileNotFoundError(f"{checkpoint} is no checkpoint of a cerebella policy: the folder {FOLDER} is missing")
    return path / FOLDER


def policy_directory(config: CerebellaConfig, with_weights: bool) -> Path:
    """The policy directory that `policy_path` names, downloaded if need be.

    Raises:
        ValueError: none is named, or it is not a policy directory.
    """
    if config.policy_path is None:
        raise ValueError(
            "a cerebella policy needs --policy.policy_path (a policy directory, or owner/name on a hub), or for inference "
            "alone --policy.server_url"
        )
    directory = fetch(config.policy_path, weights=with_weights)
    if (directory / FOLDER).is_dir():
        raise ValueError(
            f"{config.policy_path} is a LeRobot checkpoint: use --policy.path instead of --policy.policy_path"
        )
    if layout_of(directory) != "policy":
        raise ValueError(
            f"{config.policy_path} is a checkpoint in the released layout; make a policy directory of it first: "
            f"cerebella convert {config.policy_path} DIRECTORY --layout policy"
        )
    return directory


def read_horizon(config: CerebellaConfig) -> int:
    """Rows of a chunk, from the policy's `config.json`."""
    if config.server_url is not None:
        raise ValueError(f"the policy is on the server {config.server_url}; only one in this process can be trained")
    if config.pretrained_path is not None:
        directory = checkpoint_folder(config.pretrained_path)
    else:
        directory = policy_directory(config, with_weights=False)
    return read_policy_config(directory / "config.json")[0].horizon


def read(directory: Path, name: str, num_flow_steps: int | None, with_weights: bool) -> StoredPolicy:
    """The policy of a directory, in float32 on the CPU.

    Args:
        name: of the policy, for its id. with_weights: False leaves them to LeRobot's loader.

    Raises:
        FileNotFoundError: a file is missing (names it). ValueError: a file does not fit.
    """
    model_config, images, stages = read_policy_config(directory / "config.json")
    check_rule(directory, model_config, [s.mask_variant for s in stages if s.name != "warmup_vision"], None)
    robot = Embodiment.load(directory / "embodiment.json")
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
    model = build(model_config, torch.float32)
    if with_weights:
        load_weights(model, directory)
    metadata = PolicyMetadata(
        policy_id=f"{name}@{weights_hash(directory) if with_weights else 'lerobot'}",
        embodiment=robot,
        horizon=model_config.horizon,
        mask_variant=model_config.mask_variant,
        max_trained_prefix=max((stage.max_prefix for stage in stages), default=0),
        statistics_hash=statistics.hash,
    )
    files = {path.name: path.read_bytes() for path in sorted(directory.glob("*.json"))}
    return StoredPolicy(VLAPolicy(model, processor, metadata, num_flow_steps), model, stages, files)


def write_policy(stored: StoredPolicy, directory: Path, stage: Stage, num_steps: int, trainer: str) -> None:
    """Write a policy directory, weights in bfloat16.

    Args:
        stage: of LeRobot's training, which took `num_steps` (0: none). trainer: written into `recipe.json`.
    """
    rule = stored.model.config.mask_variant
    record = StageRecord(stage.name, num_steps, rule, stage.max_prefix, stage.fingerprint)
    recipe = {"trainer": trainer, "stage": asdict(stage)}
    stages = [*stored.stages, record] if num_steps else stored.stages
    save_policy(directory, stored.model, stored.policy.processor, stages, recipe)
