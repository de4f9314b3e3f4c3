"""Find what a run begins with, and read everything of it but the weights."""

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any

from cerebella.embodiment import Embodiment, read_json_object
from cerebella.models.config import PRESETS, ModelConfig, preset
from cerebella.models.published import MASK_FIELDS, config_from_brain, read_released_config
from cerebella.policies.brain import is_brain, read_brain
from cerebella.policies.directory import StageRecord, read_policy_config, rules_of
from cerebella.policies.hub import fetch
from cerebella.policies.layout import layout_of
from cerebella.policies.released.directory import MAX_PREFIX_FIELD
from cerebella.policies.released.processing import ACTION_CONFIG, read_preprocessor
from cerebella.policies.stored import check_images, check_rule, read_tokenizer, weights_hash
from cerebella.processing.images import RELEASED_MAX_PIXELS, ImageConfig
from cerebella.processing.statistics import Statistics
from cerebella.recipes.fine_tune.start import Start, StartOptions
from cerebella.released_robots import RELEASED_ROBOTS, released_embodiment


def read_start(options: StartOptions) -> Start:
    """Find it and read everything but its weights.

    Raises:
        FileNotFoundError: nothing of that name, or a file is missing. ValueError: it cannot be read, or cannot be changed as
            asked for. PermissionError, ConnectionError: see `hub.fetch`.
    """
    if options.start in PRESETS and not Path(options.start).is_dir():
        return _from_nothing(options)
    if "/" not in options.start and not Path(options.start).exists():
        near = difflib.get_close_matches(options.start, PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"--start {options.start!r} is neither a preset ({', '.join(PRESETS)}) nor a directory here, nor owner/name on a "
            f"hub.{hint}"
        )
    directory = fetch(options.start)
    if is_brain(directory):
        return _brain(directory, options)
    return _released(directory, options) if layout_of(directory) == "released" else _policy(directory, options)


def _from_nothing(options: StartOptions) -> Start:
    config = preset(options.start, **({} if options.horizon is None else {"horizon": options.horizon}))
    text, image_token = config.brain["text_config"], config.brain["image_token_id"]
    if image_token != text["vocab_size"] - 2:
        raise ValueError(
            f"the preset {options.start!r} has the vocabulary of a published brain, which cannot be trained here; begin with "
            "that brain (--start Qwen/Qwen3-VL-4B-Instruct) or a smaller preset"
        )
    images = _limited(ImageConfig(patch_size=config.brain["vision_config"]["patch_size"]), options)
    return Start(options.start, "preset", None, _with_rule(config, options, trained=None), images, tokenizer=None)


def _brain(directory: Path, options: StartOptions) -> Start:
    config = config_from_brain(directory, **({} if options.horizon is None else {"horizon": options.horizon}))
    config = _with_rule(config, options, trained=None)
    files = read_brain(directory, config)
    return Start(options.start, "brain", directory, config, _limited(files.images, options), files.tokenizer)


def _released(directory: Path, options: StartOptions) -> Start:
    fields = read_json_object(directory / "config.json")
    says_rule = any(name in fields for name in MASK_FIELDS)
    config = read_released_config(directory)
    config = _with_rule(config, options, trained=config.mask_variant if says_rule else None)
    max_prefix = int(fields.get(MAX_PREFIX_FIELD, 0))
    preprocessor = read_preprocessor(directory)
    images = _limited(ImageConfig.from_preprocessor(preprocessor), options)
    check_images(images, config)
    robots = list(preprocessor[ACTION_CONFIG])
    is_known = len(robots) == 1 and robots[0] in RELEASED_ROBOTS
    return Start(
        options.start,
        "released",
        directory,
        _with_horizon(config, options, max_prefix),
        images,
        read_tokenizer(directory, config),
        embodiment=released_embodiment(robots[0]) if is_known else None,
        history=(StageRecord("imported", 0, config.mask_variant, max_prefix, weights_hash(directory)),),
        takes_raw_states=True,
        says_rule=says_rule,
    )


def _policy(directory: Path, options: StartOptions) -> Start:
    config, images, history = read_policy_config(directory / "config.json")
    trained = rules_of(history)
    check_rule(directory, config, trained, None)
    config = _with_rule(config, options, trained=config.mask_variant if trained else None)
    robot = Embodiment.load(directory / "embodiment.json")
    statistics = Statistics.load(directory / "statistics.json", robot.name, robot.control_mode)
    return Start(
        options.start,
        "policy",
        directory,
        _with_horizon(config, options, max((stage.max_prefix for stage in history), default=0)),
        images if options.max_pixels is None else _limited(images, options),
        read_tokenizer(directory, config),
        embodiment=robot,
        history=tuple(history),
        takes_raw_states=not statistics.state_mean.any() and bool((statistics.state_std == 1).all()),
    )


def _with_rule(config: ModelConfig, options: StartOptions, trained: str | None) -> ModelConfig:
    """The config under the rule that was asked for. `trained`: under which rule the weights were trained, if any."""
    if options.mask_variant in (None, config.mask_variant):
        changes: dict[str, Any] = {"mask_window": options.mask_window, "position_offset": options.position_offset}
        wanted = replace(config, **{name: value for name, value in changes.items() if value is not None})
    else:
        wanted = config.with_mask(options.mask_variant, options.mask_window, options.position_offset)
    if trained is not None and wanted != config:
        raise ValueError(
            f"{options.start} was trained under the attention rule {_rule(config)}; it cannot go on under {_rule(wanted)}: its "
            "weights have learnt whom each row may see. Leave --mask-variant, --mask-window and --position-offset out"
        )
    return wanted


def _rule(config: ModelConfig) -> str:
    return f"{config.mask_variant!r} (window {config.mask_window}, offset {config.position_offset})"


def _with_horizon(config: ModelConfig, options: StartOptions, max_prefix: int) -> ModelConfig:
    horizon = config.horizon if options.horizon is None else options.horizon
    if not max_prefix < horizon <= config.horizon:
        because = f" (it was trained with prefixes of up to {max_prefix})" if max_prefix else ""
        raise ValueError(
            f"--horizon must be in {max_prefix + 1}..{config.horizon} rows for {options.start}{because}; got {horizon}"
        )
    return replace(config, horizon=horizon)


def _limited(images: ImageConfig, options: StartOptions) -> ImageConfig:
    """With the largest area that was asked for, or the released one where more would be allowed."""
    if options.max_pixels is not None:
        return replace(images, max_pixels=options.max_pixels)
    own = RELEASED_MAX_PIXELS if images.max_pixels is None else min(images.max_pixels, RELEASED_MAX_PIXELS)
    return replace(images, max_pixels=max(own, images.min_pixels))
