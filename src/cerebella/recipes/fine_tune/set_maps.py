"""How the columns of a data set become the numbers of a robot, as said on a command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cerebella.data.episodes import EpisodeStore
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.mapping import DatasetMap
from cerebella.data.mapping_file import read_map
from cerebella.data.mapping_sources import ACTION_COLUMN, MODALITY, STATE_COLUMN, map_from_modality, map_from_names
from cerebella.data.slices import Slice
from cerebella.data.xr0_episodes import XR0Episodes
from cerebella.data.xr0_format import xr0_map
from cerebella.embodiment import Dimension, Embodiment, read_json_object

_PICTURE_PREFIX = "observation.images."


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """What a data set does not say about itself. Each entry is NAME=VALUE and serves every set that it fits."""

    map: tuple[str, ...] = ()
    """how columns become the robot's numbers: `names`, `order` (the robot's own), `modality` (meta/modality.json, with
    --group), or a JSON file; one for all sets or one for each. By names if not given; XR-0 episodes by their format"""
    view: tuple[str, ...] = ()
    """VIEW=CAMERA, e.g. base=observation.images.top; of several for one view a set takes the first that it has. Cameras called
    observation.images.VIEW need none"""
    unit: tuple[str, ...] = ()
    """DIMENSION=UNIT of the stored numbers where it is not the robot's, e.g. shoulder=deg"""
    rename: tuple[str, ...] = ()
    """DIMENSION=NAME where a set calls a dimension of the robot by another name"""
    gripper_ends: tuple[str, ...] = ()
    """DIMENSION=CLOSED,OPEN: stored values of a closed and an open gripper where they are not the robot's"""
    group: tuple[str, ...] = ()
    """GROUP=DIMENSION,..., e.g. state.single_arm=shoulder,elbow: which dimensions a group of meta/modality.json holds"""
    state_columns: tuple[str, ...] = (STATE_COLUMN,)
    """columns that hold the state, one behind the other"""
    action_columns: tuple[str, ...] = (ACTION_COLUMN,)
    """columns that hold the actions"""
    sent_column: str = ""
    """a column like that of the actions, with what the robot was really sent where that is not what was asked for, e.g. `sent` in
    sets with disturbed commands: actions then lead back from there without a jump, and asynchronous post-training takes prefixes
    from it"""

    def check_names(self, robots: Sequence[Embodiment], stores: Sequence[EpisodeStore]) -> None:
        """Raise a ValueError for a view, dimension or camera that no robot or set has: a slip that nobody would notice."""
        views = [view for robot in robots for view in robot.views]
        dimensions = [d.name for robot in robots for d in (*robot.states, *robot.actions)]
        for what, entries, known in (
            ("view", self.view, views),
            ("unit", self.unit, dimensions),
            ("rename", self.rename, dimensions),
            ("gripper_ends", self.gripper_ends, dimensions),
        ):
            for name, _ in pairs(what, entries):
                if name not in known:
                    raise ValueError(
                        f"--{what.replace('_', '-')}: no robot of this run has {name!r}; known: "
                        f"{', '.join(dict.fromkeys(known)) or 'none'}"
                    )
        cameras = list(dict.fromkeys(camera for store in stores for camera in _cameras(store)))
        for _, camera in pairs("view", self.view):
            if stores and "modality" not in self.map and camera not in cameras:
                raise ValueError(
                    f"--view: no data set has the camera {camera!r}; cameras: {', '.join(cameras) or 'none'}"
                )


def make_map(store: EpisodeStore, robot: Embodiment, how: str | None, options: MapOptions) -> DatasetMap:
    """See `_make_map`; with the column of what was sent, where the options name one."""
    made = _make_map(store, robot, how, options)
    return replace(made, sent=options.sent_column) if options.sent_column else made


def _make_map(store: EpisodeStore, robot: Embodiment, how: str | None, options: MapOptions) -> DatasetMap:
    """The map from a store to a robot; views without a camera in this store are left out.

    Args:
        how: an entry of `MapOptions.map`; None is the store's own way.

    Raises:
        FileNotFoundError: no such map file or `meta/modality.json`. ValueError: the store does not fit the robot.
    """
    if how == "modality":
        return _from_modality(store, robot, options)
    if how not in (None, "names", "order"):
        if not Path(how).is_file():
            raise FileNotFoundError(f"--map: {how!r} is neither names, order nor modality, nor a file")
        return read_map(Path(how), robot)
    if how is None and isinstance(store, XR0Episodes):
        made = xr0_map(robot)
        present = {view: camera for view, camera in made.views.items() if camera in _cameras(store)}
        return replace(made, views=present | _views(store, robot, options))
    units, ends = dict(pairs("unit", options.unit)), _gripper_ends(options)
    if how == "order":
        state = _in_order(store, "state", options.state_columns, robot.states, units, ends)
        action = _in_order(store, "action", options.action_columns, robot.actions, units, ends)
        return DatasetMap(state, action, _views(store, robot, options), robot)
    return map_from_names(
        store,
        robot,
        _views(store, robot, options),
        options.state_columns,
        options.action_columns,
        dict(pairs("rename", options.rename)),
        units,
        ends,
    )


