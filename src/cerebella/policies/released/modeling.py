"""A `VLA` behind the interface of the released model classes: what `AutoModel.from_pretrained` returns.

Nothing is computed here: the classes hold the modules of a `VLA` under the names of a checkpoint and call it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.generic import ModelOutput

from cerebella.batch import Batch
from cerebella.embodiment import read_json_object
from cerebella.models.checkpoint import load_weights, save_weights, stored_dtype
from cerebella.models.hub_config import CerebellaConfig, MiBoTConfig
from cerebella.models.published import read_released_config
from cerebella.models.vla import VLA, build
from cerebella.policies.released.source import HUB_OPTIONS, local_directory
from cerebella.policies.stored import as_device, as_dtype, log_loaded

_logger = logging.getLogger("cerebella")
ATTENTION = ("sdpa", "eager")
_DEFAULTS_OF_SAVE = {"safe_serialization": True, "push_to_hub": False, "is_main_process": True, "state_dict": None}
_WITHOUT_EFFECT = frozenset(
    {"trust_remote_code", "low_cpu_mem_usage", "use_safetensors", "adapter_kwargs", "code_revision", "weights_only"}
    | {"_from_auto", "_commit_hash"}
)


@dataclass
class ActionOutput(ModelOutput):
    """`actions`: float[B, H, A] in model units; `decode_action` of the processor gives raw ones."""

    actions: Tensor | None = None


class ActionModel(PreTrainedModel):
    """Inputs of the processor, a state and an action mask in, a chunk in model units out.

    Attributes:
        vla: the network, the same modules as this one's.
    """

    main_input_name = "input_ids"
    _supports_sdpa = True
    vla: VLA

    def __init__(self, config: Any, vla: VLA | None = None) -> None:
        attention = attention_of(config)
        super().__init__(config)
        model = VLA(config.model_config) if vla is None else vla
        model.brain.set_attn_implementation(attention)
        # Past nn.Module's bookkeeping: the modules are registered once, under the names of the checkpoint.
        object.__setattr__(self, "vla", model)
        self._register(model)

    def _register(self, vla: VLA) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        state: Tensor,
        action_mask: Tensor,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        mm_token_type_ids: Tensor | None = None,
        seed: int | None = None,
        num_steps: int | None = None,
        action_prefix: Tensor | None = None,
        prefix_length: Tensor | None = None,
        **request: Any,
    ) -> ActionOutput:
        """One chunk per sample.

        Args:
            input_ids, attention_mask, pixel_values, image_grid_thw, mm_token_type_ids: from the processor.
            state: float[B, 1, S]. action_mask: float[B, H, A] of the robot type; its H is the horizon.
            seed: of the initial noise; None continues torch's own sequence. num_steps: Euler steps, None takes the
                config's (5).
            action_prefix: float[B, H, A] in model units, with prefix_length int64[B] leading rows that count.
            request: whatever else a request of the released clients carries along (`task_id`, `language`, images).

        Raises:
            ValueError: a shape or type does not fit, pictures are missing, or the actions are not finite.
        """
        named = {"state": state, "action_mask": action_mask, "input_ids": input_ids, "attention_mask": attention_mask}
        optional = {"action_prefix": action_prefix, "prefix_length": prefix_length, "pixel_values": pixel_values}
        for name, value in (named | {name: value for name, value in optional.items() if value is not None}).items():
            if not isinstance(value, Tensor):
                raise ValueError(f"{name} must be a torch.Tensor; got a {type(value).__name__}")
        wanted = (len(input_ids), action_mask.shape[1] if action_mask.ndim > 1 else 1, self.vla.config.action_dim)
        if action_mask.shape != wanted or not action_mask.is_floating_point() or not wanted[1]:
            raise ValueError(
                f"action_mask must be float[{wanted[0]}, H, {wanted[2]}] with H rows, 1 or more, as get_action_mask gives it; "
                f"got {action_mask.dtype}{list(action_mask.shape)}"
            )
        is_image = (input_ids == self.vla.config.brain["image_token_id"]).long()
        batch = Batch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            mm_token_type_ids=is_image if mm_token_type_ids is None else mm_token_type_ids,
            pixel_values=pixel_values,
            image_grid_thw=image_grid_thw,
            state=state,
            action_mask=action_mask,
        )
        actions = self.vla.sample(
            self.vla.encode(batch),
            state=batch.state,
            noise=released_noise(action_mask, None if seed is None else int(seed)),
            action_mask=batch.action_mask,
            action_prefix=action_prefix,
            prefix_length=prefix_length,
            num_flow_steps=num_steps,
        )
        if not torch.isfinite(actions).all():
            raise ValueError("the actions are not finite: look for NaN or infinity in state, pixel_values and weights")
        return ActionOutput(actions=actions)

    @classmethod
    def _check_config(cls, directory: Path) -> None:
        """Raise unless `config.json` is whole; the config class itself fills gaps with defaults."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride] - one loader, strict, tensor by tensor
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: Any = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
        device_map: torch.device | str | int | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> "ActionModel":
        """Load a checkpoint directory or hub repository; every tensor has to be there, in its shape, and no other.

        INFO lines of the logger `cerebella` say which attention rule and which attention it runs.

        Args:
            dtype: of the parameters (`torch_dtype` is its old name); None or `auto` takes that of the stored tensors.
            attn_implementation: `sdpa` or `eager`. A flash attention is answered with `sdpa`, which computes the same.
            device_map: one device, or `auto` for the GPU if there is one; None is the CPU.
            kwargs: revision, token, cache_dir, local_files_only, as `hub.fetch` takes them.

        Raises:
            FileNotFoundError: no such directory, repository or file. ValueError: the weights do not fit, or an option is
                not supported.
        """
        known = (*_WITHOUT_EFFECT, *HUB_OPTIONS)
        if unknown := sorted(name for name, value in kwargs.items() if name not in known and value):
            raise ValueError(
                f"{cls.__name__}.from_pretrained does not support {', '.join(unknown)}; supported: config, dtype, "
                f"attn_implementation, device_map, {', '.join(HUB_OPTIONS)}"
            )
        directory = local_directory(pretrained_model_name_or_path, kwargs)
        cls._check_config(directory)
        if config is None:
            assert cls.config_class is not None
            config = cls.config_class.from_pretrained(directory)
        if attn_implementation is not None:
            config._attn_implementation = attn_implementation
        number_type = _number_type(torch_dtype if dtype is None else dtype, directory)
        vla = build(config.model_config, number_type, _device(device_map))
        load_weights(vla, directory)
        config.name_or_path, config.dtype = str(pretrained_model_name_or_path), number_type
        model = cls(config, vla).eval()
        log_loaded(pretrained_model_name_or_path, vla)
        return model

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride] - see `from_pretrained`
        self, save_directory: str | Path, max_shard_size: int | str = "5GB", **kwargs: Any
    ) -> None:
        """Write `config.json` and the weights, in the type they have; shards with an index where they are large.

        Raises:
            ValueError: an option that would do something else (`cerebella.policies.hub.push` uploads).
        """
        if unknown := sorted(name for name, value in kwargs.items() if value is not _DEFAULTS_OF_SAVE.get(name, value)):
            raise ValueError(f"{type(self).__name__}.save_pretrained does not support {', '.join(unknown)}")
        directory = Path(save_directory)
        directory.mkdir(parents=True, exist_ok=True)
        names = "released" if isinstance(self.config, MiBoTConfig) else "ours"
        save_weights(self.vla, directory, dtype=None, names=names, max_shard_size=max_shard_size)
        self.config.architectures, self.config.dtype = [type(self).__name__], self.dtype
        vars(self.config).pop("auto_map", None)  # would send Transformers to Python files that are not there
        self.config.save_pretrained(directory)


