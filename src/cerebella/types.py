"""The nouns that learning, acting, serving and touch pass to each other.

All of them are frozen, made of NumPy arrays, and checked when they are made, so that a wrong shape is caught where it
arises and not three modules later. Nothing here is normalised, padded or tokenised: numbers are in the raw units that
the `Embodiment` declares. Arrays are not copied; treat them as read-only.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
ImageArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
Role = Literal["user", "assistant"]

_NO_IMAGES: Mapping[str, ImageArray] = MappingProxyType({})
_NO_TOUCH: Mapping[str, FloatArray] = MappingProxyType({})

VIEWS = ("base", "ego", "left_wrist", "right_wrist")
"""Camera views by name, never by position in a list."""

IMAGE_PLACEHOLDER = "<image>"
"""Stands in a user's turn where a picture of a `Conversation` belongs."""


@dataclass(frozen=True, eq=False)
class Observation:
    """What the robot knew at one tick.

    Args:
        state: proprioception, float32[state_dim], raw units of the embodiment.
        prompt: the instruction, as a person would say it.
        tick: integer control step of the exposure.
        timestamp_s: monotonic seconds at the exposure, not at the arrival.
        images: uint8[h, w, 3] RGB per view name; empty for a state-only policy.
        tactile: normal force per taxel, float32[11, 9] newtons per finger name; empty without touch.

    Raises:
        ValueError: an array has the wrong shape or type, a number is not finite, or a view has no known name.
    """

    state: FloatArray
    prompt: str
    tick: int
    timestamp_s: float
    images: Mapping[str, ImageArray] = field(default_factory=lambda: _NO_IMAGES)
    tactile: Mapping[str, FloatArray] = field(default_factory=lambda: _NO_TOUCH)

    def __post_init__(self) -> None:
        _check_float_array("Observation.state", self.state, ("state_dim",))
        _check_tick("Observation.tick", self.tick)
        if self.tick < 0:
            raise ValueError(f"Observation.tick must be 0 or more (an episode starts at 0); got {self.tick}")
        if not math.isfinite(self.timestamp_s):
            raise ValueError(f"Observation.timestamp_s must be finite seconds; got {self.timestamp_s}")
        if not isinstance(self.prompt, str):
            raise ValueError(f"Observation.prompt must be text; got {self.prompt!r}")
        _check_images("Observation.images", self.images)
        for finger, taxels in self.tactile.items():
            _check_float_array(f"Observation.tactile[{finger!r}] (newtons)", taxels, (11, 9))


@dataclass(frozen=True, eq=False)
class Action:
    """One command: absolute targets for one tick, float32[action_dim], raw units of the embodiment."""

    values: FloatArray
    tick: int

    def __post_init__(self) -> None:
        _check_float_array("Action.values", self.values, ("action_dim",))
        _check_tick("Action.tick", self.tick)


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """The seam between thinking and moving: row i is the command for tick `start_tick + i`.

    Args:
        actions: float32[H, action_dim], absolute targets in raw units. Whatever a network predicts (relative,
            normalised) has been decoded before it becomes a chunk.
        start_tick: the tick that row 0 belongs to.
        observation_tick: the tick of the observation that the chunk was computed from.
        prefix_length: how many leading rows repeat the action prefix that conditioned the chunk; 0..H-1.
        policy_id: which policy computed it (name and weights hash).
        duration_s: how long the inference took, seconds.

    Raises:
        ValueError: not finite (a chunk with NaN can never reach a robot), wrong shape, or prefix out of range.
    """

    actions: FloatArray
    start_tick: int
    observation_tick: int
    prefix_length: int
    policy_id: str
    duration_s: float

    def __post_init__(self) -> None:
        _check_float_array("ActionChunk.actions", self.actions, ("H", "action_dim"))
        if not self.actions.size:
            raise ValueError(f"ActionChunk.actions must not be empty; got float32{list(self.actions.shape)}")
        _check_tick("ActionChunk.start_tick", self.start_tick)
        _check_tick("ActionChunk.observation_tick", self.observation_tick)
        if not (math.isfinite(self.duration_s) and self.duration_s >= 0):
            raise ValueError(f"ActionChunk.duration_s must be 0 s or more; got {self.duration_s}")
        if not 0 <= self.prefix_length < len(self.actions):
            raise ValueError(
                f"ActionChunk.prefix_length must be in 0..{len(self.actions) - 1} (rows); got {self.prefix_length}"
            )

    @property
    def horizon(self) -> int:
        """Number of rows, H."""
        return len(self.actions)


@dataclass(frozen=True, eq=False)
class Sample:
    """One training window: what was seen at one tick, and the H actions that followed, in raw units.

    `is_valid[i, j]` says that row i, dimension j is a real target (false past an episode's end, or for a dimension that
    this data set does not record). `robot_type` and `control_mode` choose the statistics. `num_committed` leading rows
    were promised before this observation was made (recorded under asynchronous execution): they are what was done, not
    what should be imitated, and training must give at least these rows as the action prefix.
    """

    images: Mapping[str, ImageArray]
    state: FloatArray
    prompt: str
    actions: FloatArray
    is_valid: BoolArray
    robot_type: str
    control_mode: str
    num_committed: int = 0

    def __post_init__(self) -> None:
        _check_images("Sample.images", self.images)
        _check_float_array("Sample.state", self.state, ("state_dim",))
        _check_float_array("Sample.actions", self.actions, ("H", "action_dim"))
        if self.is_valid.dtype != np.bool_ or self.is_valid.shape != self.actions.shape:
            raise ValueError(
                f"Sample.is_valid must be bool{list(self.actions.shape)} like actions; "
                f"got {self.is_valid.dtype}{list(self.is_valid.shape)}"
            )
        if not 0 <= self.num_committed < len(self.actions):
            raise ValueError(
                f"Sample.num_committed must be in 0..{len(self.actions) - 1} rows; got {self.num_committed}"
            )


