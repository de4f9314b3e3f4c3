"""From stored columns to the embodiment's numbers: units, signs, rotations, windows."""

import json
import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.arms import Arm, EndEffector, Gripper, Limits, arm_embodiment
from cerebella.data.episodes import DataFault, Feature
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.lerobot_writer import LeRobotWriter
from cerebella.data.mapping import DatasetMap
from cerebella.data.mapping_sources import map_from_modality, map_from_names
from cerebella.data.slices import ROTATION_WIDTHS, Rotation, Slice
from cerebella.geometry import quat_xyzw_from_matrix, rot6d_from_matrix, so3_exp
from tests.data import lerobot_sets as sets
from tests.data.toy_robot import toy_embodiment, toy_map

ANGLES = st.tuples(*[st.floats(-1.7, 1.7)] * 3).map(np.array)  # shorter than half a turn: one vector per rotation


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LeRobotStore:
    return LeRobotStore(sets.write_v3(tmp_path_factory.mktemp("set") / "set", (7, 5)))


def limits(low: float, high: float) -> Limits:
    return Limits(low, high, 1, 10, 100)


def one_arm() -> EndEffector:
    return EndEffector((limits(-2, 2), limits(-2, 2), limits(-2, 2)), limits(-7, 7))


def test_a_window_is_the_frame_and_the_actions_from_it(store: LeRobotStore) -> None:
    sample = toy_map().window(store, 1, 3, 4)
    np.testing.assert_array_equal(sample.state, sets.state(1, 3))
    np.testing.assert_array_equal(sample.actions[:2], [sets.action(1, 3), sets.action(1, 4)])
    assert sample.is_valid.tolist() == [[True] * 3] * 2 + [[False] * 3] * 2
    np.testing.assert_array_equal(sample.actions[2:], [sets.action(1, 4)] * 2)
    assert sample.prompt == sets.TASKS[1]
    assert (sample.robot_type, sample.control_mode) == ("toy_arm", "joint")
    assert list(sample.images) == ["base"]  # the embodiment's wrist camera is not in this set
    assert sets.is_picture(sample.images["base"], 1, 3)
    with pytest.raises(ValueError, match=r"episode 1 has 5 frames; there is no frame 5"):
        toy_map().window(store, 1, 5, 4)


def test_a_dimension_that_is_not_recorded_is_never_valid(store: LeRobotStore) -> None:
    whole = toy_map()
    partial = DatasetMap(whole.state, (Slice("action", 1, 3, ("elbow", "gripper")),), {}, whole.embodiment)
    sample = partial.window(store, 0, 0, 2)
    assert sample.is_valid.tolist() == [[False, True, True]] * 2
    assert sample.actions[:, 0].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"nothing says where the states \['shoulder'\] are stored"):
        DatasetMap((Slice("observation.state", 1, 3, ("elbow", "gripper")),), whole.action, {}, whole.embodiment)


def test_degrees_are_converted_where_it_is_said(store: LeRobotStore) -> None:
    whole, joints = toy_map(), ("shoulder", "elbow")
    state = (Slice("observation.state", 0, 2, joints, unit="deg"), Slice("observation.state", 2, 3, ("gripper",)))
    sample = DatasetMap(state, whole.action, {}, whole.embodiment).window(store, 1, 4, 1)
    np.testing.assert_allclose(sample.state[:2], np.deg2rad(sets.state(1, 4)[:2]), rtol=1e-6)
    with pytest.raises(
        ValueError, match=r"holds mm, \['shoulder', 'elbow'\] are in rad; known conversions: deg to rad"
    ):
        DatasetMap((Slice("observation.state", 0, 2, joints, unit="mm"), state[1]), whole.action, {}, whole.embodiment)


@given(value=st.floats(-1, 2), closed=st.floats(-5, 5), width=st.floats(0.01, 100), opens_low=st.booleans())
def test_a_gripper_keeps_its_opening(value: float, closed: float, width: float, opens_low: bool) -> None:
    """Whatever the stored range and direction, open stays open."""
    arm = Arm("left", "base", (), one_arm(), Gripper("m", limits(0, 0.08), "low" if opens_low else "high"))
    robot = arm_embodiment("one", "end_effector", [arm], (), 30, 30, "last")
    gripper = robot.actions[robot.action_index("left_gripper")]
    stored = np.array([[closed + value * width]])
    entry = Slice("g", 0, 1, ("left_gripper",), gripper_ends=(closed, closed + width))
    np.testing.assert_allclose(gripper.opening(entry.read({"g": stored}, [gripper])), [[value]], atol=1e-4)


