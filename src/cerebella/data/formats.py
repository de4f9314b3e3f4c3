"""Which format a data set has, by what lies in it."""

import difflib
from pathlib import Path

import fsspec

from cerebella.data.episodes import EpisodeStore
from cerebella.data.lerobot_info import INFO
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.xr0_episodes import XR0Episodes


def open_store(directory: Path, root: Path | None = None) -> EpisodeStore:
    """A LeRobotDataset (it has `meta/info.json`), or a directory with XR-0 episodes (JSON files).

    Args:
        root: of XR-0 episodes: where the paths of their videos start; the directory itself if not given.

    Raises:
        FileNotFoundError: no such directory, or it is neither. DataFault, ValueError: it cannot be read.
    """
    if not directory.is_dir():
        parent = directory.parent
        near = [str(path) for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
        hint = [f" Did you mean {name!r}?" for name in difflib.get_close_matches(str(directory), near, n=1, cutoff=0.8)]
        raise FileNotFoundError(f"there is no data set {str(directory)!r}.{''.join(hint)}")
    if (directory / INFO).is_file():
        return LeRobotStore(directory)
    if next(directory.rglob("*.json"), None) is None:
        raise FileNotFoundError(
            f"{directory} is no data set: it has neither {INFO} (LeRobotDataset) nor shards.json (shards) nor any JSON file "
            "(XR-0 episodes)"
        )
    return XR0Episodes(directory, root or directory)


def is_shards(url: str) -> bool:
    """True for a set of shards, finished or not: it has a `shards.json`, or lies in object storage."""
    if "://" in url:
        return True
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem.isfile(f"{path}/shards.json") or bool(filesystem.glob(f"{path}/shard-*.tar"))
