"""`VLA`: brain and cerebellum together, the readable truth that every faster engine is compared with."""

from dataclasses import dataclass
from typing import cast

import torch
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig

from cerebella.batch import Batch
from cerebella.models import brain as brain_module
from cerebella.models.action_model import ActionModel
from cerebella.models.cerebellum import Cerebellum, RotaryFrequencies
from cerebella.models.config import ModelConfig
from cerebella.models.context import Context


class VLA(ActionModel):
    """A vision-language-action model, freshly initialised. It computes and answers in the number type of its weights.

    Attributes:
        brain: Qwen3VLForConditionalGeneration. cerebellum: `Cerebellum`. config: `ModelConfig`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.brain = brain_module.build_brain(config)
        self.cerebellum = Cerebellum(config)

    def encode(self, batch: Batch) -> Context:
        """Views and instruction to K/V, once per observation. Reads neither state nor actions of the batch.

        Raises:
            ValueError: the pictures do not match the image tokens, or the vision tower.
        """
        self._check_pictures(batch)
        return brain_module.encode(self.brain, batch, self.config.num_layers)

    def _check_pictures(self, batch: Batch) -> None:
        """Raise a ValueError unless there are pixels for exactly the image tokens, in patches of the vision tower's size."""
        vision = cast(Qwen3VLVisionConfig, self.brain.config.vision_config)
        num_tokens = int(batch.mm_token_type_ids.bool().sum())
        if batch.pixel_values is None or batch.image_grid_thw is None:
            if num_tokens:
                raise ValueError(f"there are {num_tokens} image tokens, but no pixel_values with their image_grid_thw")
            return
        num_patches = int(batch.image_grid_thw.prod(dim=-1).sum())
        width = vision.in_channels * vision.temporal_patch_size * cast(int, vision.patch_size) ** 2
        if batch.pixel_values.shape != (num_patches, width):
            raise ValueError(
                f"pixel_values must be float[{num_patches}, {width}] for image_grid_thw {batch.image_grid_thw.tolist()}; "
                f"got {list(batch.pixel_values.shape)}"
            )
        wanted = num_patches // vision.spatial_merge_size**2
        if num_tokens != wanted:
            raise ValueError(f"there are {num_tokens} image tokens, but pictures for {wanted}")


def build(config: ModelConfig, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> VLA:
    """A VLA whose parameters are not initialised, for a loader that fills them all: never more than one copy in memory.

    Rotary frequencies (the only numbers that no checkpoint stores) are in place and in float32, whatever `dtype` is.

    Args:
        dtype: of the parameters. device: where they are.
    """
    with torch.device("meta"):
        model = VLA(config).to(dtype)
    model.to_empty(device=device)
    model.brain.tie_weights()
    text, vision = model.brain.model.language_model.rotary_emb, model.brain.model.visual.rotary_pos_emb
    fresh_text, fresh_vision = type(text)(text.config), type(vision)(vision.config)
    model.brain.model.language_model.rotary_emb = fresh_text.to(device)
    model.brain.model.visual.rotary_pos_emb = fresh_vision.to(device)
    model.cerebellum.rotary_emb = RotaryFrequencies(config.head_dim, config.rope_theta).to(device)
    return model


@dataclass(frozen=True)
class ParameterTable:
    """Parameters per part, each counted once (the word head shares the token embeddings).

    Args:
        parts: name -> number of parameters; the names start with `brain.` or `cerebellum.`.
        num_cerebellum_tensors: tensors on the cerebellum's side.
    """

    parts: dict[str, int]
    num_cerebellum_tensors: int

    @property
    def brain(self) -> int:
        """Parameters of vision and language together."""
        return sum(count for part, count in self.parts.items() if part.startswith("brain."))

    @property
    def cerebellum(self) -> int:
        """Parameters of everything beside the brain."""
        return sum(count for part, count in self.parts.items() if part.startswith("cerebellum."))

    @property
    def total(self) -> int:
        """All parameters."""
        return self.brain + self.cerebellum


def parameter_table(config: ModelConfig) -> ParameterTable:
    """Count on the meta device: no memory, whatever the size."""
    with torch.device("meta"):
        model = VLA(config)
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        words = name.removeprefix("brain.model.").split(".")
        part = f"brain.{words[0]}" if name.startswith("brain.") else ".".join(words[:2])
        if part == "brain.language_model" and words[1] == "embed_tokens":
            part = "brain.embed_tokens"
        parts[part] = parts.get(part, 0) + parameter.numel()
    return ParameterTable(parts, sum(1 for _ in model.cerebellum.parameters()))
