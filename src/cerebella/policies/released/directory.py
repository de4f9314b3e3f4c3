"""Read and write checkpoints in the released layout as policies.

config.json                           geometry (`mibot`); attention rule, where it is not the released `causal`
model-*-of-*.safetensors, index       weights under the released names, bfloat16
preprocessor_config.json              image processor, statistics of every robot type (`action_config`)
tokenizer*.json, chat_template.jinja, processor_config.json, video_preprocessor_config.json
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cerebella.embodiment import Embodiment, read_json_object
from cerebella.interfaces import PolicyMetadata
from cerebella.models.checkpoint import load_weights, save_weights, stored_dtype
from cerebella.models.guidance import BETA
from cerebella.models.published import read_released_config, released_fields
from cerebella.models.vla import VLA, build
from cerebella.policies.released.modeling import MiBoTForActionGeneration
from cerebella.policies.released.processing import (
    ACTION_CONFIG,
    MiBotProcessor,
    check_action_config,
    read_preprocessor,
    released_statistics,
    robot_entry,
)
from cerebella.policies.stored import check_images, check_rule, log_loaded, read_model, read_tokenizer, weights_hash
from cerebella.policies.vla_policy import VLAPolicy
from cerebella.processing.hub_processor import make_hub_processor
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.statistics import statistics_from_released
from cerebella.released_robots import RELEASED_ROBOTS, released_embodiment

MAX_PREFIX_FIELD = "max_trained_prefix"
"""Our addition to `config.json`: the longest action prefix of the training; absent is 0, no asynchronous training."""


def read_released(
    directory: Path,
    robot_type: str | None = None,
    embodiment: Embodiment | str | None = None,
    mask_variant: str | None = None,
    num_flow_steps: int | None = None,
    dtype: torch.dtype | None = None,
    name: str | None = None,
    guidance_beta: float = BETA,
) -> VLAPolicy:
    """A released checkpoint as a policy for one of its robot types; see `directory.load_policy` for the arguments.

    Args:
        name: goes into the policy's id; None is the directory's.

    Raises:
        FileNotFoundError: a file is missing (names it). ValueError: as `load_policy`.
    """
    config = read_released_config(directory)
    check_rule(directory, config, [], mask_variant)
    preprocessor = read_preprocessor(directory)
    robot_type = _chosen(directory, list(preprocessor[ACTION_CONFIG]), robot_type)
    robot = _embodiment(directory, robot_type, embodiment)
    try:
        entry = robot_entry(preprocessor[ACTION_CONFIG], robot_type)
        statistics = statistics_from_released(entry["mean"], entry["std"], robot)
        images = ImageConfig.from_preprocessor(preprocessor)
        check_images(images, config)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error
    horizon = len(statistics.action_mean)
    config = replace(config, horizon=horizon)
    processor = Processor(
        embodiment=robot,
        statistics=statistics,
        tokenizer=read_tokenizer(directory, config),
        images=images,
        horizon=horizon,
        model_state_dim=config.state_dim,
        model_action_dim=config.action_dim,
    )
    number_type = stored_dtype(directory) if dtype is None else dtype
    model = read_model(directory, config, number_type)
    model.to(number_type)  # rounds the rotary frequencies, as the released server does
    metadata = PolicyMetadata(
        policy_id=f"{directory.name if name is None else name}@{weights_hash(directory)}",
        embodiment=robot,
        horizon=horizon,
        mask_variant=config.mask_variant,
        max_trained_prefix=_max_prefix(directory, horizon),
        statistics_hash=statistics.hash,
    )
    log_loaded(directory, model, robot_type, num_flow_steps)
    return VLAPolicy(model, processor, metadata, num_flow_steps, guidance_beta)


def save_released(policy: VLAPolicy, directory: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a loaded policy, whatever layout it came from, in the released layout, with its one robot type.

    Transformers reads it after `import cerebella`; for the released Python files beside it, copy them there. They know
    only the rule `causal`, and commands that need no pose added.

    Raises:
        ValueError: its model is not a `VLA` (an engine keeps its weights in another form), or a state that is normalised,
            which the released layout cannot say.
    """
    if not isinstance(policy.model, VLA):
        raise ValueError(
            f"only a policy with the readable model can be saved; this one runs a {type(policy.model).__name__}"
        )
    statistics, robot = policy.processor.statistics, policy.processor.embodiment
    if statistics.state_mean.any() or (statistics.state_std != 1).any():
        raise ValueError(
            f"{policy.metadata.policy_id}: its state is normalised; the released layout has no place for the statistics of "
            "a state"
        )
    entry = released_statistics(statistics, robot, policy.model.config.action_dim)
    hub = make_hub_processor(policy.processor.tokenizer, policy.processor.images)
    processor = MiBotProcessor(
        image_processor=hub.image_processor,
        tokenizer=hub.tokenizer,
        chat_template=hub.tokenizer.chat_template,
        action_config={robot.name: entry},
    )
    _write(policy.model, processor, directory, policy.metadata.max_trained_prefix, dtype)


