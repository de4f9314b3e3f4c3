"""The physical limit of one inference: no machine finishes a phase before its arithmetic or its weights are through.

Per phase, time >= max(FLOPs / peak, bytes / bandwidth); phases follow one another, so their limits add. Counted is what
the answer needs and no more: no word head, the last brain layer only up to its K/V, weights read once a pass (the
cerebellum's once a flow step), half of the causal attention, adaLN from a table. Activations are taken to be free, so the
limit is a lower bound that nothing reaches.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cerebella.models.config import ModelConfig

from .request import Geometry

PASS_TOKENS = 2
"""Sink and state, in front of the action rows."""


@dataclass(frozen=True)
class Ceilings:
    """What a machine can do: FLOP/s of a large matrix product and bytes/s from memory."""

    flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Phase:
    """A part of one inference that has to end before the next begins: its FLOPs and the bytes it must read."""

    name: str
    flops: float
    num_bytes: float

    def limit_s(self, ceilings: Ceilings) -> float:
        """Seconds below which this phase cannot go."""
        return max(self.flops / ceilings.flops_per_s, self.num_bytes / ceilings.bytes_per_s)


def limit_s(phases: Iterable[Phase], ceilings: Ceilings) -> float:
    """Sum of the phases' limits, seconds."""
    return sum(phase.limit_s(ceilings) for phase in phases)


def phases(
    config: ModelConfig,
    geometry: Geometry,
    batch_size: int = 1,
    bytes_per_weight: float = 2.0,
    num_flow_steps: int | None = None,
) -> tuple[Phase, Phase, Phase]:
    """Vision, language and action of one inference over `batch_size` requests.

    Args:
        bytes_per_weight: 4 float32, 2 bfloat16, 1 fp8 or int8. The K/V cache never gets below 2 bytes a number.
        num_flow_steps: None takes the config's.
    """
    return (
        vision_phase(config, geometry, batch_size, bytes_per_weight),
        language_phase(config, geometry, batch_size, bytes_per_weight),
        action_phase(config, geometry, batch_size, bytes_per_weight, num_flow_steps),
    )


def vision_phase(config: ModelConfig, geometry: Geometry, batch_size: int = 1, bytes_per_weight: float = 2.0) -> Phase:
    """Patches to image tokens: blocks, full attention within an image, the merger and the DeepStack mergers."""
    vision: dict[str, Any] = config.brain["vision_config"]
    width, depth = vision["hidden_size"], vision["depth"]
    block = 4 * width**2 + 2 * width * vision["intermediate_size"]
    embed = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2 * width
    merged = width * vision["spatial_merge_size"] ** 2
    mergers = (1 + len(vision["deepstack_visual_indexes"])) * (merged**2 + merged * vision["out_hidden_size"])
    patches, tokens = geometry.num_patches(config), geometry.num_image_tokens(config)
    per_image = 2 * patches * (depth * block + embed) + 2 * tokens * mergers + depth * 4 * patches**2 * width
    weights = depth * block + embed + mergers
    return Phase("vision", float(batch_size * geometry.num_images * per_image), weights * bytes_per_weight)


def language_phase(
    config: ModelConfig, geometry: Geometry, batch_size: int = 1, bytes_per_weight: float = 2.0
) -> Phase:
    """Tokens to K/V: all layers but the last in full, the last only its two projections."""
    text: dict[str, Any] = config.brain["text_config"]
    width, tokens = text["hidden_size"], geometry.num_tokens(config)
    query = text["num_attention_heads"] * text["head_dim"]
    key_value = 2 * text["num_key_value_heads"] * text["head_dim"] * width
    layer = 2 * query * width + key_value + 3 * width * text["intermediate_size"]
    num_full = text["num_hidden_layers"] - 1
    weights = num_full * layer + key_value
    attention = num_full * 4 * tokens**2 * query / 2
    return Phase("language", batch_size * (2 * tokens * weights + attention), weights * bytes_per_weight)


def action_phase(
    config: ModelConfig,
    geometry: Geometry,
    batch_size: int = 1,
    bytes_per_weight: float = 2.0,
    num_flow_steps: int | None = None,
) -> Phase:
    """Noise to actions: every flow step reads the cerebellum and the context's K/V again; the state enters once."""
    steps = config.num_flow_steps if num_flow_steps is None else num_flow_steps
    width, context = config.hidden_size, geometry.num_tokens(config)
    tokens = PASS_TOKENS + config.horizon
    layers = config.num_layers * 16 * width**2
    actions = width * config.action_dim + width**2
    output = width * config.action_dim + config.action_dim**2
    state = config.state_dim * width + width**2
    attention = config.num_layers * 4 * tokens * (context + tokens) * width
    step_flops = 2 * tokens * layers + 2 * config.horizon * (actions + output) + attention
    cache_bytes = 2 * config.num_layers * context * config.num_kv_heads * config.head_dim * max(2.0, bytes_per_weight)
    step_bytes = (layers + actions + output) * bytes_per_weight + batch_size * cache_bytes
    return Phase(
        "action", float(batch_size * (steps * step_flops + 2 * state)), steps * step_bytes + state * bytes_per_weight
    )


def training_flops(config: ModelConfig, geometry: Geometry, num_flow_samples: int, trains_brain: bool) -> float:
    """FLOPs of one training sample: a backward pass costs two forward passes; the brain runs once per
    `num_flow_samples` passes of the cerebellum, and forward only where it is frozen.
    """
    brain = vision_phase(config, geometry).flops + language_phase(config, geometry).flops
    action = action_phase(config, geometry, num_flow_steps=1).flops
    return (3 if trains_brain else 1) * brain + 3 * num_flow_samples * action
