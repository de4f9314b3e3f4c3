"""Models of a few thousand parameters with the real topology, and batches for them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from cerebella.batch import Batch
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA

TEXT = 7


def small_config(num_kv_heads: int = 2, **overrides: Any) -> ModelConfig:
    """A brain of 4 layers with 2 DeepStack taps, a cerebellum of 3 layers with 4 heads, horizon 6."""
    brain = dict(preset("micro").brain)
    vocab = 64
    brain["text_config"] = dict(brain["text_config"]) | {
        "vocab_size": vocab,
        "hidden_size": 64,
        "intermediate_size": 80,
        "num_attention_heads": 4,
        "num_key_value_heads": num_kv_heads,
    }
    brain["vision_config"] = dict(brain["vision_config"]) | {
        "depth": 3,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_heads": 2,
        "out_hidden_size": 64,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 2],
    }
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    brain |= {name: vocab - 4 + index for index, name in enumerate(names)}
    fields: dict[str, Any] = {
        "name": "small",
        "brain": brain,
        "hidden_size": 128,
        "num_layers": 3,
        "num_kv_heads": num_kv_heads,
        "state_dim": 6,
        "action_dim": 5,
        "horizon": 6,
        "mask_window": 2,
    }
    return replace(preset("micro"), **(fields | overrides))


def small_model(config: ModelConfig | None = None, seed: int = 0) -> VLA:
    """Fixed random weights; norms, biases and tables away from their defaults, so that none can be forgotten."""
    torch.manual_seed(seed)
    model = VLA(small_config() if config is None else config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def make_batch(
    config: ModelConfig, samples: Sequence[Sequence[int | tuple[int, int]]], horizon: int | None = None, seed: int = 0
) -> Batch:
    """One sample per entry: a number is that many text tokens, (height, width) a picture of that many patches."""
    generator = torch.Generator().manual_seed(seed)
    brain, vision = config.brain, config.brain["vision_config"]
    rows: list[list[int]] = []
    grids: list[tuple[int, int, int]] = []
    for sample in samples:
        row: list[int] = []
        for part in sample:
            if isinstance(part, int):
                row += torch.randint(0, TEXT, (part,), generator=generator).tolist()
                continue
            grids.append((1, *part))
            pads = [brain["image_token_id"]] * (part[0] * part[1] // 4)
            row += [brain["vision_start_token_id"], *pads, brain["vision_end_token_id"]]
        rows.append(row)
    longest = max(map(len, rows))
    input_ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    attention_mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    num_patches = sum(height * width for _, height, width in grids)
    num_rows = config.horizon if horizon is None else horizon
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        mm_token_type_ids=(input_ids == brain["image_token_id"]).long(),
        pixel_values=torch.randn(num_patches, 6 * vision["patch_size"] ** 2, generator=generator) if grids else None,
        image_grid_thw=torch.tensor(grids) if grids else None,
        state=torch.randn(len(rows), 1, config.state_dim, generator=generator),
        action_mask=torch.ones(len(rows), num_rows, config.action_dim),
    )
