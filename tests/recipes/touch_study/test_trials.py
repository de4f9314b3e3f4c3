"""Rows of refinements by an oracle, a stubborn one, a wild one, and in a world that fails."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from cerebella.geometry import Array, transform
from cerebella.recipes.touch_study.disturbances import measure_disturbances, push_of
from cerebella.recipes.touch_study.erring_hand import RememberingWorld
from cerebella.recipes.touch_study.examples import from_row, refine_example, to_row, with_goal
from cerebella.recipes.touch_study.hand_drawing import faces_of
from cerebella.recipes.touch_study.protocol import Protocol, Trial, draw_trial
from cerebella.recipes.touch_study.summary import is_success
from cerebella.recipes.touch_study.tactile_figures import one_refinement, start_goal_after
from cerebella.recipes.touch_study.trials import measure, measure_trial
from cerebella.recipes.touch_study.video import write_film
from cerebella.touch.goal import Goal
from cerebella.touch.grasp import Grasp
from cerebella.touch.objects import SEEN, Shape
from tests.touch.tiny_world import Fixed, Oracle

pytest.importorskip("mujoco")
ROD, PLATE = "rod_8x120", "plate_5x110x50"
NEAR = "5 deg / 5 mm"


def oracle_of(trial: Trial, noise_m: float = 0.0, noise_rad: float = 0.0) -> Oracle:
    return Oracle(lambda: trial.hand.T_wrist_object, trial.T_wrist_object_goal, noise_m, noise_rad)


def test_the_row_of_an_oracle() -> None:
    trial = draw_trial(Protocol(goal="random"), PLATE, 0)
    row = measure(oracle_of(trial), Protocol(goal="random"), trial)
    assert (row["outcome"], row["problem"], row["moves"], row["went_back"]) == ("converged", "", 1, False)
    assert row["errors"][0] == row["start"]
    assert max(row["start"]) > 500
    assert row["end"] == row["errors"][-1] == [0, 0]
    assert 0 < row["way"][0] < 20_000
    assert 0 < row["way"][1] <= 35_000


def test_refusals_are_named() -> None:
    strange = Fixed(np.eye(4), embedding=np.full(4, 0.9, dtype=np.float32))
    row = measure_trial(strange, Protocol(), ROD, 0)
    assert (row["outcome"], row["problem"], row["moves"]) == ("refused", "distribution", 0)
    assert row["reason"].startswith("outside the trained distribution")
    assert measure_trial(strange, Protocol(handling="lenient"), ROD, 0)["outcome"] == "converged"
    assert measure_trial(Fixed(np.eye(4)), Protocol(fault="no_object"), ROD, 0)["problem"] == "contact"
    assert measure_trial(Fixed(np.zeros((4, 4))), Protocol(), ROD, 0)["problem"] == "prediction"
    turned = transform(np.eye(3), np.array([0.0, 0.0, 1.0]))
    assert measure_trial(Fixed(turned), Protocol(), ROD, 0)["outcome"] in ("refused", "budget", "stopped_growing")


def test_no_prediction_takes_the_wrist_beyond_its_bound() -> None:
    for number in range(3):
        trial = draw_trial(Protocol(), ROD, number)
        row = measure(oracle_of(trial, 0.02, 0.3), Protocol(), trial)
        assert row["way"][0] <= 20_000
        assert row["way"][1] <= 35_000


class _Failing:
    """A world that gives so many grasps, and then fails."""

    name = "failing"

    def __init__(self, trial: Trial, num_grasps: int) -> None:
        self._world, self._num_left = trial.world, num_grasps

    def grasp(self, shape: Shape, T_wrist_object: Array) -> Grasp:
        self._num_left -= 1
        if self._num_left < 0:
            raise RuntimeError("the simulation became unstable")
        return self._world.grasp(shape, T_wrist_object)


def test_a_simulation_that_fails_is_a_row_too() -> None:
    trial = draw_trial(Protocol(goal="random"), ROD, 0)
    trial.hand._world = RememberingWorld(_Failing(trial, 0))
    row = measure(oracle_of(trial), Protocol(), trial)
    assert (row["outcome"], row["moves"]) == ("unstable", 0)
    assert not is_success({**row, "end": [0, 0]}, NEAR)


def test_a_world_remembers_its_last_grasps() -> None:
    trial = draw_trial(Protocol(), ROD, 0)
    world = RememberingWorld(_Failing(trial, 1), num_kept=1)
    pose = trial.hand.T_wrist_object
    assert world.grasp(trial.shape, pose) is world.grasp(trial.shape, pose.copy())
    with pytest.raises(RuntimeError):
        world.grasp(trial.shape, trial.T_wrist_object_goal)


def test_what_is_not_repaired_grows_and_pushes_leave_a_grasp() -> None:
    still = Fixed(np.eye(4))
    [first, again] = [measure_disturbances(still, Protocol(), ROD, 4) for _ in range(2)]
    assert first == again
    rows = first["disturbances"]
    assert [row["outcome"] for row in rows] == ["converged"] * 4
    assert all(row["start"] == row["end"] for row in rows), "it does not move"
    steps = np.diff([row["start"][1] for row in rows])
    assert (np.abs(steps) <= 12_001).all(), "pushes add up from where the object was left, by up to 12 degrees"
    shift_m, turn_rad = push_of("disk", "default")
    assert shift_m.tolist() == pytest.approx([0, 5e-3, 4e-3])
    assert np.degrees(turn_rad).tolist() == pytest.approx([0, 10, 0])


def test_an_example_is_kept_in_full_and_drawn() -> None:
    protocol = Protocol(goal="random")
    trial = draw_trial(protocol, ROD, 0)
    example = refine_example(oracle_of(trial), protocol, trial)
    again = from_row(to_row(example))
    assert to_row(again) == to_row(example)
    assert again.refinement.true_error_end == pytest.approx((0, 0), abs=1e-6)
    assert start_goal_after([]) is None
    figure = start_goal_after([again])
    assert figure is not None
    assert len(figure.axes) == 4, "three strips and a colour scale"
    assert "goal" in [axes.get_title(loc="left") for axes in one_refinement(again).axes]


def test_a_film_of_a_refinement_that_had_nothing_to_do(tmp_path: Path) -> None:
    protocol = Protocol()
    trial = draw_trial(protocol, ROD, 0)
    trial.hand.place_object(trial.T_wrist_object_goal)
    example = refine_example(Fixed(np.eye(4)), protocol, trial)
    with av.open(str(write_film(tmp_path / "film.mp4", example))) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 3 + 5, "it reads, predicts and ends; the end stays for a while"
    assert frames[0].shape == (450, 1200, 3)
    assert np.abs(frames[0].astype(int) - frames[2]).max() > 100


def test_a_goal_of_another_run_must_fit() -> None:
    trial = draw_trial(Protocol(goal="random"), ROD, 0)
    other = draw_trial(Protocol(goal="random"), ROD, 1)
    taken = with_goal(trial, other.goal, "goal.json")
    assert np.allclose(taken.T_wrist_object_goal, other.T_wrist_object_goal)
    wrong = draw_trial(Protocol(), PLATE, 0).goal
    with pytest.raises(ValueError, match=f"goal.json is a goal of {PLATE}, not of {ROD}"):
        with_goal(trial, wrong, "goal.json")
    far: Goal = replace(other.goal, T_world_wrist=transform(np.eye(3), np.array([0.4, 0.0, 0.3])))
    with pytest.raises(ValueError, match="is no goal of this simulation: the wrist was 500 mm"):
        with_goal(trial, far, "goal.json")


@pytest.mark.parametrize("shape", [shape for shape in SEEN if shape.thickness_m == 12e-3 or shape.kind == "rod"])
def test_a_drawn_object_has_faces_of_four_corners_on_its_surface(shape: Shape) -> None:
    faces = np.stack(faces_of(shape))
    assert faces.shape[1:] == (4, 3)
    distance = shape.signed_distance(faces)
    assert np.abs(distance).max() < 1e-9
    assert np.abs(faces.min(axis=(0, 1)) + faces.max(axis=(0, 1)))[:2].max() < 1e-9
