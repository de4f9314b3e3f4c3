"""What one sample costs in training: floating-point operations, and the bytes kept for the backward pass.

Formulas per layer, checked against the counters of PyTorch in the tests. Widths: d stream, q queries, k keys, f MLP of
the language model; v stream, m MLP of the vision tower; w cerebellum (its MLP is 4 w wide). L context tokens, T = 2 + H
tokens of the cerebellum. Activations are 2 bytes a number (bfloat16); the brain's RMSNorms compute in float32.

| kept for the backward pass | bytes | if recomputed |
|---|---|---|
| language layer, per token | 16 d + 10 q + 10 k + 8 f | 2 d + 4 k |
| vision block, per patch | 16 v + 4 m | 2 v |
| cerebellum layer, per token and draw | 64 w | |
| its keys and values, per draw | 4 w (L + T), and 4 k L for the repeated context | |
| next words, per counted token | 10 bytes per word of the vocabulary | |

A matrix of n weights costs 2 n operations per token, attention 4 (queries) (keys) (width). The backward pass costs twice
the forward pass; once where only the gradient of the input is needed; recomputing costs one more forward pass.
"""

from dataclasses import dataclass
from typing import Literal

from cerebella.models.config import ModelConfig
from cerebella.training.stages import Stage

Recomputed = Literal["vision", "language"]


@dataclass(frozen=True)
class Sight:
    """What the brain reads of one sample.

    Args:
        views: (height, width) of each picture as it enters the model, px.
        num_text_tokens: all tokens that stand for no picture. num_answer_tokens: those that a next-token loss counts.
    """

    views: tuple[tuple[int, int], ...]
    num_text_tokens: int
    num_answer_tokens: int = 0

    def num_patches(self, config: ModelConfig) -> list[int]:
        """Patches of each picture."""
        side = config.brain["vision_config"]["patch_size"]
        return [height * width // side**2 for height, width in self.views]

    def num_tokens(self, config: ModelConfig) -> int:
        """Context tokens, L."""
        merge = config.brain["vision_config"]["spatial_merge_size"]
        return sum(count // merge**2 for count in self.num_patches(config)) + self.num_text_tokens


@dataclass(frozen=True)
class SampleCost:
    """Of one sample, forward and backward.

    Args:
        flops: floating-point operations, recomputing included.
        kept_bytes: activations that wait for the backward pass.
        peak_bytes: what the recomputation of one layer needs on top, at most.
    """

    flops: float
    kept_bytes: float
    peak_bytes: float


def sample_cost(
    config: ModelConfig,
    stage: Stage,
    sight: Sight,
    recompute: tuple[Recomputed, ...] = (),
    is_conversation: bool = False,
) -> SampleCost:
    """One robot window, or one conversation, in a stage."""
    num_queries = 2 + config.horizon if stage.objective == "choice" and not is_conversation else 0
    num_tokens = sight.num_tokens(config) + num_queries
    costs = [
        _vision(config, stage, sight, "vision" in recompute),
        _language(config, stage, num_tokens, "language" in recompute),
    ]
    if is_conversation:
        costs.append(_words(config, sight.num_answer_tokens))
    elif stage.objective == "flow":
        costs.append(_cerebellum(config, stage, num_tokens))
    return SampleCost(
        flops=sum(cost.flops for cost in costs),
        kept_bytes=sum(cost.kept_bytes for cost in costs),
        peak_bytes=max(cost.peak_bytes for cost in costs),
    )


def _vision(config: ModelConfig, stage: Stage, sight: Sight, is_recomputed: bool) -> SampleCost:
    vision, width_out = config.brain["vision_config"], config.brain["text_config"]["hidden_size"]
    width, wide, depth = vision["hidden_size"], vision["intermediate_size"], vision["depth"]
    patches = sight.num_patches(config)
    merged = vision["spatial_merge_size"] ** 2 * width
    num_mergers = 1 + len(vision["deepstack_visual_indexes"])
    block = sum(2 * (4 * width**2 + 2 * width * wide) * count + 4 * count**2 * width for count in patches)
    # Two matrices per merger and merged patch; the patch embedding is too small to count.
    mergers = num_mergers * 2 * (merged**2 + merged * width_out) * sum(patches) / vision["spatial_merge_size"] ** 2
    is_trained = "vision" in stage.trains
    passes = 3 if is_trained else 1
    again = 1 if is_trained and is_recomputed else 0
    inside = 16 * width + 4 * wide
    per_patch = depth * (2 * width if is_recomputed else inside) + num_mergers * 10 * width
    return SampleCost(
        flops=(passes + again) * depth * block + passes * mergers,
        kept_bytes=sum(patches) * per_patch if is_trained else 0.0,
        peak_bytes=sum(patches) * inside if is_trained and is_recomputed else 0.0,
    )


def _language(config: ModelConfig, stage: Stage, num_tokens: int, is_recomputed: bool) -> SampleCost:
    text = config.brain["text_config"]
    width, wide, depth = text["hidden_size"], text["intermediate_size"], text["num_hidden_layers"]
    queries, keys = (text[name] * text["head_dim"] for name in ("num_attention_heads", "num_key_value_heads"))
    weights = width * (2 * queries + 2 * keys + 3 * wide)
    layer = 2 * weights * num_tokens + 4 * num_tokens**2 * queries
    passes = 3 if "language" in stage.trains else 2 if stage.trains_brain else 1
    again = 1 if stage.trains_brain and is_recomputed else 0
    inside = 16 * width + 10 * queries + 10 * keys + 8 * wide
    kept = depth * (2 * width + 4 * keys if is_recomputed else inside)
    return SampleCost(
        flops=(passes + again) * depth * layer,
        kept_bytes=num_tokens * kept if stage.trains_brain else 0.0,
        peak_bytes=num_tokens * inside if again else 0.0,
    )


def _words(config: ModelConfig, num_answer_tokens: int) -> SampleCost:
    text = config.brain["text_config"]
    flops = 3 * 2 * text["hidden_size"] * text["vocab_size"] * num_answer_tokens
    return SampleCost(flops, 10 * text["vocab_size"] * num_answer_tokens, 0.0)


def _cerebellum(config: ModelConfig, stage: Stage, num_tokens: int) -> SampleCost:
    width, layers, num_rows = config.hidden_size, config.num_layers, 2 + config.horizon
    keys = config.num_kv_heads * config.head_dim
    weights = 4 * width**2 + 12 * width**2
    one_pass = layers * (2 * weights * num_rows + 4 * num_rows * (num_tokens + num_rows) * width)
    # The sampler that weighs errors runs without a backward pass, for the draws that have a prefix.
    is_weighted = stage.reweight_errors and stage.max_prefix > 0
    num_passes = 3 + (stage.async_probability * config.num_flow_steps if is_weighted else 0)
    kept = 64 * width * num_rows + 4 * width * (num_tokens + num_rows) + 4 * keys * num_tokens
    return SampleCost(
        flops=stage.flow_repeats * num_passes * one_pass,
        kept_bytes=stage.flow_repeats * layers * kept,
        peak_bytes=0.0,
    )