def pairs(what: str, entries: Sequence[str]) -> list[tuple[str, str]]:
    """NAME=VALUE, split. Raises ValueError for an entry that is none."""
    split = [entry.partition("=") for entry in entries]
    for entry, (name, sign, value) in zip(entries, split, strict=True):
        if not (name and sign and value):
            raise ValueError(f"--{what.replace('_', '-')} takes NAME=VALUE; got {entry!r}")
    return [(name, value) for name, _, value in split]


def _views(store: EpisodeStore, robot: Embodiment, options: MapOptions) -> dict[str, str]:
    """View -> camera, of those that the store has; what was asked for goes before what the names say."""
    cameras = _cameras(store)
    found = {view: _PICTURE_PREFIX + view for view in robot.views if _PICTURE_PREFIX + view in cameras}
    asked = [
        (view, camera) for view, camera in pairs("view", options.view) if view in robot.views and camera in cameras
    ]
    return found | dict(reversed(asked))


def _cameras(store: EpisodeStore) -> list[str]:
    return [name for name, feature in store.features.items() if feature.is_picture]


def _gripper_ends(options: MapOptions) -> dict[str, tuple[float, float]]:
    ends: dict[str, tuple[float, float]] = {}
    for name, value in pairs("gripper_ends", options.gripper_ends):
        try:
            closed, opened = (float(number) for number in value.split(","))
        except ValueError as error:
            raise ValueError(f"--gripper-ends takes DIMENSION=CLOSED,OPEN; got {name}={value}") from error
        ends[name] = (closed, opened)
    return ends


def _in_order(
    store: EpisodeStore,
    what: str,
    columns: Sequence[str],
    dimensions: Sequence[Dimension],
    units: Mapping[str, str],
    ends: Mapping[str, tuple[float, float]],
) -> tuple[Slice, ...]:
    """One slice per dimension, in the robot's order."""
    if missing := [column for column in columns if column not in store.features]:
        raise ValueError(f"{store.name} has no column {missing[0]!r}; columns: {', '.join(store.features)}")
    places = [(column, i) for column in columns for i in range(max(1, sum(store.features[column].shape)))]
    if len(places) != len(dimensions):
        raise ValueError(
            f"--map order: {store.name} stores {len(places)} numbers in {', '.join(columns)}; the {what} of the robot has "
            f"{len(dimensions)}: {', '.join(d.name for d in dimensions)}"
        )
    return tuple(
        Slice(column, i, i + 1, (d.name,), unit=units.get(d.name), gripper_ends=ends.get(d.name))
        for (column, i), d in zip(places, dimensions, strict=True)
    )


def _from_modality(store: EpisodeStore, robot: Embodiment, options: MapOptions) -> DatasetMap:
    if not isinstance(store, LeRobotStore):
        raise ValueError(f"--map modality is for LeRobotDatasets; {store.name} is none")
    path = store.directory / MODALITY
    videos = read_json_object(path).get("video", {})
    views = {view: view for view in robot.views if view in videos} | dict(pairs("view", options.view))
    groups = {group: names.split(",") for group, names in pairs("group", options.group)}
    if not groups:
        raise ValueError(f"--map modality needs --group GROUP=DIMENSION,... for the groups in {path}")
    units, ends = dict(pairs("unit", options.unit)), _gripper_ends(options)
    extra = {group: _group_options(names, units, ends) for group, names in groups.items()}
    return map_from_modality(path, robot, groups, views, options=extra)


def _group_options(
    names: Sequence[str], units: Mapping[str, str], ends: Mapping[str, tuple[float, float]]
) -> dict[str, object]:
    """Of one group, whose numbers share a unit."""
    chosen = {units.get(name) for name in names}
    if len(chosen) > 1:
        raise ValueError(f"--unit: the dimensions {', '.join(names)} of one group must have one unit; got {units}")
    gripper = [ends[name] for name in names if name in ends]
    return {"unit": chosen.pop(), "gripper_ends": gripper[0] if gripper else None}
