import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import expert_ticks
from cerebella.envs.workcell.scene import CAMERAS
from cerebella.envs.workcell.sightings import pinhole_view, sightings
from cerebella.envs.workcell.task import SceneObject

from .cube_task import CubeTask

SIZE_PX = (160, 160)


@pytest.fixture(scope="module")
def environment() -> WorkcellEnvironment:
    return WorkcellEnvironment(CubeTask(), render_size=SIZE_PX, randomisation="none")


def see(environment: WorkcellEnvironment, view: str, objects: tuple[SceneObject, ...] | None = None):
    pinhole = pinhole_view(environment.cell, CAMERAS[view], SIZE_PX)
    return sightings(environment.cell, pinhole, environment.truth() if objects is None else objects)[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_box_is_where_the_pixels_are(environment: WorkcellEnvironment, seed: int) -> None:
    num_compared = 0
    for action in expert_ticks(environment, seed):
        if action.tick % 15:
            continue
        if action.tick > 60:
            break
        for view, picture in environment.draw().items():
            red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
            rows, columns = np.nonzero((red > 50) & (red > 2 * green) & (red > 2 * blue))
            seen = see(environment, view)
            if len(rows) == 0:
                assert seen.seen <= 0.1
            if seen.seen < 1.0:
                continue
            assert seen.box_px is not None
            drawn = np.array([columns.min(), rows.min(), -columns.max() - 1, -rows.max() - 1])
            room = drawn - np.multiply(seen.box_px, [1, 1, -1, -1])
            assert room.min() > -1.5
            assert room.max() < 4.0  # a finger may cover an edge
            num_compared += 1
    assert num_compared >= 5


def test_what_is_hidden_or_outside_is_not_seen(environment: WorkcellEnvironment) -> None:
    environment.reset(0)
    environment.cell.refresh()
    size = np.full(3, 0.03)

    def thing(*position_m: float) -> tuple[SceneObject, ...]:
        return (SceneObject("thing", "block", "red", np.array(position_m), size),)

    assert see(environment, "base", thing(0.35, 0.0, 0.015)).seen == 1.0
    under_the_table = see(environment, "base", thing(0.35, 0.0, -0.2))
    assert under_the_table.box_px is not None
    assert under_the_table.seen == 0.0
    behind_the_camera = see(environment, "base", thing(-1.0, 0.0, 0.7))
    assert (behind_the_camera.box_px, behind_the_camera.seen) == (None, 0.0)
    left, top, right, bottom = see(environment, "base", thing(0.35, 0.0, 0.015)).box_px or (0, 0, 0, 0)
    assert 0 <= left < right <= SIZE_PX[1]
    assert 0 <= top < bottom <= SIZE_PX[0]


def test_a_point_on_the_axis_is_in_the_middle(environment: WorkcellEnvironment) -> None:
    environment.reset(0)
    view = pinhole_view(environment.cell, "base", SIZE_PX)
    ahead = view.T_world_camera @ [0.0, 0.0, -0.5, 1.0]
    pixels, depth = view.project(ahead[None, :3])
    np.testing.assert_allclose(pixels[0], [80.0, 80.0])
    assert depth[0] == pytest.approx(0.5)
