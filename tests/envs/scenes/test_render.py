import numpy as np
import pytest

from cerebella.envs.dynamic.conveyor_render import COLOUR_RGB
from cerebella.envs.scenes.render import render
from cerebella.envs.scenes.scene import Scenes, draw_scenes
from cerebella.envs.scenes.shapes import SHAPES, signed_distance


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return draw_scenes(120, 0, "train")


@pytest.mark.parametrize("height", [64, 128])
def test_the_pictures_show_what_the_scenes_say(scenes: Scenes, height: int) -> None:
    pictures = render(scenes, height)
    assert pictures.shape == (120, height, 3 * height // 2, 3)
    is_solid = scenes.is_present & (scenes.shape != SHAPES.index("ring"))
    scene, place = np.nonzero(is_solid)
    u, v = np.floor(scenes.centre[scene, place] * height / 64).astype(int).T
    light = 0.85 + 0.3 * scenes.background[scene, 0]
    seen = pictures[scene, v, u].astype(float) / light[:, None]
    nearest = np.linalg.norm(seen[:, None] - COLOUR_RGB, axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(nearest, scenes.colour[scene, place])


def test_what_changes_when_an_object_goes_is_its_outline(scenes: Scenes) -> None:
    """Both looks, so also that the conveyor's camera draws parts of the size that grounding answers assume."""
    everything = render(scenes).astype(int)
    without = scenes.take(slice(None))
    without.is_present[:, 0] = False
    changed = np.abs(everything - render(without)).max(axis=-1) > 12
    for look in (0, 1):
        for k in np.flatnonzero(scenes.look == look):
            span_u, span_v = (np.arange(size, dtype=np.float32) + 0.5 for size in (96, 64))
            u, v = scenes.centre[k, 0]
            distance = signed_distance(
                scenes.shape[k, :1],
                scenes.size[k, :1],
                scenes.heading[k, :1],
                (span_u - u)[None, None, :],
                (span_v - v)[None, :, None],
            )[0]
            assert changed[k][distance < -0.6].all()
            assert not changed[k][distance > 0.6].any()


def test_a_scene_looks_the_same_alone_and_among_others(scenes: Scenes) -> None:
    together = render(scenes)
    for k in range(0, 120, 17):
        np.testing.assert_array_equal(render(scenes.take([k]))[0], together[k])


@pytest.mark.parametrize("height", [16, 65])
def test_sizes_without_sense_are_errors(scenes: Scenes, height: int) -> None:
    with pytest.raises(ValueError, match="32 or more"):
        render(scenes, height)
