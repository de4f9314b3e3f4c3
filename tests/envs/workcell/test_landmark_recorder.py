import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import expert_ticks
from cerebella.envs.workcell.landmark_recorder import LandmarkRecorder
from cerebella.envs.workcell.task import SceneObject
from cerebella.geometry import transform

from .cube_task import CubeEpisode, CubeTask

SIZE_PX = (120, 160)


class TwoThings(CubeTask):
    """A cube that turns blue when it is lifted, and something that is only there later."""

    def truth(self, cell: Cell, episode: CubeEpisode) -> tuple[SceneObject, ...]:
        (cube,) = super().truth(cell, episode)
        colour = "blue" if cube.position_m[2] > 0.05 else "red"
        cube = SceneObject(cube.name, cube.kind, colour, cube.position_m, cube.size_m)
        late = SceneObject("late", "block", "grey", np.array([0.3, 0.0, 0.0]), np.full(3, 0.01))
        return (late, cube) if cell.tick >= 10 else (cube,)

    def named(self, cell: Cell, episode: CubeEpisode) -> tuple[str, ...]:
        return ("cube", "late") if cell.tick >= 10 else ("cube",)


def test_landmarks_lie_on_the_pixels_of_their_things() -> None:
    environment = WorkcellEnvironment(CubeTask(), render_size=SIZE_PX, randomisation="mild")
    recorder = LandmarkRecorder(environment)
    centres: list[tuple[int, int, float, float]] = []
    for row, _ in enumerate(expert_ticks(environment, 0)):
        recorder.look()
        if row % 15 == 0 and row <= 60:
            for view, picture in enumerate(environment.draw().values()):
                red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
                v, u = np.nonzero((red > 50) & (red > 2 * green) & (red > 2 * blue))
                at_the_edge = len(u) and (min(u.min(), v.min()) == 0 or u.max() == 159 or v.max() == 119)
                if len(u) and not at_the_edge:
                    centres.append((row, view, (u.min() + u.max() + 1) / 2, (v.min() + v.max() + 1) / 2))
    found = recorder.finish()
    assert found.views == ("base", "left_wrist", "right_wrist")
    assert (found.size_px, found.names.tolist(), found.colour.tolist()) == (SIZE_PX, ["cube"], ["red"])
    assert found.pixel.shape == (len(found.next), 3, 1, 2)
    assert len(centres) >= 6
    for row, view, u, v in centres:
        assert found.is_inside[row, view, 0]
        np.testing.assert_allclose(found.pixel[row, view, 0], [u, v], atol=6.0)
    inside = found.pixel[found.is_inside]
    assert (inside >= 0).all()
    assert (inside < [160, 120]).all()
    np.testing.assert_array_equal(found.next, np.where(found.named[:, 0], 0, -1))
    assert found.named[:50].all()
    assert not found.named[-80:].any()  # it has been lifted


def test_behind_a_camera_is_not_inside() -> None:
    environment = WorkcellEnvironment(CubeTask(), render_size=SIZE_PX)
    environment.reset(0)
    recorder = LandmarkRecorder(environment)
    for position_m in ([-1.0, 0.0, 0.7], [0.35, 0.0, 0.015]):
        environment.cell.place_body("cube", transform(np.eye(3), position_m))
        environment.cell.refresh()
        recorder.look()
    found = recorder.finish()
    assert found.is_inside[:, 0, 0].tolist() == [False, True]
    np.testing.assert_array_equal(found.pixel[0, 0, 0], [0.0, 0.0])


def test_what_changes_is_another_thing_and_what_is_away_is_not_inside() -> None:
    environment = WorkcellEnvironment(TwoThings(), render_size=SIZE_PX)
    recorder = LandmarkRecorder(environment)
    for _ in expert_ticks(environment, 0):
        recorder.look()
    found = recorder.finish()
    assert list(zip(found.names, found.colour, strict=True)) == [("cube", "red"), ("late", "grey"), ("cube", "blue")]
    lifted = int(np.flatnonzero(found.next == 2)[0])
    assert found.next.tolist() == [0] * lifted + [2] * (len(found.next) - lifted)
    assert found.named[:, 1].tolist() == [False] * 10 + [True] * (len(found.next) - 10)
    assert not found.is_inside[:10, :, 1].any()
    assert found.is_inside[10:, 0, 1].all()
    assert not (found.is_inside[..., 0] & found.is_inside[..., 2]).any()


def test_a_task_cannot_name_what_is_not_there() -> None:
    class Wrong(CubeTask):
        def named(self, cell: Cell, episode: CubeEpisode) -> tuple[str, ...]:
            return ("ball",)

    environment = WorkcellEnvironment(Wrong(), render_size=SIZE_PX)
    environment.reset(0)
    with pytest.raises(ValueError, match="names 'ball', but there are cube"):
        LandmarkRecorder(environment).look()
