"""Where things are in a picture, as text: the boxes and points of Qwen3-VL, integers 0..1000 of width and height.

Relative numbers survive any resizing of the picture; after a crop they have to be computed again. An answer is a JSON list
such as `[{"bbox_2d": [120, 300, 240, 410], "label": "red block"}]`, or `point_2d` with two numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FULL_SCALE = 1000


@dataclass(frozen=True)
class Box:
    """A rectangle, 0..1000: left < right of the width, top < bottom of the height."""

    label: str
    left: int
    top: int
    right: int
    bottom: int

    def __post_init__(self) -> None:
        _check_range(self.label, (self.left, self.top, self.right, self.bottom))
        if not (self.left < self.right and self.top < self.bottom):
            raise ValueError(
                f"the box of {self.label!r} must have left < right and top < bottom; got "
                f"[{self.left}, {self.top}, {self.right}, {self.bottom}]"
            )

    def overlap(self, other: "Box") -> float:
        """Area of the intersection over area of the union, 0..1."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(0, width) * max(0, height)
        return shared / (self._area + other._area - shared)

    def holds(self, point: "Point") -> bool:
        """Whether a point lies inside or on the edge."""
        return self.left <= point.u <= self.right and self.top <= point.v <= self.bottom

    @property
    def _area(self) -> int:
        return (self.right - self.left) * (self.bottom - self.top)


@dataclass(frozen=True)
class Point:
    """A place, 0..1000: u of the width to the right, v of the height down."""

    label: str
    u: int
    v: int

    def __post_init__(self) -> None:
        _check_range(self.label, (self.u, self.v))


def to_relative_1000(pixels: ArrayLike, width_px: int, height_px: int) -> NDArray[np.int64]:
    """Pixel coordinates (u, v) [..., 2] to the nearest integers 0..1000, int64[..., 2].

    Args:
        pixels: the centre of the upper left pixel is at (0.5, 0.5), the lower right corner at (width, height).

    Raises:
        ValueError: a coordinate outside the picture, or not pairs.
    """
    places, size = _pairs(pixels), np.array([width_px, height_px], dtype=np.float64)
    is_inside = (places >= 0) & (places <= size)
    if (size <= 0).any() or not is_inside.all():
        raise ValueError(
            f"pixel coordinates must lie in 0..{width_px} and 0..{height_px} px (a picture of at least 1 px); "
            f"got {places[~is_inside.all(axis=-1)].tolist()}"
        )
    return np.floor(places / size * FULL_SCALE + 0.5).astype(np.int64)


def to_pixels(relative: ArrayLike, width_px: int, height_px: int) -> NDArray[np.float64]:
    """Coordinates 0..1000 [..., 2] to pixels (u, v), float64[..., 2].

    Raises:
        ValueError: not pairs.
    """
    return _pairs(relative) * np.array([width_px, height_px]) / FULL_SCALE


def grounding_text(items: Sequence[Box | Point]) -> str:
    """Boxes and points as the answer that a model should give; nothing there is `[]`."""
    return json.dumps(
        [
            {"bbox_2d": [item.left, item.top, item.right, item.bottom], "label": item.label}
            if isinstance(item, Box)
            else {"point_2d": [item.u, item.v], "label": item.label}
            for item in items
        ],
        ensure_ascii=False,
    )


def parse_grounding(text: str) -> list[Box | Point]:
    """Read an answer, in or out of a ```json fence; numbers are rounded to integers.

    Raises:
        ValueError: not such a list, or a number outside 0..1000.
    """
    body = text.strip()
    if body.startswith("```") and body.endswith("```"):
        body = body[3:-3].removeprefix("json").strip()
    try:
        entries = json.loads(body)
    except json.JSONDecodeError as error:
        raise ValueError(f"an answer with boxes or points must be a JSON list; got {text!r}: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"an answer with boxes or points must be a JSON list; got {text!r}")
    return [_item(entry) for entry in entries]


def _item(entry: object) -> Box | Point:
    if isinstance(entry, Mapping):
        for key, count in (("bbox_2d", 4), ("point_2d", 2)):
            numbers = entry.get(key)
            if not isinstance(numbers, list) or len(numbers) != count:
                continue
            if all(isinstance(n, int | float) and abs(n) < 1e6 for n in numbers):
                label, rounded = str(entry.get("label", "")), [int(np.floor(n + 0.5)) for n in numbers]
                return Box(label, *rounded) if count == 4 else Point(label, *rounded)
    raise ValueError(f"an entry must have bbox_2d with 4 numbers or point_2d with 2, 0..{FULL_SCALE}; got {entry!r}")


def _check_range(label: str, numbers: Sequence[int]) -> None:
    if not all(0 <= number <= FULL_SCALE for number in numbers):
        raise ValueError(f"coordinates of {label!r} must lie in 0..{FULL_SCALE}; got {list(numbers)}")


def _pairs(values: ArrayLike) -> NDArray[np.float64]:
    pairs = np.asarray(values, dtype=np.float64)
    if pairs.shape[-1:] != (2,):
        raise ValueError(f"coordinates must be pairs (u, v), [..., 2]; got {list(pairs.shape)}")
    return pairs
