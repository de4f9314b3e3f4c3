"""Weights in and out of safetensors, under our names or those of the released Xiaomi-Robotics-0 checkpoints.

| released | ours |
|---|---|
| `vlm.model.visual.*`, `vlm.model.language_model.*` | `brain.model.visual.*`, `brain.model.language_model.*` |
| `dit.layers.N.*` | `cerebellum.layers.N.*` |
| `state_projector.*`, `action_projector.*`, `action_output_layer.*`, `t_embedder.*`, `t_projector.*`, `sink.*` | `cerebellum.` + the same |

Loading is strict: a name or a shape that does not fit is an error that lists it. The word head of a brain with tied
embeddings is not stored.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cerebella.embodiment import read_json_object
from cerebella.models.config import MASK_DEFAULTS, ModelConfig
from cerebella.models.vla import VLA

TIED_HEAD = "brain.lm_head.weight"
INDEX_FILE = "model.safetensors.index.json"
_NUMBER_TYPE_KEYS = ("dtype", "torch_dtype")
_NUM_LISTED = 8


def from_released(name: str) -> str:
    """Our name of a released tensor; one of our own names stays as it is."""
    if name.startswith(("brain.", "cerebellum.")):
        return name
    if name.startswith("vlm."):
        return "brain." + name.removeprefix("vlm.")
    return "cerebellum." + name.removeprefix("dit.")


def to_released(name: str) -> str:
    """The released name of one of our tensors."""
    if name.startswith("brain."):
        return "vlm." + name.removeprefix("brain.")
    inside = name.removeprefix("cerebellum.")
    return f"dit.{inside}" if inside.startswith("layers.") else inside


def load_weights(model: VLA, path: Path) -> None:
    """Fill every parameter of `model` in place, converted to the type that it has there.

    Args:
        path: a safetensors file, or a directory with `model.safetensors` or an index of shards. Names may be ours or
            the released ones.

    Raises:
        FileNotFoundError: no such file (names it).
        ValueError: not a safetensors file; or tensors missing, unexpected or of another shape (lists some): the model is
            then partly filled.
    """
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not _is_tied_head(model, name)}
    problems: list[str] = []
    found: set[str] = set()
    with torch.no_grad():
        for stored_name, tensor in _stored_tensors(path):
            name = from_released(stored_name)
            if _is_tied_head(model, name):
                continue
            found.add(name)
            if name not in wanted:
                problems.append(f"unexpected {stored_name}")
            elif wanted[name].shape != tensor.shape:
                problems.append(f"{stored_name} is {list(tensor.shape)}, the model has {list(wanted[name].shape)}")
            else:
                wanted[name].copy_(tensor)
    problems += [f"missing {to_released(name)}" for name in wanted if name not in found]
    if problems:
        rest = f"; and {len(problems) - _NUM_LISTED} more" if len(problems) > _NUM_LISTED else ""
        listed = "; ".join(problems[:_NUM_LISTED]) + rest
        raise ValueError(f"{path} does not fit the model {model.config.name!r}: {listed}")


def save_released(model: VLA, path: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write one safetensors file under the released names."""
    tensors = {
        to_released(name): tensor.detach().to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not _is_tied_head(model, name)
    }
    save_file(tensors, path, metadata={"format": "pt"})


def read_released_config(path: Path) -> ModelConfig:
    """The geometry in the `config.json` of a released (`mibot`) checkpoint, or of its directory.

    The file does not say how the weights look at the prefix; the released inference code, with which all published
    simulation results were made, is `causal` without offset. Use `ModelConfig.with_mask` for another rule.

    Raises:
        FileNotFoundError: no such file. ValueError: a field is missing or does not fit.
    """
    path = path / "config.json" if path.is_dir() else path
    fields = read_json_object(path)
    window, offset = MASK_DEFAULTS["causal"]
    try:
        cerebellum = fields["dit_config"]
        if fields["state_length"] != 1:
            raise ValueError(f"{path}: state_length is {fields['state_length']}; only 1 state token is supported")
        return ModelConfig(
            name=path.parent.name,
            brain=_without_number_types(fields["vlm_config"]),
            hidden_size=cerebellum["hidden_size"],
            num_layers=cerebellum["num_hidden_layers"],
            head_dim=cerebellum["head_dim"],
            num_kv_heads=cerebellum["num_key_value_heads"],
            mask_variant="causal",
            mask_window=window,
            position_offset=offset,
            state_dim=fields["state_dim"],
            action_dim=fields["action_dim"],
            horizon=fields["action_length"],
            num_flow_steps=fields.get("num_flow_steps", 5),
        )
    except KeyError as error:
        raise ValueError(f"{path} is not a released config: the field {error} is missing") from error
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path} is not a released config: {error}") from error


def _without_number_types(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A brain is built in torch's default type, whatever type its published config was saved in."""
    return {
        key: _without_number_types(value) if isinstance(value, Mapping) else value
        for key, value in fields.items()
        if key not in _NUMBER_TYPE_KEYS
    }


def _is_tied_head(model: VLA, name: str) -> bool:
    return name == TIED_HEAD and bool(model.brain.config.tie_word_embeddings)


def _stored_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a file, or of all shards of a directory, one at a time."""
    for file in _weight_files(path):
        if not file.is_file():
            raise FileNotFoundError(f"weights file {file} is missing")
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a mapping
                    yield name, tensors.get_tensor(name)
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged or not a safetensors file: {error}") from error


def _weight_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if not (path / INDEX_FILE).is_file():
        return [path / "model.safetensors"]
    shards: Mapping[str, str] = json.loads((path / INDEX_FILE).read_text())["weight_map"]
    return [path / shard for shard in sorted(set(shards.values()))]
