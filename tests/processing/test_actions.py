"""Relative poses, and decode(encode(x)) == x for every kind of robot that an embodiment can describe."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.arms import Arm, ControlMode, EndEffector, Gripper, Limits, Side, arm_embodiment
from cerebella.embodiment import Embodiment, OpenAt
from cerebella.geometry import relative_pose, so3_exp, so3_log, transform
from cerebella.processing.actions import to_absolute, to_relative
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import Statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.types import FloatArray, Observation, Sample

HORIZON = 5
TOKENIZER = train_tokenizer([robot_prompt([], "fold it")], vocab_size=300)
MOTION = (3.0, 30.0, 300.0)


def arm(side: Side, num_joints: int, has_pose: bool, open_at: OpenAt) -> Arm:
    reach = Limits(-2, 2, *MOTION)
    pose = EndEffector((reach, reach, reach), Limits(-7, 7, *MOTION))
    gripper = Gripper("1", Limits(-1, 1, *MOTION), open_at)
    return Arm(side, "base", (Limits(-7, 7, *MOTION),) * num_joints, pose if has_pose else None, gripper)


def robot(control_mode: ControlMode, arms: Sequence[Arm], relative: bool = True) -> Embodiment:
    return arm_embodiment("robot", control_mode, arms, (), 30, 30, hold="last", relative=relative)


SEVEN_JOINTS = robot("joint", [arm("left", 7, False, "high")])
BIMANUAL = robot("end_effector_and_joint", [arm("left", 6, True, "high"), arm("right", 6, True, "low")])
END_EFFECTOR = robot("end_effector", [arm("right", 6, True, "low")])


@st.composite
def robots(draw: st.DrawFn) -> Embodiment:
    mode: ControlMode = draw(st.sampled_from(["joint", "end_effector", "end_effector_and_joint"]))
    sides: list[Side] = draw(st.sampled_from([["left"], ["right"], ["left", "right"]]))
    ends: st.SearchStrategy[OpenAt] = st.sampled_from(["high", "low"])
    arms = [arm(side, draw(st.sampled_from([6, 7])), mode != "joint", draw(ends)) for side in sides]
    return robot(mode, arms, relative=draw(st.booleans()))


def vectors(embodiment: Embodiment, random: np.random.Generator, rows: int) -> tuple[FloatArray, FloatArray]:
    """A measured state and absolute targets anywhere: rotations of up to more than a turn, and some that are equal."""
    state = np.array([random.uniform(0.9 * d.low, 0.9 * d.high) for d in embodiment.states], dtype=np.float32)
    low, high = np.array([(0.9 * d.low, 0.9 * d.high) for d in embodiment.actions]).T
    actions = random.uniform(low, high, (rows, embodiment.action_dim)).astype(np.float32)
    actions[random.random(rows) < 0.2] = embodiment.reference_of(state)
    return state, actions


def make_processor(embodiment: Embodiment, random: np.random.Generator) -> Processor:
    shape = (HORIZON, embodiment.action_dim)
    statistics = Statistics(
        robot_type=embodiment.name,
        control_mode=embodiment.control_mode,
        action_mean=random.uniform(-0.5, 0.5, shape).astype(np.float32),
        action_std=random.uniform(0.02, 2.0, shape).astype(np.float32),
        state_mean=np.zeros(embodiment.state_dim, dtype=np.float32),
        state_std=np.ones(embodiment.state_dim, dtype=np.float32),
    )
    return Processor(embodiment, statistics, TOKENIZER, ImageConfig(8), HORIZON, 32, 32)


def assert_same_targets(embodiment: Embodiment, ours: FloatArray, wanted: FloatArray) -> None:
    """Within 1e-5 m and rad; rotations of a relative pose as rotations, the rest number by number."""
    turning = [embodiment.action_index(n) for p in embodiment.poses for n in p.rotation]
    plain = [j for j in range(embodiment.action_dim) if j not in turning or not embodiment.actions[j].relative]
    np.testing.assert_allclose(ours[..., plain], wanted[..., plain], atol=1e-5)
    for pose in embodiment.poses:
        indices = [embodiment.action_index(name) for name in pose.rotation]
        difference = so3_log(np.swapaxes(so3_exp(ours[..., indices]), -1, -2) @ so3_exp(wanted[..., indices]))
        assert np.linalg.norm(difference, axis=-1).max(initial=0.0) < 1e-5


@given(robots(), st.integers(0, HORIZON - 1), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_decode_undoes_encode_for_every_robot(embodiment: Embodiment, prefix_length: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    processor = make_processor(embodiment, random)
    state, actions = vectors(embodiment, random, HORIZON)
    is_valid = np.ones(actions.shape, dtype=np.bool_)
    sample = Sample({}, state, "fold it", actions, is_valid, embodiment.name, embodiment.control_mode)
    trained = processor.encode_samples([sample])
    assert trained.actions is not None
    assert_same_targets(embodiment, processor.decode(trained.actions, state[None])[0], actions)

    later, _ = vectors(embodiment, random, 0)
    seen = Observation(later, "fold it", tick=0, timestamp_s=0.0)
    asked = processor.encode([seen], [actions[:prefix_length]])
    assert asked.action_prefix is not None
    decoded = processor.decode(asked.action_prefix, later[None])[0]
    assert_same_targets(embodiment, decoded[:prefix_length], actions[:prefix_length])


@pytest.mark.parametrize("embodiment", [SEVEN_JOINTS, BIMANUAL, END_EFFECTOR], ids=["7 joints", "bimanual", "pose"])
def test_the_model_sees_the_released_slots(embodiment: Embodiment) -> None:
    """Grippers and joints come in raw; a measured pose is used, but not shown."""
    random = np.random.default_rng(0)
    processor = make_processor(embodiment, random)
    state, actions = vectors(embodiment, random, HORIZON)
    batch = processor.encode([Observation(state, "fold it", 0, 0.0)], [actions[:2]])
    slots = {d.slot: state[i] for i, d in enumerate(embodiment.states) if d.slot is not None}
    assert batch.state[0, 0].tolist() == [slots.get(slot, 0.0) for slot in range(32)]
    assert not {0, 1, 2, 3, 4, 5, 14, 15, 16, 17, 18, 19} & set(slots)
    used = torch.zeros(32)
    used[[d.slot for d in embodiment.actions]] = 1
    assert torch.equal(batch.action_mask[0], used.expand(HORIZON, 32))


def test_a_relative_pose_is_seen_from_the_measured_gripper() -> None:
    """Measured: turned by 90 degrees about z. A target 1 m along world x lies on the gripper's -y."""
    state = np.zeros(END_EFFECTOR.state_dim, dtype=np.float32)
    state[:6] = [1, 2, 0.5, 0, 0, np.pi / 2]
    targets = np.zeros((3, END_EFFECTOR.action_dim), dtype=np.float32)
    targets[:, :6] = [[2, 2, 0.5, 0, 0, np.pi / 2], [1, 2, 0.5, 0, 0, np.pi], [1, 2, 0.75, 0, 0, -np.pi / 2]]
    targets[:, 6] = [0.0, 0.25, -1.0]
    state[6] = 0.25
    relative = to_relative(END_EFFECTOR, targets[None], state[None])[0]
    wanted = [[0, -1, 0, 0, 0, 0, -0.25], [0, 0, 0, 0, 0, np.pi / 2, 0], [0, 0, 0.25, 0, 0, np.pi, -1.25]]
    np.testing.assert_allclose(relative * np.where(np.abs(relative) > 3, np.sign(relative), 1), wanted, atol=1e-6)


