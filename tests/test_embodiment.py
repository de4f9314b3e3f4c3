"""What a robot description accepts, refuses with a sentence, and converts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.embodiment import ActionDimension, Dimension, Embodiment, Pose
from cerebella.types import Action, Observation

AXES = ("x", "y", "z")
POSE = Pose(("x", "y", "z"), ("rx", "ry", "rz"))
SHIPPED = Path(__file__).parents[1] / "policies" / "conveyor-micro" / "embodiment.json"


def state(name: str, kind: Any, unit: str, slot: int | None = None, **changed: Any) -> Dimension:
    return Dimension(
        **{"name": name, "unit": unit, "kind": kind, "frame": "base", "slot": slot, "low": -4.0, "high": 4.0} | changed
    )


def action(name: str, kind: Any, unit: str, slot: int, **changed: Any) -> ActionDimension:
    limits = {"max_velocity": 1.0, "max_acceleration": 10.0, "max_jerk": 100.0}
    rules = {"hold": "last", "reference": name, "relative": True, "frame": "base", "low": -4.0, "high": 4.0}
    return ActionDimension(**{"name": name, "unit": unit, "kind": kind, "slot": slot, **limits, **rules, **changed})


def arm(poses: tuple[Pose, ...] = (POSE,), **changed: Any) -> Embodiment:
    """One end-effector pose and a gripper; `changed` replaces fields of single actions, by name."""
    states = [state(f"{a}", "position", "m") for a in AXES] + [state(f"r{a}", "rotation", "rad") for a in AXES]
    actions = [action(a, "position", "m", i) for i, a in enumerate(AXES)]
    actions += [action(f"r{a}", "rotation", "rad", 3 + i) for i, a in enumerate(AXES)]
    actions = [replace(a, **changed.get(a.name, {})) for a in actions]
    return Embodiment("arm", "end_effector", tuple(states), tuple(actions), ("base",), 30, 30, poses)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: arm(poses=()), "'rx' is a relative rotation outside a pose; rotations compose"),
        (lambda: arm((Pose(("x", "y", "w"), ("rx", "ry", "rz")),)), "no action 'w'; known actions: x, y, z, rx"),
        (
            lambda: arm((Pose(("x", "y", "rx"), ("z", "ry", "rz")),)),
            r"three positions \(m\).*rx \(rotation, rad, base\)",
        ),
        (lambda: arm((Pose(("x", "x", "z"), ("rx", "ry", "rz")),)), "got x .*, x .*, z"),
        (lambda: arm((POSE, POSE)), "belongs to two poses"),
        (lambda: arm(ry={"relative": False}), "relative as a whole or not at all; relative: x, y, z, rx, rz"),
        (lambda: arm(z={"frame": "world"}), r"in one frame.*z \(position, m, world\)"),
        (lambda: arm(z={"reference": "y"}), "what measures it; got x .*, y .*, y "),
        (
            lambda: arm(x={"reference": "rx"}),
            r"action 'x' \(position, m\) cannot be relative to .* 'rx' \(rotation, rad\)",
        ),
        (lambda: arm(x={"slot": None}), "'x': an action needs a slot"),
        (lambda: arm(x={"slot": 1}), "two action dimensions share a slot"),
        (lambda: state("q", "joint", "rad", open_at="low"), "'q' is a joint; only a gripper is open at an end"),
        (lambda: state("g", "gripper", "1", open_at="left"), "'g' is open at 'left'; known: high, low"),
        (lambda: state("q", "joint", "rad", slot=-1), "slot must be an integer of 0 or more; got -1"),
        (lambda: state("q", "joint", "rad").opening(0.5), "'q' is a joint; only a gripper has an opening"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, said: str) -> None:
    arm()
    with pytest.raises(ValueError, match=said):
        make()


def test_an_absolute_pose_needs_no_reference_and_no_group() -> None:
    absolute: dict[str, Any] = {name: {"relative": False} for name in POSE.names}
    assert arm(poses=(), **absolute).poses == ()
    assert arm(**absolute).poses == (POSE,)


@given(st.floats(-2, 2), st.sampled_from(["high", "low"]), st.floats(-1, 0), st.floats(0.01, 2))
def test_openings_are_zero_closed_one_open_and_convert_back(
    opening: float, open_at: str, low: float, span: float
) -> None:
    gripper = state("g", "gripper", "m", low=low, high=low + span, open_at=open_at)
    closed, opened = (low, low + span) if open_at == "high" else (low + span, low)
    np.testing.assert_allclose(gripper.opening([closed, opened]), [0, 1], atol=1e-6)
    np.testing.assert_allclose(gripper.opening(gripper.from_opening(opening)), opening, atol=1e-4)


def test_a_gripper_measured_in_metres_and_commanded_by_sign_holds_what_it_has() -> None:
    """The first hold sends the measured opening in the command's own range: -1 open, 1 closed."""
    measured = state("width", "gripper", "m", slot=0, low=0.0, high=0.08)
    command = action("grip", "gripper", "1", 6, reference="width", relative=False, low=-1.0, high=1.0, open_at="low")
    robot = Embodiment("gripper", "joint", (measured,), (command,), (), 30, 30)
    for width, wanted in ((0.08, -1.0), (0.0, 1.0), (0.04, 0.0)):
        seen = Observation(np.array([width], dtype=np.float32), "hold", 0, 0.0)
        np.testing.assert_allclose(robot.hold(seen, None).values, [wanted], atol=1e-6)
        assert robot.hold(seen, Action(np.array([0.5], dtype=np.float32), 0)).values.tolist() == [0.5]


def test_a_file_gives_back_poses_openings_and_states_without_a_slot(tmp_path: Path) -> None:
    robot = arm()
    gripper = state("g", "gripper", "1", slot=6, low=0.0, high=1.0, open_at="low")
    robot = replace(robot, states=(*robot.states, gripper))
    robot.save(tmp_path / "embodiment.json")
    assert Embodiment.load(tmp_path / "embodiment.json") == robot
    stored = json.loads((tmp_path / "embodiment.json").read_text())
    assert stored["states"][0]["slot"] is None
    assert [d.get("open_at") for d in stored["states"]] == [None] * 6 + ["low"]


def test_a_file_from_before_poses_still_loads_and_a_broken_pose_is_named(tmp_path: Path) -> None:
    assert Embodiment.load(SHIPPED).poses == ()
    arm().save(tmp_path / "embodiment.json")
    stored = json.loads((tmp_path / "embodiment.json").read_text())
    del stored["poses"][0]["rotation"]
    (tmp_path / "embodiment.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"embodiment\.json is not an embodiment: the field 'rotation' is missing"):
        Embodiment.load(tmp_path / "embodiment.json")
    stored["poses"][0]["rotation"] = ["rx", "ry"]
    (tmp_path / "embodiment.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"embodiment\.json is not an embodiment: .*three positions"):
        Embodiment.load(tmp_path / "embodiment.json")
