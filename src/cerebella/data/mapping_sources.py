"""Make a `DatasetMap` from what a data set says about itself: the names of its features, or `meta/modality.json`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cerebella.data.episodes import EpisodeStore, Feature
from cerebella.data.mapping import DatasetMap
from cerebella.data.slices import Slice
from cerebella.embodiment import Dimension, Embodiment, read_json_object

MODALITY = "meta/modality.json"
STATE_COLUMN, ACTION_COLUMN = "observation.state", "action"
_COLUMN_OF = {"state": STATE_COLUMN, "action": ACTION_COLUMN}
_PICTURE_PREFIX = "observation.images."


def map_from_names(
    store: EpisodeStore,
    embodiment: Embodiment,
    views: Mapping[str, str] | None = None,
    state_columns: Sequence[str] = (STATE_COLUMN,),
    action_columns: Sequence[str] = (ACTION_COLUMN,),
    renamed: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    gripper_ends: Mapping[str, tuple[float, float]] | None = None,
) -> DatasetMap:
    """Match the names of a store's features with the names of an embodiment's dimensions.

    Case, punctuation and a last `pos` do not matter (`Shoulder_Pan.pos` is `shoulder pan`). Entries that the embodiment does not
    have are left out; states that the store does not have are an error.

    Args:
        views: view -> camera; None matches cameras called `observation.images.VIEW`.
        renamed: dimension of the embodiment -> the name that the store gives it.
        units: dimension -> unit of the stored numbers, where it is not the embodiment's.
        gripper_ends: gripper -> stored values at which it is closed, and open (`Slice`).

    Raises:
        ValueError: a column has no names, two entries have the same name, or a state is not found (lists the names).
    """
    given = dict(renamed or {})
    slices = [
        _matched(store, what, columns, dimensions, given, units or {}, gripper_ends or {})
        for what, columns, dimensions in (
            ("state", state_columns, embodiment.states),
            ("action", action_columns, embodiment.actions),
        )
    ]
    cameras = {view: _PICTURE_PREFIX + view for view in embodiment.views if _PICTURE_PREFIX + view in store.features}
    return DatasetMap(slices[0], slices[1], cameras if views is None else views, embodiment)


def map_from_modality(
    path: Path,
    embodiment: Embodiment,
    groups: Mapping[str, Sequence[str]],
    views: Mapping[str, str],
    annotation: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> DatasetMap:
    """Read the slices from `meta/modality.json`, the file that GR00T and starVLA add to a LeRobotDataset.

    Args:
        groups: `state.NAME` or `action.NAME` -> the embodiment's dimensions in that group, in order. Groups that are not
            named are not read.
        views: view -> video group. annotation: annotation group that holds the instruction; None takes the task.
        options: group -> `unit`, `gripper_ends` or `rotation` of its `Slice`.

    Raises:
        FileNotFoundError: no such file. ValueError: an unknown group (lists the known ones), or it does not fit.
    """
    content = read_json_object(path)
    slices: dict[str, list[Slice]] = {"state": [], "action": []}
    for group, names in groups.items():
        what, _, name = group.partition(".")
        if what not in slices:
            raise ValueError(f"a group is called state.NAME or action.NAME; got {group!r}")
        entry = _entry(path, content, what, name)
        column = str(entry.get("original_key") or _COLUMN_OF[what])
        extra = (options or {}).get(group, {})
        slices[what].append(Slice(column, int(entry["start"]), int(entry["end"]), tuple(names), **extra))
    cameras: dict[str, str] = {}
    for view, group in views.items():
        entry = _entry(path, content, "video", group)
        cameras[view] = str(entry.get("original_key") or _PICTURE_PREFIX + group)
    prompt = "task_index"
    if annotation is not None:
        entry = _entry(path, content, "annotation", annotation)
        prompt = str(entry.get("original_key") or f"annotation.{annotation}")
    return DatasetMap(tuple(slices["state"]), tuple(slices["action"]), cameras, embodiment, prompt)


def _matched(
    store: EpisodeStore,
    what: str,
    columns: Sequence[str],
    dimensions: Iterable[Dimension],
    renamed: Mapping[str, str],
    units: Mapping[str, str],
    gripper_ends: Mapping[str, tuple[float, float]],
) -> tuple[Slice, ...]:
    places: dict[str, tuple[str, int]] = {}
    for column in columns:
        for position, name in enumerate(_names(store, column)):
            if _plain(name) in places:
                raise ValueError(f"{store.name}: two entries of {', '.join(columns)} are called {name!r}")
            places[_plain(name)] = (column, position)
    slices: list[Slice] = []
    for dimension in dimensions:
        name = renamed.get(dimension.name, dimension.name)
        if _plain(name) in places:
            column, start = places[_plain(name)]
            unit, ends = units.get(dimension.name), gripper_ends.get(dimension.name)
            slices.append(Slice(column, start, start + 1, (dimension.name,), unit=unit, gripper_ends=ends))
        elif what == "state":
            known = ", ".join(name for column in columns for name in _names(store, column))
            raise ValueError(
                f"{store.name} has no state called {name!r}; it has: {known}. Use `renamed`, or write the map by hand"
            )
    return tuple(slices)


def _names(store: EpisodeStore, column: str) -> tuple[str, ...]:
    feature: Feature | None = store.features.get(column)
    if feature is None:
        raise ValueError(f"{store.name} has no column {column!r}; columns: {', '.join(store.features)}")
    if len(feature.names) != sum(feature.shape):
        raise ValueError(
            f"{store.name}: {column!r} has {sum(feature.shape)} entries and {len(feature.names)} names; write the map by hand"
        )
    return feature.names


def _plain(name: str) -> str:
    words = re.split(r"[^a-z0-9]+", name.lower())
    return " ".join(words[:-1] if len(words) > 1 and words[-1] == "pos" else words)


def _entry(path: Path, content: Mapping[str, Any], what: str, name: str) -> Mapping[str, Any]:
    known = content.get(what, {})
    if name not in known:
        raise ValueError(f"{path} has no {what} group {name!r}; groups: {', '.join(known) or 'none'}")
    return known[name]