def written(kind: Rotation, axis_angle: np.ndarray) -> np.ndarray:
    """A rotation as a data set may have it."""
    matrix = so3_exp(axis_angle)
    if kind == "matrix":
        return matrix.reshape(9)
    if kind == "rot6d":
        return rot6d_from_matrix(matrix)
    quat = quat_xyzw_from_matrix(matrix)
    if kind == "quat_xyzw":
        return quat
    if kind == "quat_wxyz":
        return quat[[3, 0, 1, 2]]
    pitch = -math.asin(np.clip(matrix[2, 0], -1, 1))
    return np.array([math.atan2(matrix[2, 1], matrix[2, 2]), pitch, math.atan2(matrix[1, 0], matrix[0, 0])])


@given(axis_angle=ANGLES, kind=st.sampled_from(get_args(Rotation)))
def test_every_rotation_becomes_its_axis_angle(axis_angle: np.ndarray, kind: Rotation) -> None:
    names = ("left_axis_angle_x", "left_axis_angle_y", "left_axis_angle_z")
    robot = arm_embodiment("one", "end_effector", [Arm("left", "base", (), one_arm(), None)], (), 30, 30, "last")
    dimensions = [robot.states[robot.state_index(name)] for name in names]
    entry = Slice("r", 0, ROTATION_WIDTHS[kind], names, rotation=kind)
    entry.check(dimensions)
    stored = written(kind, axis_angle)[None]
    tolerance = 1e-3 if kind == "euler_xyz" else 1e-5  # Euler angles lose digits near a pitch of 90 degrees
    np.testing.assert_allclose(so3_exp(entry.read({"r": stored}, dimensions)[0]), so3_exp(axis_angle), atol=tolerance)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 2, "stop": 2, "names": ("a",)}, "below stop"),
        ({"start": 0, "stop": 2, "names": ("a",)}, r"has 2 entries; \['a'\] need 1"),
        ({"start": 0, "stop": 4, "names": ("a", "b", "c"), "rotation": "rot6d"}, "need 6"),
        ({"start": 0, "stop": 4, "names": ("a",), "rotation": "quat_xyzw"}, "a rotation is three dimensions"),
        ({"start": 0, "stop": 1, "names": ("a",), "gripper_ends": (1.0, 1.0)}, "two different values"),
    ],
)
def test_slices_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Slice("column", **options)


def test_a_broken_rotation_names_its_episode(tmp_path: Path) -> None:
    arm = Arm("left", "base", (), one_arm(), None)
    robot = arm_embodiment("one", "end_effector", [arm], (), 30, 30, "last")
    position, rotation = ("left_x", "left_y", "left_z"), tuple(f"left_axis_angle_{axis}" for axis in "xyz")
    slices = (Slice("pose", 0, 3, position), Slice("pose", 3, 7, rotation, rotation="quat_xyzw"))
    with LeRobotWriter(tmp_path / "set", 30, {"pose": Feature("float32", (7,))}, "one") as writer:
        for frame in ([0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]):
            writer.add_frame({"pose": np.array(frame, np.float32)}, "move")
        writer.save_episode()
    with pytest.raises(DataFault, match="episode 0: broken rotation: 'pose': quat_xyzw must have norm 1"):
        DatasetMap(slices, slices, {}, robot).arrays(LeRobotStore(tmp_path / "set"), 0)


def test_names_of_features_make_a_map(store: LeRobotStore) -> None:
    made = map_from_names(store, toy_embodiment())
    sample, by_hand = made.window(store, 0, 2, 3), toy_map().window(store, 0, 2, 3)
    np.testing.assert_array_equal(sample.actions, by_hand.actions)
    np.testing.assert_array_equal(sample.state, by_hand.state)
    assert made.views == {"base": sets.TOP}
    with pytest.raises(
        ValueError, match=r"has no state called 'knee'; it has: shoulder, elbow, gripper\. Use `renamed`"
    ):
        map_from_names(store, toy_embodiment(), renamed={"elbow": "knee"})