@dataclass(frozen=True, eq=False)
class Conversation:
    """One vision-language record: what a user asked about some pictures, and what the assistant should answer.

    Args:
        images: uint8[h, w, 3] RGB pictures, in the order of their placeholders; empty for text alone.
        turns: (role, text), the user first, then in turn, the assistant last. Each `<image>` in a user's text stands for
            the next picture; an assistant's text holds none.
        source: where it came from (file and line, or the generator and its seed), for messages about it.

    Raises:
        ValueError: a picture is none, the turns do not alternate or one is empty, or placeholders and pictures differ.
    """

    images: tuple[ImageArray, ...]
    turns: tuple[tuple[Role, str], ...]
    source: str

    def __post_init__(self) -> None:
        what = f"Conversation from {self.source}"
        for index, image in enumerate(self.images):
            _check_image(f"{what}: images[{index}]", image)
        if not self.turns or len(self.turns) % 2:
            raise ValueError(f"{what}: turns must be pairs of user and assistant; got {len(self.turns)} turns")
        for index, (role, text) in enumerate(self.turns):
            expected = get_args(Role)[index % 2]
            if role != expected:
                raise ValueError(f"{what}: turn {index} must be of the {expected}; got {role!r}")
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{what}: turn {index} ({role}) must have a text; got {text!r}")
            if role == "assistant" and IMAGE_PLACEHOLDER in text:
                raise ValueError(
                    f"{what}: turn {index} is an answer and holds {IMAGE_PLACEHOLDER}; pictures are asked about"
                )
        num_placeholders = sum(text.count(IMAGE_PLACEHOLDER) for _, text in self.turns)
        if num_placeholders != len(self.images):
            raise ValueError(f"{what}: {len(self.images)} pictures, but {num_placeholders} times {IMAGE_PLACEHOLDER}")


@dataclass(frozen=True, eq=False)
class SceneTruth:
    """What a simulator knows about n camera pictures: where each object of interest is. Supervises a vision warm-up.

    Args:
        is_present: bool[n, num_objects].
        class_index: int64[n, num_objects], 0..num_classes-1; what kind of object (for example its colour).
        pixel: float32[n, num_objects, 2], (u to the right, v down) of the centre, pixels, may lie outside.
        target_index: int64[n], which object the instruction names.
        num_classes: number of kinds.

    Raises:
        ValueError: a wrong shape or type, or an index beyond what it points into.
    """

    is_present: BoolArray
    class_index: NDArray[np.int64]
    pixel: FloatArray
    target_index: NDArray[np.int64]
    num_classes: int

    def __post_init__(self) -> None:
        if self.is_present.dtype != np.bool_ or self.is_present.ndim != 2:
            raise ValueError(f"SceneTruth.is_present must be bool[n, num_objects]; got {_describe(self.is_present)}")
        num_pictures, num_objects = self.is_present.shape
        _check_float_array("SceneTruth.pixel", self.pixel, (num_pictures, num_objects, 2))
        for name, shape, limit in (
            ("class_index", (num_pictures, num_objects), self.num_classes),
            ("target_index", (num_pictures,), num_objects),
        ):
            index = getattr(self, name)
            if index.dtype != np.int64 or index.shape != shape:
                raise ValueError(f"SceneTruth.{name} must be int64{list(shape)}; got {_describe(index)}")
            if index.size and not 0 <= index.min() <= index.max() < limit:
                raise ValueError(f"SceneTruth.{name} must lie in 0..{limit - 1}; got {index.min()}..{index.max()}")


def _check_float_array(name: str, array: FloatArray, shape: tuple[int | str, ...]) -> None:
    """Raise a ValueError that names what was expected and what came; a string in `shape` stands for any size."""
    wanted = f"float32[{', '.join(str(size) for size in shape)}]"
    fits = (
        isinstance(array, np.ndarray)
        and array.dtype == np.float32
        and array.ndim == len(shape)
        and all(isinstance(size, str) or size == got for size, got in zip(shape, array.shape, strict=True))
    )
    if not fits:
        raise ValueError(f"{name} must be {wanted}; got {_describe(array)}")
    if not np.isfinite(array).all():
        where = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        raise ValueError(f"{name} must be finite; it holds {array[tuple(where)]} at index {where}")


def _check_images(name: str, images: Mapping[str, ImageArray]) -> None:
    """Raise a ValueError unless every entry is a non-empty uint8[h, w, 3] under a known view."""
    if not isinstance(images, Mapping):
        raise ValueError(f"{name} must map views to pictures; got {_describe(images)}")
    for view, image in images.items():
        if view not in VIEWS:
            raise ValueError(f"{name} has the view {view!r}; known views: {', '.join(VIEWS)}")
        _check_image(f"{name}[{view!r}]", image)


def _check_image(name: str, image: ImageArray) -> None:
    """Raise a ValueError unless `image` is a non-empty uint8[h, w, 3]."""
    is_image = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.size > 0
    if not is_image or image.shape[2] != 3:
        raise ValueError(f"{name} must be uint8[h, w, 3] (RGB, 0..255); got {_describe(image)}")


def _check_tick(name: str, tick: int) -> None:
    """Raise a ValueError unless `tick` is an integer."""
    if not isinstance(tick, int | np.integer):
        raise ValueError(f"{name} must be an integer (control steps); got {tick!r}")


def _describe(value: object) -> str:
    """Type and shape of an array, or the name of whatever else came instead."""
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
