from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.envs.scenes.scene import COLOURS, HELD_OUT_SHARE, MIN_OBJECTS, Scenes, draw_scenes
from cerebella.envs.scenes.shapes import HEIGHT_PX, SHAPES, WIDTH_PX, Outline, bounds, signed_distance


def kinds_of(scenes: Scenes) -> set[tuple[tuple[int, int], ...]]:
    """Sorted (colour, shape) of every scene, without any hash."""
    rows = zip(scenes.colour.tolist(), scenes.shape.tolist(), scenes.is_present.tolist(), strict=True)
    return {tuple(sorted((c, s) for c, s, is_there in zip(*row, strict=True) if is_there)) for row in rows}


def test_the_splits_share_no_composition_whatever_the_seeds() -> None:
    train = kinds_of(draw_scenes(1500, 0, "train")) | kinds_of(draw_scenes(1500, 1, "train"))
    held_out = kinds_of(draw_scenes(600, 0, "held_out")) | kinds_of(draw_scenes(600, 7, "held_out"))
    assert min(len(train), len(held_out)) > 400
    assert not train & held_out


def test_a_seed_decides_the_scenes_and_a_longer_draw_begins_with_the_shorter_one() -> None:
    short, long = draw_scenes(50, 3, "train"), draw_scenes(4000, 3, "train")
    np.testing.assert_array_equal(short.centre, long.centre[:50])
    np.testing.assert_array_equal(short.composition, long.composition[:50])
    other = draw_scenes(50, 4, "train")
    assert not np.array_equal(short.centre, other.centre)


def test_the_composition_is_blind_to_places_and_order_but_not_to_kinds() -> None:
    scenes = draw_scenes(200, 0, "train")
    order = np.random.default_rng(0).permutation(scenes.colour.shape[1])
    shuffled = Scenes(
        scenes.look,
        scenes.is_present[:, order],
        scenes.colour[:, order],
        scenes.shape[:, order],
        scenes.centre[:, order] + 1,
        scenes.size[:, order],
        scenes.heading[:, order],
        scenes.gripper,
        scenes.background,
    )
    np.testing.assert_array_equal(scenes.composition, shuffled.composition)
    assert len(np.unique(scenes.composition)) == len(kinds_of(scenes))


def test_about_one_composition_in_eight_is_held_out() -> None:
    num_kinds = len(COLOURS) * len(SHAPES)
    kinds = np.array(list(combinations_with_replacement(range(num_kinds), 3)), dtype=np.int32)
    scene = draw_scenes(1, 0, "train")
    everyone = scene.take(np.zeros(len(kinds), dtype=np.int64))
    everyone.is_present[:] = np.arange(6) < 3
    everyone.colour[:, :3], everyone.shape[:, :3] = kinds // len(SHAPES), kinds % len(SHAPES)
    assert len(np.unique(everyone.composition)) == len(kinds) == 2925
    assert abs(everyone.is_held_out.mean() - 1 / HELD_OUT_SHARE) < 0.02


def test_objects_lie_inside_and_apart() -> None:
    scenes = draw_scenes(200, 5, "train")
    assert scenes.is_present.sum(axis=1).min() >= MIN_OBJECTS
    for scene in range(len(scenes)):
        places = np.flatnonzero(scenes.is_present[scene])
        for place in places:
            outline = scenes.outline(scene, int(place))
            low_u, low_v, high_u, high_v = bounds(outline.shape, outline.size, outline.heading)
            assert outline.u + low_u >= 0
            assert outline.u + high_u <= WIDTH_PX
            assert outline.v + low_v >= 0
            assert outline.v + high_v <= HEIGHT_PX
        centre = scenes.centre[scene, places]
        apart = np.linalg.norm(centre[:, None] - centre[None], axis=-1) + 1e3 * np.eye(len(places))
        reach = scenes.size[scene, places]
        assert (apart >= reach[:, None] + reach[None] + 1.0).all()


def test_belts_hold_the_conveyors_shapes_only() -> None:
    scenes = draw_scenes(1000, 0, "train")
    assert 0.3 < scenes.look.mean() < 0.5
    on_belt = scenes.shape[scenes.look == 1][scenes.is_present[scenes.look == 1]]
    assert set(on_belt.tolist()) == {0, 1, 2}
    assert set(scenes.shape[scenes.is_present].tolist()) == set(range(len(SHAPES)))
    assert set(scenes.colour[scenes.is_present].tolist()) == set(range(len(COLOURS)))


@pytest.mark.parametrize(("num", "seed", "split"), [(0, 0, "train"), (1, -1, "train"), (1, 0, "test")])
def test_what_cannot_be_drawn_is_an_error(num: int, seed: int, split: str) -> None:
    with pytest.raises(ValueError, match=r"num_scenes|held_out"):
        draw_scenes(num, seed, split)  # pyright: ignore[reportArgumentType]


outlines = st.builds(
    Outline,
    shape=st.integers(0, len(SHAPES) - 1),
    u=st.floats(20, 70),
    v=st.floats(20, 40),
    size=st.floats(5, 8),
    heading=st.floats(-3.2, 3.2),
)


@settings(deadline=None)
@given(outlines)
def test_the_bounding_box_is_tight(outline: Outline) -> None:
    low_u, low_v, high_u, high_v = bounds(outline.shape, outline.size, outline.heading)
    span = np.arange(-12, 12, 0.05, dtype=np.float32)
    distance = signed_distance(
        np.array([outline.shape], dtype=np.int32),
        np.array([outline.size], dtype=np.float32),
        np.array([outline.heading], dtype=np.float32),
        span[None, None, :],
        span[None, :, None],
    )[0]
    rows, columns = np.nonzero(distance <= 0)
    found = [span[columns.min()], span[rows.min()], span[columns.max()], span[rows.max()]]
    np.testing.assert_allclose(found, [low_u, low_v, high_u, high_v], atol=0.12)


@settings(deadline=None)
@given(outlines)
def test_an_object_contains_its_centre_and_nothing_outside_its_box(outline: Outline) -> None:
    point, box = outline.point("it"), outline.box("it")
    assert outline.contains(point.u, point.v)
    assert not outline.contains(box.left - 15, point.v)
    assert not outline.contains(point.u, box.bottom + 15)
    assert outline.contains([point.u, box.right + 20], [point.v, point.v]).tolist() == [True, False]
