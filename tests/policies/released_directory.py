"""Writes a tiny checkpoint directory with the files, names and fields of the released ones, by hand."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.processing.prompt import robot_prompt
from cerebella.processing.tokenizer import train_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
ROBOTS = {"libero_all": 10}
NUM_ACTIVE, ACTION_DIM = 7, 32
FOREIGN_CODE = "raise RuntimeError('code of the checkpoint was executed')\n"
_SPECIAL_IDS = {
    "<|image_pad|>": 500,
    "<|video_pad|>": 501,
    "<|vision_start|>": 502,
    "<|vision_end|>": 503,
    "<|endoftext|>": 504,
    "<|im_start|>": 505,
    "<|im_end|>": 506,
}


def write_released_directory(
    directory: Path,
    robots: Mapping[str, int] = ROBOTS,
    dtype: torch.dtype = torch.bfloat16,
    processor_class: str = "MiBotProcessor",
    min_pixels: int = 64 * 64,
) -> Path:
    """Geometry and weights of the golden vectors `xr0-tiny`, in two shards.

    Args:
        robots: robot type -> horizon. dtype: of the stored weights. min_pixels: smaller images are enlarged to this area.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = json.loads((GOLDEN / "xr0-tiny.config.json").read_text())
    del config["num_flow_steps"]  # the released files do not have it
    config |= {
        "architectures": ["MiBoTForActionGeneration"],
        "auto_map": {
            "AutoConfig": "configuration_mibot.MiBoTConfig",
            "AutoModel": "modeling_mibot.MiBoTForActionGeneration",
        },
        "dtype": "bfloat16",
        "model_type": "mibot",
        "transformers_version": "4.57.1",
    }
    config["vlm_config"] |= {"model_type": "qwen3_vl", "dtype": "bfloat16"}
    config["vlm_config"]["text_config"] |= {"model_type": "qwen3_vl_text", "dtype": "bfloat16"}
    config["vlm_config"]["vision_config"] |= {"model_type": "qwen3_vl"}
    _write(directory / "config.json", config)
    for name in ("configuration", "modeling", "processing"):
        (directory / f"{name}_mibot.py").write_text(FOREIGN_CODE)
    _write_shards(directory, dtype)
    auto_map = {"AutoProcessor": f"processing_mibot.{processor_class}"}
    images = {
        "patch_size": 16,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    images |= {"size": {"shortest_edge": min_pixels, "longest_edge": 16_777_216}}
    _write(
        directory / "preprocessor_config.json",
        {
            **images,
            "action_config": {robot: _statistics(horizon) for robot, horizon in robots.items()},
            "auto_map": auto_map,
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": processor_class,
        },
    )
    _write(directory / "processor_config.json", {"auto_map": auto_map, "processor_class": processor_class})
    _write(
        directory / "video_preprocessor_config.json",
        {**images, "video_processor_type": "Qwen3VLVideoProcessor", "processor_class": processor_class},
    )
    _tokenizer().save_pretrained(directory)
    (directory / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    return directory


def _write_shards(directory: Path, dtype: torch.dtype) -> None:
    weights = {name: t.to(dtype) for name, t in load_file(GOLDEN / "xr0-tiny.weights.safetensors").items()}
    names = sorted(weights)
    half = len(names) // 2
    shards = {
        "model-00001-of-00002.safetensors": names[:half],
        "model-00002-of-00002.safetensors": names[half:],
    }
    for file, stored in shards.items():
        save_file({name: weights[name] for name in stored}, directory / file, metadata={"format": "pt"})
    total = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: file for file, stored in shards.items() for name in stored},
    }
    _write(directory / "model.safetensors.index.json", index)


def _statistics(horizon: int) -> dict[str, list[list[float]]]:
    """Mean and std, [H, A]: seven active slots that spread more with every row."""
    random = np.random.default_rng(horizon)
    mean, std = np.zeros((2, horizon, ACTION_DIM))
    mean[:, :NUM_ACTIVE] = random.uniform(-0.1, 0.1, (horizon, NUM_ACTIVE))
    std[:, :NUM_ACTIVE] = random.uniform(0.05, 0.2, NUM_ACTIVE) * np.arange(1, horizon + 1)[:, None]
    return {"mean": mean.tolist(), "std": std.tolist()}


def _tokenizer() -> Qwen2Tokenizer:
    """A byte-level tokenizer with the special tokens where the golden config has them."""
    learned = train_tokenizer([robot_prompt(["base", "left_wrist"], "Pick up the red block.")], vocab_size=507)
    content = json.loads(learned.backend_tokenizer.to_str())
    vocabulary = {**content["model"]["vocab"], **_SPECIAL_IDS}
    return Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[tuple(pair) for pair in content["model"]["merges"]],  # pyright: ignore[reportArgumentType]
        additional_special_tokens=[name for name in _SPECIAL_IDS if name != "<|endoftext|>"],
        eos_token="<|im_end|>",
    )


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
