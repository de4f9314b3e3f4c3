"""From the columns of a store to samples of an embodiment: which entry is which dimension, which camera is which view.

Written by hand, from `meta/modality.json`, or from the names of the features (`mapping_sources`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cerebella.data.episodes import Columns, DataFault, EpisodeStore, check_episode
from cerebella.data.slices import Slice
from cerebella.embodiment import Dimension, Embodiment
from cerebella.types import BoolArray, FloatArray, ImageArray, Sample

RATE_TOLERANCE = 0.01
"""A store's rate may differ from the embodiment's `policy_hz` by this fraction (29.97 is 30)."""


@dataclass(frozen=True, eq=False)
class EpisodeArrays:
    """The numbers of one episode in the raw units of an embodiment; n frames.

    Args:
        states: float32[n, state_dim]. actions: float32[n, action_dim], 0 where the set does not record a dimension.
        is_recorded: bool[action_dim].
        prompts: the instruction at each frame.
        sent: float32[n, action_dim], what the robot was really sent; None where nobody knows.
    """

    states: FloatArray
    actions: FloatArray
    is_recorded: BoolArray
    prompts: tuple[str, ...]
    sent: FloatArray | None = None

    def window(
        self, images: Mapping[str, ImageArray], start: int, horizon: int, robot_type: str, control_mode: str
    ) -> Sample:
        """The sample of frame `start`: actions of the frames [start, start + horizon); rows past the end repeat the last
        one and are not valid."""
        rows = np.arange(start, start + horizon)
        last = len(self.actions) - 1
        return Sample(
            images=images,
            state=self.states[start],
            prompt=self.prompts[start],
            actions=self.actions[np.minimum(rows, last)],
            is_valid=(rows <= last)[:, None] & self.is_recorded,
            robot_type=robot_type,
            control_mode=control_mode,
        )


@dataclass(frozen=True)
class DatasetMap:
    """How a store becomes samples of one embodiment.

    Args:
        state: must cover every state dimension. action: a dimension that no slice names is never valid.
        views: view name -> picture feature. A view of the embodiment without a camera here is absent from the samples.
        embodiment: its name and control mode are the robot type and control mode of the samples.
        prompt: the column that says the instruction: text, or an integer index into the store's tasks.
        fixed_prompt: one instruction for all, instead of a column.
        sent: a column of what was really sent, laid out as the only column of `action`; see `sent_rows`.

    Raises:
        ValueError: a state dimension is missing or named twice, a name or view is unknown, or units do not convert.
    """

    state: tuple[Slice, ...]
    action: tuple[Slice, ...]
    views: Mapping[str, str]
    embodiment: Embodiment
    prompt: str = "task_index"
    fixed_prompt: str | None = None
    sent: str | None = None

    def __post_init__(self) -> None:
        robot = self.embodiment
        for what, slices, index_of, known in (
            ("state", self.state, robot.state_index, robot.states),
            ("action", self.action, robot.action_index, robot.actions),
        ):
            names = [name for entry in slices for name in entry.names]
            if len(set(names)) != len(names):
                raise ValueError(f"map to {robot.name!r}: a {what} dimension is named twice: {names}")
            for entry in slices:
                entry.check([known[index_of(name)] for name in entry.names])
        recorded = {name for entry in self.state for name in entry.names}
        if missing := [dimension.name for dimension in robot.states if dimension.name not in recorded]:
            raise ValueError(f"map to {robot.name!r}: nothing says where the states {missing} are stored")
        if not self.action:
            raise ValueError(f"map to {robot.name!r}: nothing says where the actions are stored")
        if self.sent is not None and len(columns := {entry.column for entry in self.action}) > 1:
            raise ValueError(
                f"map to {robot.name!r}: what was sent is in one column, so actions must be, too; got {', '.join(sorted(columns))}"
            )
        if unknown := [view for view in self.views if view not in robot.views]:
            raise ValueError(
                f"map to {robot.name!r}: it has no view {unknown[0]!r}; its views: {', '.join(robot.views) or 'none'}"
            )

    @property
    def robot_type(self) -> str:
        """The embodiment's name."""
        return self.embodiment.name

    @property
    def control_mode(self) -> str:
        """The embodiment's control mode."""
        return self.embodiment.control_mode

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads, each once."""
        prompt = () if self.fixed_prompt is not None else (self.prompt,)
        slices = (*self.state, *self.action, *self.sent_slices)
        return tuple(dict.fromkeys((*(entry.column for entry in slices), *prompt)))

    @property
    def sent_slices(self) -> tuple[Slice, ...]:
        """Where what was sent is stored; empty where nothing says."""
        return () if self.sent is None else tuple(replace(entry, column=self.sent) for entry in self.action)

    def check(self, store: EpisodeStore) -> None:
        """Find out before reading that a store does not fit.

        Raises:
            DataFault: a column or a camera is missing, a column is too short, or the rate is not the embodiment's.
        """
        for name in self.columns:
            if name not in store.features or store.features[name].is_picture:
                known = [n for n, feature in store.features.items() if not feature.is_picture]
                raise DataFault("missing column", store.name, None, f"no column {name!r}; columns: {', '.join(known)}")
        for entry in (*self.state, *self.action, *self.sent_slices):
            width = int(np.prod(store.features[entry.column].shape))
            if entry.stop > width:
                detail = f"{entry.column!r} has {width} entries per frame; the map wants [{entry.start}, {entry.stop})"
                raise DataFault("wrong shape", store.name, None, detail)
        cameras = [name for name, feature in store.features.items() if feature.is_picture]
        for view, camera in self.views.items():
            if camera not in cameras:
                detail = f"no camera {camera!r} for the view {view!r}; cameras: {', '.join(cameras) or 'none'}"
                raise DataFault("missing camera", store.name, None, detail)
        wanted = self.embodiment.policy_hz
        if abs(store.fps - wanted) > RATE_TOLERANCE * wanted:
            detail = f"{store.fps} frames/s; the embodiment {self.robot_type!r} has rows at {wanted} Hz"
            raise DataFault("wrong fps", store.name, None, detail)

    def arrays(self, store: EpisodeStore, index: int) -> EpisodeArrays:
        """All numbers of one episode; no picture is decoded.

        Raises:
            DataFault: not finite (names episode, frame and dimension), no frame, or an unknown task index.
        """
        check_episode(store, index)
        columns = store.columns(index, self.columns)
        length = store.episode(index).length
        if not length:
            raise DataFault("empty episode", store.name, index, "it has no frame")
        robot = self.embodiment
        states = np.zeros((length, robot.state_dim), dtype=np.float32)
        actions = np.zeros((length, robot.action_dim), dtype=np.float32)
        is_recorded = np.zeros(robot.action_dim, dtype=np.bool_)
        for entry in self.state:
            where = [robot.state_index(name) for name in entry.names]
            states[:, where] = _read(entry, columns, [robot.states[i] for i in where], store, index)
        for entry in self.action:
            where = [robot.action_index(name) for name in entry.names]
            actions[:, where] = _read(entry, columns, [robot.actions[i] for i in where], store, index)
            is_recorded[where] = True
        sent = None if self.sent is None else np.zeros_like(actions)
        for entry in self.sent_slices:
            where = [robot.action_index(name) for name in entry.names]
            assert sent is not None
            sent[:, where] = _read(entry, columns, [robot.actions[i] for i in where], store, index)
        return EpisodeArrays(states, actions, is_recorded, self._prompts(store, index, columns, length), sent)

    def images(self, store: EpisodeStore, index: int, start: int, stop: int) -> dict[str, ImageArray]:
        """uint8[stop - start, h, w, 3] per view, decoded as one range."""
        return {view: store.frames(index, camera, start, stop) for view, camera in self.views.items()}

    def window(self, store: EpisodeStore, index: int, start: int, horizon: int) -> Sample:
        """One sample by itself. For many of one episode, call `arrays` and `images` once and cut windows from them."""
        arrays = self.arrays(store, index)
        if not 0 <= start < len(arrays.states):
            raise ValueError(
                f"{store.name}, episode {index} has {len(arrays.states)} frames; there is no frame {start}"
            )
        images = {view: frames[0] for view, frames in self.images(store, index, start, start + 1).items()}
        return arrays.window(images, start, horizon, self.robot_type, self.control_mode)

    def _prompts(self, store: EpisodeStore, index: int, columns: Columns, length: int) -> tuple[str, ...]:
        if self.fixed_prompt is not None:
            return (self.fixed_prompt,) * length
        values = columns[self.prompt].reshape(length)
        if values.dtype == object:
            return tuple(str(value) for value in values)
        tasks = {int(value): store.tasks.get(int(value)) for value in np.unique(values)}
        for task, text in tasks.items():
            if text is None:
                detail = f"{self.prompt!r} says {task}, and the set has no such task (it has {len(store.tasks)})"
                raise DataFault("missing task", store.name, index, detail)
        return tuple(str(tasks[int(value)]) for value in values)


def choose_map(store: EpisodeStore, maps: Mapping[str, DatasetMap]) -> DatasetMap:
    """The map for a store's robot type.

    Args:
        maps: robot type, as the data call it -> map.

    Raises:
        DataFault: there is no map for this robot type (lists the known ones).
    """
    if store.robot_type not in maps:
        known = ", ".join(sorted(maps)) or "none"
        detail = f"no map for the robot type {store.robot_type!r}; known robot types: {known}"
        raise DataFault("unknown robot type", store.name, None, detail)
    return maps[store.robot_type]


def _read(
    entry: Slice, columns: Columns, dimensions: Sequence[Dimension], store: EpisodeStore, index: int
) -> FloatArray:
    stored = columns[entry.column]
    values = stored.reshape(len(stored), -1)[:, entry.start : entry.stop]
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        frame, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        detail = f"{entry.column!r}[{entry.start + column}] is {values[frame, column]} at frame {frame}"
        raise DataFault("not finite", store.name, index, detail)
    try:
        return entry.read(columns, dimensions)
    except ValueError as error:  # not a rotation: no unit quaternion, not orthonormal
        raise DataFault("broken rotation", store.name, index, f"{entry.column!r}: {error}") from error
