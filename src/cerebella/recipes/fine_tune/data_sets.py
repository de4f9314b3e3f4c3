"""From paths and options to the data sets of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cerebella.data.formats import is_shards, open_store
from cerebella.data.loader import OnFault
from cerebella.data.records import RecordSource
from cerebella.data.sent_rows import SentRows
from cerebella.data.shards import ShardSource
from cerebella.data.sources import RobotGroup, Source
from cerebella.embodiment import Embodiment
from cerebella.recipes.fine_tune.data_set import DataSet, open_episodes
from cerebella.recipes.fine_tune.set_maps import MapOptions, make_map
from cerebella.recipes.fine_tune.shard_set import open_shards


@dataclass(frozen=True, kw_only=True)
class SetOptions(MapOptions):
    """Which data sets, and how to read them."""

    data: tuple[str, ...]
    """data sets: LeRobotDatasets (v3.0, v2.1, v2.0), directories of XR-0 episodes, or shards (a directory or a URL)"""
    root: Path | None = None
    """of XR-0 episodes: where the paths of their videos start; the set's own directory if not given"""
    held_out: float = 0.05
    """share of the episodes of each set, the last ones, that only validation sees; 0 trains on all"""
    on_fault: OnFault = "raise"
    """stop at the first episode that cannot be read, or skip such episodes and count them"""


def open_sets(
    options: SetOptions,
    robots: Sequence[Embodiment],
    horizon: int,
    num_lanes: int,
    sent_rows: SentRows | None = None,
) -> list[DataSet]:
    """All sets of a run, in order.

    Args:
        robots: of each set. horizon: rows of a window. num_lanes: see `MixtureSpec`; shards are dealt out to them.
        sent_rows: how windows use what was sent; needs the column's name among the options.

    Raises:
        FileNotFoundError: no such set. DataFault: a set that does not fit its robot, or (with `raise`) a broken episode.
        ValueError: an option that fits no set, a set without a window, or sets of one robot that describe it differently.
    """
    if not options.data:
        raise ValueError("--data names no data set")
    if not 0 <= options.held_out < 1:
        raise ValueError(f"--held-out must be 0 or more and below 1; got {options.held_out}")
    if len(options.map) not in (0, 1, len(options.data)):
        raise ValueError(
            f"--map takes one entry, or one for each of {len(options.data)} data sets; got {len(options.map)}"
        )
    known: dict[RobotGroup, Embodiment] = {}
    for robot in robots:
        group = RobotGroup(robot.name, robot.control_mode)
        if known.setdefault(group, robot) != robot:
            raise ValueError(f"two embodiments are called {'/'.join(group)} and differ; give them different names")
    hows = options.map if len(options.map) == len(options.data) else options.map * len(options.data)
    names = unique_names(options.data)
    stores = [None if is_shards(path) else open_store(Path(path), options.root) for path in options.data]
    options.check_names(robots, [store for store in stores if store is not None])
    sets: list[DataSet] = []
    for i, store in enumerate(stores):
        if store is None:
            if options.sent_column:
                raise ValueError(f"--sent-column: {options.data[i]} are shards, which hold whole windows, not columns")
            sets.append(open_shards(options.data[i], names[i], robots[i], horizon, num_lanes, options.held_out))
        else:
            mapping = make_map(store, robots[i], hows[i] if hows else None, options)
            sets.append(open_episodes(store, names[i], mapping, horizon, options.held_out, options.on_fault, sent_rows))
    return sets


def open_conversations(paths: Sequence[str], sets: Sequence[DataSet] = ()) -> list[Source]:
    """Vision-language sources: JSON lines, or shards of conversations.

    Args:
        sets: whose names are taken.

    Raises:
        FileNotFoundError: no such file. ValueError: shards of robot windows, or a file without a record.
    """
    sources: list[Source] = []
    for path, name in zip(paths, unique_names(paths, [one.source.name for one in sets]), strict=True):
        if not is_shards(path):
            if not Path(path).is_file():
                raise FileNotFoundError(f"there is no file of conversations {path!r} (JSON lines)")
            sources.append(RecordSource(Path(path), name=name))
            continue
        shards = ShardSource(path, name=name)
        if shards.group is not None:
            raise ValueError(f"{path} holds robot windows ({'/'.join(shards.group)}); name it in --data")
        sources.append(shards)
    return sources


def unique_names(paths: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """What each path ends in, with a number where two are alike: names that do not depend on where a run was started."""
    names = list(taken)
    for path in paths:
        base = path.rstrip("/").rsplit("/", 1)[-1] if "://" in path else Path(path).resolve().name
        others = sum(name == base or name.startswith(f"{base}#") for name in names)
        names.append(f"{base}#{others + 1}" if others else base)
    return names[len(taken) :]
