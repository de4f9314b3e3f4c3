"""`StateModel`: the cerebellum alone. Scene and robot are numbers in the state vector; there is nothing to look at or read.

The same blocks, masks, positions and samplers as in a `VLA`, at a size that a CPU trains in minutes: for studies.
"""

import torch

from cerebella.batch import Batch
from cerebella.models.action_model import ActionModel
from cerebella.models.cerebellum import Cerebellum
from cerebella.models.config import MaskVariant, ModelConfig
from cerebella.models.context import Context

ROPE_THETA = 5_000_000.0
"""Base of the rotary frequencies, as in every preset."""


class StateModel(ActionModel):
    """A cerebellum whose context is empty, freshly initialised; `config` as from `state_config`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.cerebellum = Cerebellum(config)

    def encode(self, batch: Batch) -> Context:
        """A context of no columns (L = 0) for every row of the batch; the sink then sits at the rotary position 0."""
        config, weight = self.config, self.cerebellum.sink.weight
        nothing = weight.new_zeros(len(batch), config.num_kv_heads, 0, config.head_dim)
        return Context(
            keys=[nothing] * config.num_layers,
            values=[nothing] * config.num_layers,
            is_valid=torch.zeros(len(batch), 0, dtype=torch.bool, device=weight.device),
            last_position=torch.full((len(batch),), -1, dtype=torch.int64, device=weight.device),
        )


def state_config(
    state_dim: int,
    action_dim: int,
    horizon: int,
    mask_variant: MaskVariant = "causal",
    mask_window: int = 4,
    position_offset: int = 0,
    hidden_size: int = 64,
    num_layers: int = 3,
    head_dim: int = 32,
    num_flow_steps: int = 5,
) -> ModelConfig:
    """The geometry of a `StateModel`; its `brain` says only what the cerebellum's own checks and rotations need.

    Args:
        state_dim, action_dim: padded widths, above the largest slot of the embodiment. The output layer is as wide inside as
            `action_dim`: 2 leave it two numbers to make any direction of, and learning stalls. 32, as in the presets, is fine.
        Others: as in `ModelConfig`.

    Raises:
        ValueError: a field is out of range.
    """
    num_heads = max(hidden_size // head_dim, 1) if head_dim > 0 else 1
    text = {
        "rope_theta": ROPE_THETA,
        "head_dim": head_dim,
        "num_key_value_heads": num_heads,
        "num_hidden_layers": num_layers,
    }
    return ModelConfig(
        name="state",
        brain={"text_config": text, "vision_config": {}},
        hidden_size=hidden_size,
        num_layers=num_layers,
        head_dim=head_dim,
        num_kv_heads=num_heads,
        mask_variant=mask_variant,
        mask_window=mask_window,
        position_offset=position_offset,
        state_dim=state_dim,
        action_dim=action_dim,
        horizon=horizon,
        num_flow_steps=num_flow_steps,
    )