def import_trainer(
    weights: Path,
    template: Path,
    directory: Path,
    action_config: Mapping[str, Any],
    max_trained_prefix: int = 0,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write what the released post-training code trained as a checkpoint in the released layout.

    That code runs the attention rule `band`, window 4, with noisy rows 10 positions further; the checkpoint says so.

    Args:
        weights: its `mp_rank_00_model_states.pt`. template: the released directory that training started from, for
            geometry, tokenizer and image processor. directory: where to write.
        action_config: robot type -> `mean` and `std`, [H, A], of the data that it was trained on.
        max_trained_prefix: rows; 6 if it was trained with `async_train`.

    Raises:
        FileNotFoundError: a file is missing. ValueError: the weights do not fit, or the statistics are damaged.
    """
    config = read_released_config(template).with_mask("band")
    statistics = check_action_config(action_config)
    processor = MiBotProcessor.from_pretrained(template)
    processor.action_config = statistics
    model = build(config, dtype)
    load_weights(model, weights)
    _write(model, processor, directory, max_trained_prefix, dtype)


def _write(model: VLA, processor: MiBotProcessor, directory: Path, max_trained_prefix: int, dtype: torch.dtype) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    fields = released_fields(model.config) | {
        "architectures": [MiBoTForActionGeneration.__name__],
        "dtype": str(dtype).removeprefix("torch."),
    }
    if max_trained_prefix:
        fields[MAX_PREFIX_FIELD] = max_trained_prefix
    (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    processor.save_pretrained(directory)
    save_weights(model, directory, dtype)


def _chosen(directory: Path, known: list[str], robot_type: str | None) -> str:
    if robot_type is None and len(known) == 1:
        return known[0]
    if robot_type not in known:
        what = "name one of its robot types" if robot_type is None else f"it has no robot type {robot_type!r}"
        raise ValueError(f"{directory}: {what}; known: {', '.join(known)}")
    return robot_type


def _embodiment(directory: Path, robot_type: str, given: Embodiment | str | None) -> Embodiment:
    """The robot of a robot type: given in full, or one of the released simulations'."""
    if isinstance(given, Embodiment):
        return given if given.name == robot_type else replace(given, name=robot_type)
    if robot_type not in RELEASED_ROBOTS:
        raise ValueError(
            f"{directory}: the checkpoint does not say what the numbers of {robot_type!r} mean. Pass its Embodiment "
            f"(load_policy(..., embodiment=Embodiment.load('robot.json'))); known without: {', '.join(RELEASED_ROBOTS)}"
        )
    robot = released_embodiment(robot_type)
    if given is not None and given != robot.name:
        raise ValueError(f"{directory} is used for the embodiment {robot.name!r}, not for {given!r}")
    return robot


def _max_prefix(directory: Path, horizon: int) -> int:
    value = read_json_object(directory / "config.json").get(MAX_PREFIX_FIELD, 0)
    if not isinstance(value, int) or not 0 <= value < horizon:
        raise ValueError(f"{directory}: {MAX_PREFIX_FIELD} must be in 0..{horizon - 1} rows; got {value!r}")
    return value
