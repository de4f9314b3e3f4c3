"""Weights in and out of files, under our names or those of the released Xiaomi-Robotics-0 checkpoints.

| released | ours |
|---|---|
| `vlm.model.visual.*`, `vlm.model.language_model.*` | `brain.model.visual.*`, `brain.model.language_model.*` |
| `dit.layers.N.*` | `cerebellum.layers.N.*` |
| `state_projector.*`, `action_projector.*`, `action_output_layer.*`, `t_embedder.*`, `t_projector.*`, `sink.*` | `cerebellum.` + the same |

The trainer of the released post-training code puts `model.` in front and the whole under the entry `module` of a torch
checkpoint. Loading is strict (a name or a shape that does not fit is an error that lists it) and goes tensor by tensor,
so that it needs no second copy of the weights. The word head of a brain with tied embeddings is not stored.
"""

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cerebella.embodiment import read_json_object
from cerebella.models.action_model import ActionModel
from cerebella.models.published import config_from_brain, read_released_config
from cerebella.models.vla import VLA

__all__ = [
    "config_from_brain",
    "from_released",
    "load_brain",
    "load_weights",
    "read_released_config",
    "save_weights",
    "stored_dtype",
    "to_released",
    "weight_files",
]

TIED_HEAD = "brain.lm_head.weight"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
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


def load_weights(model: ActionModel, path: Path) -> None:
    """Fill every parameter of `model` in place, converted to the type that it has there.

    Args:
        path: a safetensors file, a directory with `model.safetensors` or an index of shards, or a torch checkpoint of the
            released trainer (`TORCH_SUFFIXES`). Names may be ours or the released ones.

    Raises:
        FileNotFoundError: no such file (names it).
        ValueError: not a weights file; or tensors missing, unexpected, stored twice or of another shape (lists some):
            the model is then partly filled.
    """
    _fill(model, path, part="", rename=from_released, said=to_released)


def load_brain(model: VLA, path: Path) -> None:
    """Fill the brain of `model` from a plain Qwen3-VL directory (`model.visual.*`, `model.language_model.*`).

    The cerebellum keeps what it has. Raises as `load_weights`.
    """
    _fill(
        model, path, part="brain.", rename=lambda name: f"brain.{name}", said=lambda name: name.removeprefix("brain.")
    )


def save_weights(
    model: ActionModel,
    directory: Path,
    dtype: torch.dtype | None = torch.bfloat16,
    names: Literal["released", "ours"] = "released",
    max_shard_size: int | str = "5GB",
) -> None:
    """Write `model.safetensors`, or shards with their index where one file would be larger than `max_shard_size`.

    Args:
        dtype: of the stored numbers; None keeps that of the model.
    """
    rename = to_released if names == "released" else str
    tensors = {
        rename(name): tensor.detach() for name, tensor in model.state_dict().items() if not _is_tied_head(model, name)
    }
    sizes = {name: torch.empty_like(tensor, dtype=dtype, device="meta") for name, tensor in tensors.items()}
    split = split_torch_state_dict_into_shards(sizes, max_shard_size=max_shard_size)
    for file, stored in split.filename_to_tensors.items():
        shard = {name: tensors[name].to("cpu", dtype).contiguous() for name in stored}
        save_file(shard, directory / file, metadata={"format": "pt"})
    for old in (directory / WEIGHTS_FILE, *directory.glob("model-*-of-*.safetensors")):
        if old.name not in split.filename_to_tensors:
            old.unlink(missing_ok=True)
    (directory / INDEX_FILE).unlink(missing_ok=True)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (directory / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights at `path` (a file, or a directory), in the order of their names.

    Raises:
        ValueError: an index without its `weight_map`.
    """
    if not path.is_dir():
        return [path]
    if not (path / INDEX_FILE).is_file():
        return [path / WEIGHTS_FILE]
    shards = read_json_object(path / INDEX_FILE).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{path / INDEX_FILE}: weight_map is missing or empty")
    return [path / str(shard) for shard in sorted(set(shards.values()))]


def stored_dtype(path: Path) -> torch.dtype:
    """Number type of the first stored tensor."""
    for _, tensor in _stored_tensors(path):
        return tensor.dtype
    raise ValueError(f"{path} holds no tensors")


def _fill(model: ActionModel, path: Path, part: str, rename: Callable[[str], str], said: Callable[[str], str]) -> None:
    """Fill the tensors of `model` whose names start with `part`; `rename` maps stored names to ours, `said` back."""
    wanted = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(part) and not _is_tied_head(model, name)
    }
    problems: list[str] = []
    found: set[str] = set()
    with torch.no_grad():
        for stored_name, tensor in _stored_tensors(path):
            name = rename(stored_name)
            if _is_tied_head(model, name):
                continue
            if name in found:
                problems.append(f"{stored_name} is stored twice")
            elif name not in wanted:
                problems.append(f"unexpected {stored_name}")
            elif wanted[name].shape != tensor.shape:
                problems.append(f"{stored_name} is {list(tensor.shape)}, the model has {list(wanted[name].shape)}")
            else:
                wanted[name].copy_(tensor)
            found.add(name)
    problems += [f"missing {said(name)}" for name in wanted if name not in found]
    if problems:
        rest = f"; and {len(problems) - _NUM_LISTED} more" if len(problems) > _NUM_LISTED else ""
        listed = "; ".join(problems[:_NUM_LISTED]) + rest
        raise ValueError(f"{path} does not fit the model {model.config.name!r}: {listed}")


def _is_tied_head(model: ActionModel, name: str) -> bool:
    return name == TIED_HEAD and isinstance(model, VLA) and bool(model.brain.config.tie_word_embeddings)


def _stored_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a file, or of all shards of a directory, one at a time."""
    for file in weight_files(path):
        if not file.is_file():
            raise FileNotFoundError(f"weights file {file} is missing")
        if file.suffix in TORCH_SUFFIXES:
            yield from _trainer_tensors(file)
            continue
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a mapping
                    yield name, tensors.get_tensor(name)
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged or not a safetensors file: {error}") from error


def _trainer_tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors below `module`, without the leading `model.`; the file stays on disk (mapped) until they are read."""
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(
            f"{file} is damaged, or no torch checkpoint of tensors and plain data only (anything else could run code): "
            f"{error}"
        ) from error
    module = content.get("module") if isinstance(content, Mapping) else None
    if not isinstance(module, Mapping):
        raise ValueError(f"{file} is not a checkpoint of the released trainer: it has no entry 'module'")
    for name, tensor in module.items():
        if not name.startswith("model.") or not isinstance(tensor, Tensor):
            raise ValueError(f"{file}: the entry {name!r} of 'module' is no tensor named 'model.*'")
        yield name.removeprefix("model."), tensor
