"""`ModelConfig` from the `config.json` of published models: a released Xiaomi-Robotics-0 checkpoint, or a plain Qwen3-VL."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cerebella.embodiment import read_json_object
from cerebella.models.config import MASK_DEFAULTS, MASK_VARIANTS, OWN_RULE, MaskVariant, ModelConfig, preset

RELEASED_TYPE = "mibot"
BRAIN_TYPE = "qwen3_vl"
MASK_FIELDS = ("mask_variant", "mask_window", "position_offset")
"""Fields that we add to a released config; without them a checkpoint is of the kind that was released."""
_NOT_GEOMETRY = ("dtype", "torch_dtype", "architectures", "transformers_version", "_name_or_path", "auto_map")


def read_released_config(path: Path) -> ModelConfig:
    """The geometry in the `config.json` of a released (`mibot`) checkpoint, or of its directory.

    Raises:
        FileNotFoundError: no such file. ValueError: a field is missing or does not fit.
    """
    path = path / "config.json" if path.is_dir() else path
    try:
        return released_config(read_json_object(path), path.parent.name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def released_config(fields: Mapping[str, Any], name: str) -> ModelConfig:
    """The geometry in the fields of a released config.

    Released files do not say how an action row looks at the others; their inference code, with which all published
    simulation results were made, is `causal` without offset. The fields of `MASK_FIELDS` say otherwise.

    Raises:
        ValueError: a field is missing or does not fit.
    """
    variant = fields.get("mask_variant", "causal")
    if variant not in MASK_VARIANTS:
        raise ValueError(f"mask_variant is {variant!r}; known variants: {', '.join(MASK_VARIANTS)}")
    window, offset = MASK_DEFAULTS[variant]
    try:
        cerebellum = fields["dit_config"]
        if fields["state_length"] != 1:
            raise ValueError(f"state_length is {fields['state_length']}; only 1 state token is supported")
        return ModelConfig(
            name=name,
            brain=brain_fields(fields["vlm_config"]),
            hidden_size=cerebellum["hidden_size"],
            num_layers=cerebellum["num_hidden_layers"],
            head_dim=cerebellum["head_dim"],
            num_kv_heads=cerebellum["num_key_value_heads"],
            mask_variant=cast(MaskVariant, variant),
            mask_window=fields.get("mask_window", window),
            position_offset=fields.get("position_offset", offset),
            state_dim=fields["state_dim"],
            action_dim=fields["action_dim"],
            horizon=fields["action_length"],
            num_flow_steps=fields.get("num_flow_steps", 5),
        )
    except KeyError as error:
        raise ValueError(f"not a released config: the field {error} is missing") from error
    except (AttributeError, TypeError) as error:
        raise ValueError(f"not a released config: {error}") from error


def released_fields(config: ModelConfig) -> dict[str, Any]:
    """The fields of a released config, `MASK_FIELDS` among them unless the rule is the released one."""
    fields: dict[str, Any] = {
        "model_type": RELEASED_TYPE,
        "vlm_config": {**config.brain, "model_type": BRAIN_TYPE},
        "dit_config": {
            "hidden_size": config.hidden_size,
            "num_hidden_layers": config.num_layers,
            "head_dim": config.head_dim,
            "num_key_value_heads": config.num_kv_heads,
        },
        "state_length": 1,
        "state_dim": config.state_dim,
        "action_length": config.horizon,
        "action_dim": config.action_dim,
        "num_flow_steps": config.num_flow_steps,
    }
    if (config.mask_variant, config.position_offset) != ("causal", 0):
        fields |= {name: getattr(config, name) for name in MASK_FIELDS}
    return fields


def config_from_brain(path: Path, **overrides: Any) -> ModelConfig:
    """A config for a new cerebellum on a plain Qwen3-VL directory, otherwise as the released size.

    The cerebellum has as many heads as the brain has K/V heads, and reads the last 16 layers (all, where there are fewer).

    Args:
        overrides: `ModelConfig` fields; a `mask_variant` brings its own window and offset. Without one it is `OWN_RULE`.

    Raises:
        FileNotFoundError: no `config.json`. ValueError: not a Qwen3-VL, an unknown field, or one out of range.
    """
    path = path / "config.json" if path.is_dir() else path
    fields = read_json_object(path)
    if fields.get("model_type") != BRAIN_TYPE:
        raise ValueError(f"{path}: model_type is {fields.get('model_type')!r}; a brain is of the type {BRAIN_TYPE!r}")
    text = fields.get("text_config", {})
    template = preset("xr0")
    try:
        config = replace(
            template,
            name=path.parent.name,
            brain=brain_fields(fields),
            hidden_size=text["num_key_value_heads"] * text["head_dim"],
            num_layers=min(template.num_layers, text["num_hidden_layers"]),
            head_dim=text["head_dim"],
            num_kv_heads=text["num_key_value_heads"],
        )
        has_rule = "mask_variant" in overrides
        config = config.with_mask(overrides["mask_variant"]) if has_rule else config.with_mask(*OWN_RULE)
        return replace(config, **overrides)
    except KeyError as error:
        raise ValueError(f"{path}: text_config lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def brain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a published Qwen3-VL config without what is not geometry: a brain is built in the type its user asks for."""
    return {
        key: brain_fields(value) if isinstance(value, Mapping) else value
        for key, value in fields.items()
        if key not in _NOT_GEOMETRY
    }
