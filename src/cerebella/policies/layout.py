"""Which files make a policy, in the two layouts that exist: our policy directory, and the released `mibot` file set.

Only names and headers are looked at here; nothing is loaded.
"""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from cerebella.embodiment import read_json_object

Layout = Literal["policy", "released"]

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
REQUIRED_FILES: dict[Layout, tuple[str, ...]] = {
    "policy": ("config.json", WEIGHTS, "embodiment.json", "statistics.json", "tokenizer.json", "tokenizer_config.json"),
    "released": ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
}
"""What has to be there. The weights of the released layout are one file, or shards with an index."""
WEIGHTS_PATTERN = "*.safetensors"
DATA_PATTERNS = ("*.json", WEIGHTS_PATTERN, "*.jinja", "merges.txt", "README.md", "LICENSE*")
"""What loading a policy can need: weights, JSON, tokenizer, and the terms of use. No programs, no pickles."""
HISTORY_FILES = ("curves.jsonl", "curves.png", "validation.jsonl", "chunk-*.png")
"""How a policy directory of ours was made; published, not needed to load it."""


def layout_of(directory: Path) -> Layout:
    """Which layout a directory has, judged by its `config.json`.

    Raises:
        FileNotFoundError: there is no `config.json`. ValueError: it is of neither kind, or no JSON object.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{directory} is not a policy directory: config.json is missing")
    config = read_json_object(path)
    if "format_version" in config:
        return "policy"
    if config.get("model_type") == "mibot":
        return "released"
    raise ValueError(
        f"{path}: model_type is {config.get('model_type')!r}; a policy directory has a format_version, a released "
        "checkpoint has the model_type 'mibot'"
    )


def publishable_files(directory: Path) -> list[str]:
    """The files of a complete policy, by name and sorted: what may be uploaded.

    Raises:
        FileNotFoundError: a required file or a shard is missing (names it). ValueError: the directory is no policy, a
            weights file is damaged or does not hold what the index says, or something lies there that is not part of
            a policy (names it).
    """
    layout = layout_of(directory)
    for name in REQUIRED_FILES[layout]:
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} is not a complete policy: {name} is missing")
    _check_weights(directory)
    names, foreign = [], []
    for path in sorted(directory.iterdir()):
        if path.name in (".cache", ".git", ".gitattributes"):  # the hub client's and git's own bookkeeping
            continue
        known = path.is_file() and any(fnmatchcase(path.name, pattern) for pattern in DATA_PATTERNS + HISTORY_FILES)
        (names if known else foreign).append(path.name)
    if foreign:
        raise ValueError(
            f"{directory} holds what is not part of a policy: {', '.join(foreign)}. Move it elsewhere, or write a clean "
            f"copy with `cerebella convert {directory} DESTINATION --layout {layout}`"
        )
    return names


def _check_weights(directory: Path) -> None:
    """Weights must be readable, and in the files that the index (if there is one) names."""
    present = {path.name for path in directory.glob(WEIGHTS_PATTERN)}
    index = directory / WEIGHTS_INDEX
    if not index.is_file():
        if present != {WEIGHTS}:
            raise FileNotFoundError(
                f"{directory} is not a complete policy: need {WEIGHTS}, or shards with {WEIGHTS_INDEX}; "
                f"found {', '.join(sorted(present)) or 'no weights'}"
            )
        _tensor_names(directory / WEIGHTS)
        return
    where = read_json_object(index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise ValueError(f"{index}: weight_map is missing or empty")
    shards = {str(name) for name in where.values()}
    if missing := sorted(shards - present):
        raise FileNotFoundError(f"{directory} is not a complete policy: {', '.join(missing)} is missing")
    if extra := sorted(present - shards):
        raise ValueError(f"{index} does not name {', '.join(extra)}; weights must be stored once")
    for shard in sorted(shards):
        wanted = {tensor for tensor, name in where.items() if name == shard}
        if difference := sorted(wanted ^ _tensor_names(directory / shard)):
            raise ValueError(f"{directory / shard} and {WEIGHTS_INDEX} disagree about {json.dumps(difference[:3])}")


def _tensor_names(path: Path) -> set[str]:
    try:
        with safe_open(path, framework="np") as weights:
            return set(weights.keys())
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
