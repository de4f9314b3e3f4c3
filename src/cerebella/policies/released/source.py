"""Where a checkpoint lies: a local directory as it is, or a hub repository brought into the cache."""

from pathlib import Path

from cerebella.policies.hub import fetch


def local_directory(source: str | Path, revision: str | None = None, token: str | None = None) -> Path:
    """The directory of `source`; see `hub.fetch`. A revision that Transformers resolved for a directory means nothing."""
    is_local = Path(source).expanduser().is_dir()
    return fetch(source, revision=None if is_local else revision, token=token)