def test_names_match_whatever_their_spelling(tmp_path: Path) -> None:
    names = ("Shoulder.pos", "ELBOW.pos", "Gripper.pos")
    features = {key: Feature("float32", (3,), names) for key in ("observation.state", "action")}
    with LeRobotWriter(tmp_path / "set", 30, features, "toy_arm") as writer:
        values = np.array([90, 180, 25], np.float32)
        writer.add_frame({"observation.state": values, "action": values}, "move")
        writer.save_episode()
    store = LeRobotStore(tmp_path / "set")
    units = {"shoulder": "deg", "elbow": "deg"}
    made = map_from_names(store, toy_embodiment(), units=units, gripper_ends={"gripper": (0, 100)})
    np.testing.assert_allclose(made.window(store, 0, 0, 1).state, [math.pi / 2, math.pi, 0.25], rtol=1e-6)


def test_modality_file_makes_a_map(store: LeRobotStore, tmp_path: Path) -> None:
    path = tmp_path / "modality.json"
    groups = {"arm": {"start": 0, "end": 2}, "hand": {"start": 2, "end": 3}}
    content = {
        "state": groups,
        "action": {"arm": {"start": 0, "end": 2, "original_key": "action"}, "hand": {"start": 2, "end": 3}},
        "video": {"front": {"original_key": sets.TOP}},
        "annotation": {"human.task": {"original_key": "task_index"}},
    }
    path.write_text(json.dumps(content))
    named = {f"{what}.{group}": names for what in ("state", "action") for group, names in
             (("arm", ("shoulder", "elbow")), ("hand", ("gripper",)))}  # fmt: skip
    made = map_from_modality(path, toy_embodiment(), named, {"base": "front"}, "human.task")
    sample, by_hand = made.window(store, 1, 1, 3), toy_map().window(store, 1, 1, 3)
    np.testing.assert_array_equal(sample.actions, by_hand.actions)
    assert sample.prompt == by_hand.prompt
    np.testing.assert_array_equal(sample.images["base"], by_hand.images["base"])
    with pytest.raises(ValueError, match="has no state group 'leg'; groups: arm, hand"):
        map_from_modality(path, toy_embodiment(), {"state.leg": ("elbow",)}, {})


def test_prompts_from_a_text_column_or_one_for_all(store: LeRobotStore, tmp_path: Path) -> None:
    whole = toy_map()
    features = {**{k: v for k, v in sets.FEATURES.items() if k != sets.TOP}, "said": Feature("string", (1,))}
    with LeRobotWriter(tmp_path / "set", 30, features, "toy_arm") as writer:
        for frame, text in enumerate(("first this", "then that")):
            values = {"observation.state": sets.state(0, frame), "action": sets.action(0, frame), "said": text}
            writer.add_frame(values, "both")
        writer.save_episode()
    spoken = DatasetMap(whole.state, whole.action, {}, whole.embodiment, prompt="said")
    other = LeRobotStore(tmp_path / "set")
    assert [spoken.window(other, 0, i, 1).prompt for i in range(2)] == ["first this", "then that"]
    fixed = DatasetMap(whole.state, whole.action, {}, whole.embodiment, fixed_prompt="go")
    assert fixed.window(store, 0, 0, 1).prompt == "go"


def test_slow_and_fast_sets_side_by_side(tmp_path: Path) -> None:
    """15 Hz with 15 rows and 30 Hz with 30 rows: a second each."""
    for hz in (15, 30):
        features = {name: feature for name, feature in sets.FEATURES.items() if name != sets.TOP}
        with LeRobotWriter(tmp_path / str(hz), hz, features, "toy_arm") as writer:
            for frame in range(40):
                values = {"observation.state": sets.state(0, frame), "action": sets.action(0, frame)}
                writer.add_frame(values, "move")
            writer.save_episode()
        store = LeRobotStore(tmp_path / str(hz))
        mapping = DatasetMap(toy_map().state, toy_map().action, {}, toy_embodiment(hz))
        mapping.check(store)
        sample = mapping.window(store, 0, 5, hz)
        assert sample.is_valid.all()
        np.testing.assert_array_equal(sample.actions[-1], sets.action(0, 5 + hz - 1))
