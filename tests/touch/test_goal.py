"""Readings and goals: what is checked when they are made, averaged, saved and loaded."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.touch.goal import Goal
from cerebella.touch.grasp import FINGERS
from cerebella.touch.reading import Reading, observed_reading
from cerebella.touch.sensor import SensorRanges, nominal_sensor
from cerebella.types import Observation

from .tiny_world import ROD, PadWorld, make_goal, make_hand, make_reading, pose


def test_a_goal_survives_its_file(tmp_path: Path) -> None:
    goal = replace(make_goal(pose(z_mm=2, roll_deg=3)), policy_id="touch@0123")
    goal.save(tmp_path / "goal.json")
    back = Goal.load(tmp_path / "goal.json")
    assert np.array_equal(back.reading.counts, goal.reading.counts)
    assert np.array_equal(back.reading.joints, goal.reading.joints)
    assert np.array_equal(back.T_world_wrist, goal.T_world_wrist)
    names = (back.object_name, back.created_utc, back.policy_id)
    assert names == (goal.object_name, goal.created_utc, "touch@0123")


def test_the_mean_of_several_readings_has_less_noise() -> None:
    exact = make_reading(pose()).counts.astype(int)
    hand = make_hand(pose(), sensor=SensorRanges(noise_n=(0.02, 0.02)).draw(np.random.default_rng(1)))
    goal = Goal.from_readings([hand.read() for _ in range(16)], hand.wrist_pose(), ROD.name)
    is_loaded = exact > 30  # where noise is not cut off at zero
    one = np.std(hand.read().counts[is_loaded] - exact[is_loaded])
    mean = np.std(goal.reading.counts[is_loaded] - exact[is_loaded])
    assert mean < 0.45 * one


def test_readings_of_two_grasps_are_no_goal() -> None:
    hand = make_hand(pose())
    other = replace(hand.read(), joints=hand.read().joints + np.float32(0.1))
    with pytest.raises(ValueError, match=r"not of one held grasp: .* moved by 0\.100 rad"):
        Goal.from_readings([hand.read(), other], hand.wrist_pose(), ROD.name)
    with pytest.raises(ValueError, match="1 reading or more"):
        Goal.from_readings([], hand.wrist_pose(), ROD.name)


def set_at(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(fields: dict[str, Any]) -> None:
        for key in path[:-1]:
            fields = fields[key]
        fields[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("counts"), "missing fields: counts"),
        (set_at(["colour"], "red"), "unknown fields: colour"),
        (set_at(["schema_version"], 2), "version 2; this reads .* version 1"),
        (set_at(["schema"], "other"), "not a goal of touch"),
        (set_at(["counts", 0, 0, 0], 256), r"counts must be whole numbers 0\.\.255"),
        (set_at(["counts", 0, 0, 0], 0.5), r"counts must be whole numbers 0\.\.255"),
        (set_at(["counts", 0, 0], [1, 2]), "unequal lengths"),
        (set_at(["counts", 0, 0, 0], "1"), "counts must be numbers"),
        (set_at(["joints_rad"], [0.1] * 10), r"joints_rad must be numbers of the shape \[11\]"),
        (set_at(["joints_rad", 3], float("nan")), "joints_rad must be finite"),
        (set_at(["joints_rad", 1], 90.0), r"thumb_proximal must be finite and within -pi\.\.pi rad; got 90"),
        (set_at(["T_world_wrist", 0, 0], 2.0), "orthonormal"),
        (set_at(["fingers"], list(reversed(FINGERS))), "fingers must be thumb, index"),
        (set_at(["object_name"], " "), "must say what was held"),
        (set_at(["policy_id"], None), "policy_id must be text"),
        (set_at(["created_utc"], "2026-01-31T12:00:00"), "a date with its offset"),
        (set_at(["created_utc"], "yesterday"), "a date with its offset"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    fields = make_goal(pose()).to_dict()
    change(fields)
    file = tmp_path / "goal.json"
    file.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=message) as caught:
        Goal.load(file)
    assert "goal.json" in str(caught.value)


def test_half_a_file_is_no_goal(tmp_path: Path) -> None:
    file = tmp_path / "goal.json"
    make_goal(pose()).save(file)
    file.write_text(file.read_text()[:500])
    with pytest.raises(ValueError, match="not valid JSON"):
        Goal.load(file)


def test_a_reading_checks_its_arrays() -> None:
    reading = make_reading(pose())
    with pytest.raises(ValueError, match=r"counts .* must be uint8\[5, 11, 9\]; got int64"):
        Reading(reading.counts.astype(np.int64), reading.joints)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"joints \(rad\) must be float32\[11\]; got float32\[10\]"):
        Reading(reading.counts, reading.joints[:10])


def test_an_observation_in_newtons_becomes_the_same_counts() -> None:
    grasp = PadWorld().grasp(ROD, pose(z_mm=1))
    tactile = dict(zip(FINGERS, grasp.forces, strict=True))
    observation = Observation(np.zeros(1, dtype=np.float32), "grasp", 0, 0.0, tactile=tactile)
    sensor = nominal_sensor()
    reading = observed_reading(observation, grasp.joints, lambda f: sensor.counts(f, np.random.default_rng(0)))
    assert np.array_equal(reading.counts, make_reading(pose(z_mm=1)).counts)
    assert reading.counts.max() > 50
    del tactile["ring"]
    short = Observation(np.zeros(1, dtype=np.float32), "grasp", 0, 0.0, tactile=tactile)
    with pytest.raises(ValueError, match="missing: ring"):
        observed_reading(short, grasp.joints, lambda f: sensor.counts(f, np.random.default_rng(0)))
