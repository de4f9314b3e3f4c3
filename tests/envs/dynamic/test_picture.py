import numpy as np
import pytest

from cerebella.envs.dynamic.picture import Picture
from cerebella.types import FloatArray, ImageArray

RED = (255, 0, 0)
PLACES = np.array([[0.24, 0.16], [0.003, 0.318], [0.47, -0.01], [-0.4, 0.9], [9.0, -9.0]], dtype=np.float32)


def drawn(shape: str, centre: FloatArray, size_m: float, heading_rad: float = 0.0) -> ImageArray:
    picture = Picture(len(centre), 64, 96, (0, 0, 0))
    match shape:
        case "disc":
            picture.disc(centre, size_m, RED)
        case "ring":
            picture.ring(centre, size_m, 0.01, RED)
        case _:
            picture.box(centre, (size_m, size_m / 3), RED, heading_rad)
    return picture.finish()


def expected(shape: str, centre: FloatArray, size_m: float, heading_rad: float = 0.0) -> FloatArray:
    """The red channel by the formula over the whole picture, 64 x 96."""
    pixel_m = 0.005
    x, y = np.meshgrid((np.arange(96) + 0.5) * pixel_m, (np.arange(64) + 0.5) * pixel_m)
    dx, dy = x - centre[0], y - centre[1]
    distance = np.hypot(dx, dy) - size_m
    if shape == "ring":
        distance = np.abs(distance) - 0.005
    if shape == "box":
        c, s = np.cos(heading_rad), np.sin(heading_rad)
        distance = np.maximum(np.abs(c * dx + s * dy) - size_m, np.abs(c * dy - s * dx) - size_m / 3)
    return 255 * np.clip(0.5 - distance / pixel_m, 0.0, 1.0)


@pytest.mark.parametrize("size_m", [0.004, 0.03, 0.2, 0.5])
@pytest.mark.parametrize(
    ("shape", "heading_rad"), [("disc", 0.0), ("ring", 0.0), ("box", 0.0), ("box", 0.7), ("box", -2.2)]
)
def test_a_shape_is_its_formula_wherever_it_lies(shape: str, heading_rad: float, size_m: float) -> None:
    pictures = drawn(shape, PLACES, size_m, heading_rad)
    assert pictures[..., 0].any()
    assert not pictures[..., 1:].any()
    for picture, centre in zip(pictures, PLACES, strict=True):
        assert np.abs(picture[..., 0] - expected(shape, centre, size_m, heading_rad)).max() <= 1.0


def test_scenes_do_not_touch_each_other() -> None:
    together = drawn("disc", PLACES, 0.03)
    for i in range(len(PLACES)):
        np.testing.assert_array_equal(drawn("disc", PLACES[i : i + 1], 0.03)[0], together[i])


def test_sizes_colours_and_visibility_may_differ_between_scenes() -> None:
    centre = np.tile(PLACES[:1], (3, 1))
    picture = Picture(3, 64, 96, [(0, 0, 0), (10, 10, 10), (0, 0, 0)])
    is_visible = np.array([True, True, False])
    picture.disc(centre, np.array([0.02, 0.06, 0.06]), np.array([RED, (0, 255, 0), RED]), is_visible)
    seen = picture.finish(light=np.array([1.0, 1.1, 1.0]))
    assert [tuple(pixel) for pixel in seen[:, 32, 48].tolist()] == [RED, (0, 255, 0), (0, 0, 0)]
    assert tuple(seen[1, 0, 0]) == (11, 11, 11)
    assert (seen[1, ..., 1] > 200).sum() > 4 * (seen[0, ..., 0] > 200).sum()


def test_the_gap_between_the_fingers_shows_the_opening() -> None:
    centre = np.tile(PLACES[:1], (3, 1))
    picture = Picture(3, 384, 576, (0, 0, 0))
    picture.gripper(centre, np.array([0.0, 0.5, 1.0]))
    rows = [np.flatnonzero(column[:, 1] > 100) for column in picture.finish()[:, :, 280]]
    gaps = [int(np.diff(row).max()) for row in rows]
    assert gaps == sorted(set(gaps))


@pytest.mark.parametrize("size", [(64, 64), (16, 24)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="64 x 96"):
        Picture(1, *size, (0, 0, 0))
