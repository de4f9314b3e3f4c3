"""Our two kinds of checkpoint as Transformers configs.

Transformers' auto modules are only half imported when these classes are registered with them (see `auto_classes`), so
nothing of its model families may be imported before a config is made.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from transformers.configuration_utils import PreTrainedConfig

from cerebella.models.config import ModelConfig, preset
from cerebella.models.published import RELEASED_TYPE, brain_fields, released_config, released_fields

if TYPE_CHECKING:
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLConfig


class MiBoTConfig(PreTrainedConfig):
    """`config.json` of a released Xiaomi-Robotics-0 checkpoint; without arguments that of the released size.

    Args:
        vlm_config: fields of a Qwen3-VL config. dit_config: hidden_size, num_hidden_layers, head_dim,
            num_key_value_heads of the cerebellum.
        state_length: 1. state_dim, action_dim: padded widths. action_length: largest horizon.
        kwargs: `mask_variant`, `mask_window`, `position_offset` of a checkpoint that is not `causal`, `num_flow_steps`,
            and what Transformers adds.
    """

    model_type = RELEASED_TYPE

    def __init__(
        self,
        vlm_config: "Mapping[str, Any] | Qwen3VLConfig | None" = None,
        dit_config: Mapping[str, Any] | None = None,
        state_length: int = 1,
        state_dim: int = 32,
        action_length: int = 30,
        action_dim: int = 32,
        **kwargs: Any,
    ) -> None:
        from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLConfig

        default = released_fields(preset("xr0"))
        if not isinstance(vlm_config, Qwen3VLConfig):
            vlm_config = Qwen3VLConfig(**brain_fields(default["vlm_config"] if vlm_config is None else vlm_config))
        self.vlm_config = vlm_config
        self.dit_config = dict(default["dit_config"] if dit_config is None else dit_config)
        self.state_length, self.state_dim = state_length, state_dim
        self.action_length, self.action_dim = action_length, action_dim
        super().__init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As ever, with rotary fields that the Transformers of the release (4.57) understands as well."""
        fields = super().to_dict()
        text = fields["vlm_config"]["text_config"]
        rope = text.pop("rope_parameters")
        text["rope_theta"] = rope.pop("rope_theta")
        text["rope_scaling"] = rope
        return fields

    @property
    def model_config(self) -> ModelConfig:
        """The same as a `ModelConfig`. Raises ValueError where a field is missing or does not fit."""
        return released_config(self.to_dict(), PurePath(str(self.name_or_path)).name or RELEASED_TYPE)


class CerebellaConfig(PreTrainedConfig):
    """`config.json` of a policy directory of ours; without arguments that of the preset `micro`.

    Args:
        model: fields of a `ModelConfig`. images: of an `ImageConfig`. stages: what was trained.
    """

    model_type = "cerebella"

    def __init__(
        self,
        format_version: int = 1,
        model: Mapping[str, Any] | None = None,
        images: Mapping[str, Any] | None = None,
        stages: Sequence[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        self.format_version = format_version
        self.model = dict(json.loads(preset("micro").to_json()) if model is None else model)
        self.images = dict(images or {})
        self.stages = [dict(stage) for stage in stages]
        super().__init__(**kwargs)

    @property
    def model_config(self) -> ModelConfig:
        """The same as a `ModelConfig`. Raises ValueError where a field is missing or does not fit."""
        return ModelConfig.from_json(json.dumps(self.model))