def test_relative_poses_are_those_of_geometry() -> None:
    state, actions = vectors(BIMANUAL, np.random.default_rng(3), 20)
    relative = to_relative(BIMANUAL, actions[None], state[None])[0]
    for pose in BIMANUAL.poses:
        target = [BIMANUAL.action_index(name) for name in pose.names]
        measured = state[[BIMANUAL.state_index(name) for name in pose.names]]
        frames = [transform(so3_exp(v[..., 3:]), v[..., :3]) for v in (measured, actions[:, target])]
        np.testing.assert_allclose(relative[:, target], relative_pose(frames[0], frames[1]), atol=1e-6)


def test_near_half_a_turn_the_numbers_of_a_chunk_do_not_jump() -> None:
    """An arm that points down works near pi, where a logarithm alone changes its sign from row to row."""
    state = np.zeros(END_EFFECTOR.state_dim, dtype=np.float32)
    state[3:6] = [3.13, 0.05, 0]
    targets = np.zeros((9, END_EFFECTOR.action_dim), dtype=np.float32)
    targets[:, 3] = np.linspace(2.9, 3.4, 9)
    targets[:, 4] = 0.05
    back = to_absolute(END_EFFECTOR, to_relative(END_EFFECTOR, targets[None], state[None]), state[None])
    np.testing.assert_allclose(back[0], targets, atol=1e-5)


def test_many_windows_at_once_equal_one_by_one() -> None:
    random = np.random.default_rng(1)
    pairs = [vectors(BIMANUAL, random, HORIZON) for _ in range(4)]
    states, actions = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
    together = to_relative(BIMANUAL, actions, states)
    for i in range(4):
        np.testing.assert_allclose(
            to_relative(BIMANUAL, actions[i : i + 1], states[i : i + 1])[0], together[i], atol=1e-6
        )
    with pytest.raises(ValueError, match=r"states must be float32\[4, 26\], one for each chunk; got \[3, 26\]"):
        to_absolute(BIMANUAL, together, states[:3])


def test_an_absolute_robot_is_left_alone() -> None:
    absolute = robot("end_effector_and_joint", [arm("left", 7, True, "low")], relative=False)
    state, actions = vectors(absolute, np.random.default_rng(2), HORIZON)
    np.testing.assert_array_equal(to_relative(absolute, actions[None], state[None])[0], actions)
    np.testing.assert_array_equal(to_absolute(absolute, actions[None], state[None])[0], actions)
