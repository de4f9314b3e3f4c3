"""Names, units, signs and ranges between a driver and an embodiment."""

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.robots.channels import UNITS, Channel
from cerebella.robots.mapping import Codec, RobotMapping
from tests.robots import arm

VALUES = st.floats(-10.0, 10.0)


def channel(**fields: Any) -> Channel:
    return Channel.from_dict({"dimension": "d", "key": "k", **fields}, "robot.json")


def test_degrees_with_sign_and_zero() -> None:
    flipped = channel(unit="deg", sign=-1, zero=0.5)
    assert flipped.to_ours(90.0) == pytest.approx(0.5 - math.pi / 2)
    assert flipped.to_theirs(0.5 - math.pi / 2) == pytest.approx(90.0)
    assert flipped.unit == "rad"


def test_two_points_turn_around_when_they_are_given_the_other_way_round() -> None:
    normalised = channel(**{"from": [-100, 100], "to": [1.9, -1.9]})
    assert [normalised.to_ours(value) for value in (-100.0, 0.0, 100.0)] == pytest.approx([1.9, 0.0, -1.9])
    assert normalised.reach == (-1.9, 1.9)


@given(unit=st.sampled_from(sorted(UNITS)), sign=st.sampled_from([1, -1]), zero=VALUES, value=VALUES)
def test_units_signs_and_zeros_round_trip(unit: str, sign: int, zero: float, value: float) -> None:
    one = channel(unit=unit, sign=sign, zero=zero)
    assert one.to_ours(one.to_theirs(value)) == pytest.approx(value, abs=1e-9)
    assert math.copysign(1, one.to_ours(1.0) - one.to_ours(0.0)) == sign


@given(values=st.lists(st.floats(-1.5, 1.5, width=32), min_size=3, max_size=3), opening=st.floats(0, 1, width=32))
def test_a_command_that_is_sent_comes_back_as_itself(values: list[float], opening: float) -> None:
    codec = Codec(arm.mapping(), arm.embodiment())
    command = np.asarray([*values, opening], dtype=np.float32)
    theirs = codec.command(command)
    np.testing.assert_allclose(codec.sent(theirs), command, atol=1e-6)
    np.testing.assert_allclose(codec.state(dict(reversed(theirs.items()))), command, atol=1e-6)


def test_every_joint_keeps_its_own_number() -> None:
    """A tag per joint: whatever the order of channels and dictionaries, number i is joint i."""
    codec = Codec(arm.mapping(), arm.embodiment())
    tags = {name: 10.0 * (i + 1) for i, name in enumerate(arm.JOINTS)}
    state = codec.state({"gripper.pos": 70.0} | {f"{name}.pos": tags[name] for name in reversed(arm.JOINTS)})
    expected = [arm.SIGNS[name] * math.radians(tags[name]) + arm.ZEROS[name] for name in arm.JOINTS]
    np.testing.assert_allclose(state, [*expected, 0.7], atol=1e-6)
    assert codec.state_keys == ("shoulder_pan.pos", "shoulder_lift.pos", "elbow_flex.pos", "gripper.pos")
    theirs = codec.command(state)
    assert theirs == pytest.approx({f"{name}.pos": tags[name] for name in arm.JOINTS} | {"gripper.pos": 70.0}, rel=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs either"),
        ({"unit": "deg"}, "got unit"),
        ({"unit": "deg", "sign": 1, "zero": 0, "from": [0, 1]}, "needs either"),
        ({"unit": "turns", "sign": 1, "zero": 0}, "known units: rad, deg"),
        ({"unit": "deg", "sign": -2, "zero": 0}, "sign must be 1 or -1"),
        ({"unit": "deg", "sign": True, "zero": 0}, "sign must be 1 or -1"),
        ({"unit": "deg", "sign": 1, "zero": "0"}, "zero"),
        ({"unit": "deg", "sign": 1, "zero": math.nan}, "finite"),
        ({"from": [0, 0], "to": [0, 1]}, "must differ"),
        ({"from": [0, 1, 2], "to": [0, 1]}, "two numbers"),
        ({"from": [0, 1], "to": [0, 1], "only": "both"}, "only"),
        ({"from": [0, 1], "to": [0, 1], "scale": 2}, "'scale'"),
        ({"from": [0, 1], "to": [0, 1], "key": ""}, "'key'"),
    ],
)
def test_a_channel_says_what_is_wrong(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"robot.json: channel 'd'") as error:
        channel(**fields)
    assert message in str(error.value)


def without(dimension: str) -> list[dict[str, Any]]:
    return [entry for entry in arm.MAPPING["channels"] if entry["dimension"] != dimension]


def gripper(**fields: Any) -> list[dict[str, Any]]:
    entry = {"dimension": "left_gripper", "key": "gripper.pos", "from": [0, 100], "to": [0.0, 1.0]}
    return [*without("left_gripper"), entry | fields]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": without("left_elbow_flex")}, "'left_elbow_flex' (rad) of toy_arm has no channel"),
        ({"channels": [*gripper(), *gripper()[-1:]]}, "'left_gripper' stands in two state channels"),
        ({"channels": gripper(key="elbow_flex.pos")}, "'elbow_flex.pos' stands in two state channels"),
        ({"channels": [*arm.MAPPING["channels"], *gripper(dimension="hand", key="h")[-1:]]}, "no dimension 'hand'"),
        ({"channels": gripper(only="state")}, "the action 'left_gripper' (1) of toy_arm has no channel"),
        ({"channels": gripper(to=[0.0, 0.8])}, "only reaches 0..0.8"),
        ({"cameras": {"front": {"view": "base"}}}, "no camera shows the view 'left_wrist'"),
        ({"cameras": {"front": {"view": "base"}, "b": {"view": "base"}}}, "'base' stands in two entries"),
        ({"cameras": {"front": {"view": "top"}}}, "known views: base"),
        ({"cameras": {"front": {"view": "base", "delay_s": -1}}}, "delay_s must be 0 s or more"),
        ({"cameras": {"front": "base"}}, "camera 'front' needs 'view'"),
        ({"cameras": {**arm.MAPPING["cameras"], "e": {"view": "ego"}}}, "shows the view 'ego', which toy_arm does not"),
        ({"state_delay_s": -0.1}, "state_delay_s"),
        ({"order": []}, "'order'"),
        ({"channels": {}}, "'channels', a list"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Codec(arm.mapping(**changes), arm.embodiment())


def test_a_unit_that_is_not_the_dimensions_is_refused() -> None:
    channels = gripper()
    channels[-1] = {"dimension": "left_gripper", "key": "gripper.pos", "unit": "mm", "sign": 1, "zero": 0.0}
    with pytest.raises(ValueError, match="'left_gripper' is in '1', but the unit of its channel gives 'm'"):
        Codec(RobotMapping.from_dict({**arm.MAPPING, "channels": channels}, "x"), arm.embodiment())


def test_numbers_that_are_none_are_refused_by_name() -> None:
    codec = Codec(arm.mapping(), arm.embodiment())
    values = {key: 0.0 for key in codec.state_keys}
    with pytest.raises(ValueError, match=r"reports nan as 'elbow_flex.pos' \(for 'left_elbow_flex'\)"):
        codec.state(values | {"elbow_flex.pos": math.nan})
    del values["gripper.pos"]
    with pytest.raises(ValueError, match=r"reports no 'gripper\.pos'"):
        codec.state(values)
    with pytest.raises(ValueError, match=r"sent no 'gripper\.pos'"):
        codec.sent(values)