class MiBoTForActionGeneration(ActionModel):
    """The released class: tensors are named as in the released checkpoints."""

    config_class = MiBoTConfig

    @classmethod
    def _check_config(cls, directory: Path) -> None:
        read_released_config(directory)

    def _register(self, vla: VLA) -> None:
        cerebellum = vla.cerebellum
        self.vlm = vla.brain
        self.dit = nn.ModuleDict({"layers": cerebellum.layers})
        self.state_projector, self.action_projector = cerebellum.state_projector, cerebellum.action_projector
        self.action_output_layer, self.sink = cerebellum.action_output_layer, cerebellum.sink
        self.t_embedder, self.t_projector = cerebellum.t_embedder, cerebellum.t_projector
        self.rotary_emb = cerebellum.rotary_emb


class CerebellaForActionGeneration(ActionModel):
    """A policy directory of ours: tensors are named as in `VLA`."""

    config_class = CerebellaConfig

    @classmethod
    def _check_config(cls, directory: Path) -> None:
        fields = read_json_object(directory / "config.json")
        if fields.get("format_version") != 1 or not isinstance(fields.get("model"), Mapping):
            raise ValueError(f"{directory / 'config.json'}: format_version must be 1, with the fields of a model")

    def _register(self, vla: VLA) -> None:
        self.brain, self.cerebellum = vla.brain, vla.cerebellum


def released_noise(action_mask: Tensor, seed: int | None) -> Tensor:
    """Standard normal noise in shape, type and device of `action_mask`: that of `torch.manual_seed(seed)` and `randn_like`.

    With a seed, torch's global random state is not touched.
    """
    generator = None if seed is None else torch.Generator(action_mask.device).manual_seed(seed)
    return torch.randn(action_mask.shape, generator=generator, dtype=action_mask.dtype, device=action_mask.device)


def attention_of(config: Any) -> str:
    """Which attention to run for what a config asks for; writes the answer into the config.

    Raises:
        ValueError: an unknown kind (lists the known ones).
    """
    wanted = config._attn_implementation or "sdpa"
    if "flash" in wanted:
        _logger.info("attention: scaled-dot-product attention instead of %s; it computes the same function", wanted)
        wanted = "sdpa"
    if wanted not in ATTENTION:
        raise ValueError(f"attn_implementation is {wanted!r}; known: {', '.join(ATTENTION)}, flash_attention_2")
    config._attn_implementation = wanted
    return wanted


def _number_type(wanted: torch.dtype | str | None, directory: Path) -> torch.dtype:
    return stored_dtype(directory) if wanted is None or wanted == "auto" else as_dtype(wanted)


def _device(device_map: torch.device | str | int | Mapping[str, Any] | None) -> torch.device:
    place = device_map
    if isinstance(place, Mapping):
        if set(place) != {""}:
            raise ValueError(f"device_map must put the whole model on one device; got {dict(place)}")
        place = place[""]
    return as_device(place)
