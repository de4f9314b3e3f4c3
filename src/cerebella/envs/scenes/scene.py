"""What there is to see: three to six flat objects that do not touch, drawn from one seed, in two splits that share nothing.

Two looks: a `table` with objects of any size and shape, and the `belt` of the conveyor task, seen by the conveyor's own
camera from half the distance, with its gripper and its three kinds of parts.

A scene's composition (which colours and shapes, how many of each, wherever they lie) decides its split, so no
combination of objects in a held-out scene ever occurs in training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic import conveyor
from cerebella.envs.scenes.shapes import HEIGHT_PX, REACH, SHAPES, WIDTH_PX, Outline
from cerebella.types import BoolArray, FloatArray

COLOURS = conveyor.COLOURS
LOOKS = ("table", "belt")
MIN_OBJECTS, MAX_OBJECTS = 3, 6
Split = Literal["train", "held_out"]
SPLITS: tuple[str, ...] = get_args(Split)

HELD_OUT_SHARE = 8
"""One composition in so many is held out."""
BELT_SIZE_PX = 5.0
"""Size of a conveyor part (the disc's radius) from half the usual distance."""
GRIPPER_REACH_PX = 9.0

_SIZE_PX = (5.0, 8.0)
_GAP_PX = 1.5
_RAIL_PX = 8.5
_NUM_TRIES = 24
_BLOCK = 2048
_BELT_PROBABILITY = 0.4
_COLOUR_WEIGHTS = np.array([0.28, 0.23, 0.20, 0.16, 0.13])
_SHAPE_WEIGHTS = np.array([[0.27, 0.22, 0.20, 0.17, 0.14], [0.40, 0.32, 0.28, 0.0, 0.0]])
_COMMON_PROBABILITY, _COMMON_SHARE = 0.5, 0.65
NUM_BACKGROUND = 8


@dataclass(frozen=True, eq=False)
class Scenes:
    """N scenes with up to P = 6 objects each. Positions in px of the 96 x 64 reference picture.

    Args:
        look: int32[N] into `LOOKS`. is_present: bool[N, P].
        colour, shape: int32[N, P] into `COLOURS` and `SHAPES`.
        centre: float32[N, P, 2], (u, v). size: float32[N, P], px. heading: float32[N, P], rad.
        gripper: float32[N, 2], (u, v) of the gripper; of a meaning on a belt only.
        background: float32[N, 8] in 0..1, the renderer's draws: light, brightness, tint, pattern.
    """

    look: NDArray[np.int32]
    is_present: BoolArray
    colour: NDArray[np.int32]
    shape: NDArray[np.int32]
    centre: FloatArray
    size: FloatArray
    heading: FloatArray
    gripper: FloatArray
    background: FloatArray

    def __len__(self) -> int:
        """Number of scenes, N."""
        return len(self.look)

    def take(self, indices: NDArray[np.integer] | BoolArray | slice | Sequence[int]) -> "Scenes":
        """The scenes at `indices`, copied."""
        chosen = indices if isinstance(indices, slice | np.ndarray) else np.asarray(indices, dtype=np.int64)
        return Scenes(**{f.name: np.array(getattr(self, f.name)[chosen]) for f in fields(self)})

    @property
    def composition(self) -> NDArray[np.uint64]:
        """uint64[N]: a hash of which kinds (colour and shape) there are and how many of each; blind to everything else."""
        return _composition(self.is_present, self.colour, self.shape)

    @property
    def is_held_out(self) -> BoolArray:
        """bool[N]: whether the composition belongs to the held-out split."""
        return _is_held_out(self.composition)

    def outline(self, scene: int, place: int) -> Outline:
        """The object at one place of one scene."""
        u, v = self.centre[scene, place]
        size, heading = self.size[scene, place], self.heading[scene, place]
        return Outline(int(self.shape[scene, place]), float(u), float(v), float(size), float(heading))


def concatenate(scenes: Sequence[Scenes]) -> Scenes:
    """Join along the first axis."""
    names = [f.name for f in fields(Scenes)]
    return Scenes(**{name: np.concatenate([getattr(s, name) for s in scenes]) for name in names})


def draw_scenes(num_scenes: int, seed: int, split: Split) -> Scenes:
    """The first `num_scenes` of the endless sequence that (seed, split) decides.

    Raises:
        ValueError: no scenes wanted, a negative seed, or an unknown split.
    """
    if num_scenes < 1:
        raise ValueError(f"scenes: num_scenes must be 1 or more; got {num_scenes}")
    blocks: list[Scenes] = []
    for block in scene_blocks(seed, split):
        blocks.append(block)
        if sum(len(block) for block in blocks) >= num_scenes:
            break
    return concatenate(blocks).take(slice(0, num_scenes))


def scene_blocks(seed: int, split: Split) -> Iterator[Scenes]:
    """The endless sequence, some hundred scenes at a time.

    Raises:
        ValueError: a negative seed, or an unknown split.
    """
    if seed < 0 or split not in SPLITS:
        raise ValueError(f"scenes: seed must be 0 or more and split one of {', '.join(SPLITS)}; got {seed}, {split!r}")
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    while True:
        yield _draw_block(generator, split == "held_out")


def _draw_block(generator: np.random.Generator, is_held_out: bool) -> Scenes:
    """Kinds first, then places for those of the wanted split; scenes whose objects find no room are left out."""
    num, shape_of = _BLOCK, (_BLOCK, MAX_OBJECTS)
    look = (generator.random(num) < _BELT_PROBABILITY).astype(np.int32)
    is_present = np.arange(MAX_OBJECTS) < generator.integers(MIN_OBJECTS, MAX_OBJECTS + 1, num)[:, None]
    colour = _draw_index(generator.random(shape_of), np.tile(_COLOUR_WEIGHTS, (num, 1)))
    shape = _draw_index(generator.random(shape_of), _SHAPE_WEIGHTS[look])
    _favour_one(generator, colour, shape)
    wanted = _is_held_out(_composition(is_present, colour, shape)) == is_held_out
    look, is_present, colour, shape = look[wanted], is_present[wanted], colour[wanted], shape[wanted]
    size = generator.uniform(*_SIZE_PX, is_present.shape)
    size[look == LOOKS.index("belt")] = BELT_SIZE_PX
    centre, gripper, has_room = _place(generator, look, is_present, size)
    scenes = Scenes(
        look=look,
        is_present=is_present,
        colour=colour,
        shape=shape,
        centre=centre,
        size=size.astype(np.float32),
        heading=generator.uniform(-np.pi, np.pi, size.shape).astype(np.float32),
        gripper=gripper,
        background=generator.random((len(look), NUM_BACKGROUND), dtype=np.float32),
    )
    return scenes.take(has_room)


def _draw_index(uniform: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.int32]:
    """int32[N, P] with the probabilities weights[N, k]."""
    edges = np.cumsum(weights, axis=1)[:, None, :-1]
    return (uniform[:, :, None] > edges).sum(axis=2).astype(np.int32)


def _favour_one(generator: np.random.Generator, colour: NDArray[np.int32], shape: NDArray[np.int32]) -> None:
    """In half of the scenes most objects share a colour or a shape, so that there is something to count (in place)."""
    has_common = generator.random(_BLOCK) < _COMMON_PROBABILITY
    shares_colour = generator.random(_BLOCK) < 0.5
    joins = (generator.random(colour.shape) < _COMMON_SHARE) & has_common[:, None]
    for attribute, chosen in ((colour, shares_colour), (shape, ~shares_colour)):
        changed = joins & chosen[:, None]
        attribute[changed] = np.broadcast_to(attribute[:, :1], attribute.shape)[changed]


def _place(
    generator: np.random.Generator, look: NDArray[np.int32], is_present: BoolArray, size: NDArray[np.float64]
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """One after the other, each at the first of `_NUM_TRIES` random places that is free; the gripper of a belt first.

    Returns:
        centre float32[N, P, 2], gripper float32[N, 2], and bool[N]: everything found a place.
    """
    is_belt = look == LOOKS.index("belt")
    reach = np.concatenate([np.where(is_belt, GRIPPER_REACH_PX, 0.0)[:, None], REACH * size], axis=1)
    is_used = np.concatenate([is_belt[:, None], is_present], axis=1)
    rail = np.where(is_belt, _RAIL_PX, 0.0)[:, None]
    place = np.zeros((*reach.shape, 2))
    has_room = np.ones(len(look), dtype=np.bool_)
    everyone = np.arange(len(look))
    for k in range(reach.shape[1]):
        draws = generator.random((len(look), _NUM_TRIES, 2))
        own = reach[:, k, None]
        u = own + draws[..., 0] * (WIDTH_PX - 2 * own)
        v = own + rail + draws[..., 1] * (HEIGHT_PX - 2 * (own + rail))
        candidates = np.stack([u, v], axis=-1)
        apart = np.linalg.norm(candidates[:, :, None] - place[:, None, :k], axis=-1)
        enough = apart >= (own + reach[:, :k])[:, None] + _GAP_PX
        is_free = (enough | ~is_used[:, None, :k]).all(axis=2)
        place[:, k] = candidates[everyone, is_free.argmax(axis=1)]
        has_room &= is_free.any(axis=1) | ~is_used[:, k]
    return place[:, 1:].astype(np.float32), place[:, 0].astype(np.float32), has_room


def _composition(is_present: BoolArray, colour: NDArray[np.int32], shape: NDArray[np.int32]) -> NDArray[np.uint64]:
    """See `Scenes.composition`."""
    num_kinds = len(COLOURS) * len(SHAPES)
    kind = np.where(is_present, colour * len(SHAPES) + shape, num_kinds)
    code = np.zeros(len(kind), dtype=np.uint64)
    for column in np.sort(kind, axis=1).T:
        code = code * np.uint64(num_kinds + 1) + column.astype(np.uint64)
    return _scramble(code)


def _is_held_out(composition: NDArray[np.uint64]) -> BoolArray:
    return composition % np.uint64(HELD_OUT_SHARE) == 0


def _scramble(code: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit of the input moves every bit of the output."""
    code = code + np.uint64(0x9E3779B97F4A7C15)
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return code ^ (code >> np.uint64(31))
