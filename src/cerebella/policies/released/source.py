"""Where a checkpoint lies: a local directory as it is, or a hub repository brought into the cache."""

from pathlib import Path
from typing import Any

from cerebella.policies.hub import fetch

HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only")
"""Options of `from_pretrained` that say where to look; the others say what to do with what was found."""


def local_directory(source: str | Path, options: dict[str, Any]) -> Path:
    """The directory of `source`, see `hub.fetch`; takes the hub's options out of `options`."""
    hub = {name: options.pop(name) for name in HUB_OPTIONS if name in options}
    if Path(source).expanduser().is_dir():
        hub["revision"] = None  # Transformers resolves one for a directory, too, where it means nothing
    return fetch(source, **hub)
