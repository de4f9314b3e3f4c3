"""Episodes in the format of the released post-training code: read as samples, faults with file and episode."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.arms import Arm, EndEffector, Gripper, Limits, arm_embodiment
from cerebella.data.episodes import DataFault
from cerebella.data.loader import Loader
from cerebella.data.mixture import Mixture, MixtureSpec
from cerebella.data.sources import RobotSource
from cerebella.data.video import VideoEncoder, VideoEncoding
from cerebella.data.xr0_episodes import COLUMNS, XR0Episodes
from cerebella.data.xr0_format import write_xr0_episode, xr0_map
from cerebella.embodiment import Embodiment
from cerebella.geometry import so3_exp

NUM_FRAMES, HORIZON = 12, 4


def two_arms() -> Embodiment:
    limits = Limits(-10, 10, 1, 10, 100)
    pose = EndEffector((limits, limits, limits), limits)
    arms = [Arm(side, "base", (limits,) * 6, pose, Gripper("1", limits, "high")) for side in ("left", "right")]
    views = ("ego", "left_wrist", "right_wrist")
    return arm_embodiment("xr0", "end_effector_and_joint", arms, views, 30, 30, "last")


def arrays(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    columns = {name: generator.normal(size=(NUM_FRAMES, width)) for name, width in COLUMNS.items()}
    rotations = {name: generator.normal(size=(NUM_FRAMES, 3)) for name in columns if name.endswith("rotm")}
    return columns | {name: so3_exp(vector).reshape(-1, 9) for name, vector in rotations.items()}


def write_set(directory: Path, kinds: tuple[Any, ...] = ("success", "ongoing", "invalid")) -> Path:
    (directory / "json").mkdir()
    for number, kind in enumerate(kinds):
        videos = {}
        for view in ("ego", "wrist_left", "wrist_right"):
            videos[view] = f"{number}_{view}.mp4"
            with VideoEncoder(directory / videos[view], 32, 32, 30, VideoEncoding("libx264", crf=10)) as encoder:
                for frame in range(NUM_FRAMES):
                    encoder.add(np.full((32, 32, 3), 20 * frame, dtype=np.uint8))
        file = directory / "json" / f"episode_{number}.json"
        write_xr0_episode(file, arrays(number), videos, f"fold towel {number}", trajectory_type=kind)
    return directory / "json"


def test_the_columns_are_what_was_written(tmp_path: Path) -> None:
    store = XR0Episodes(write_set(tmp_path), tmp_path)
    assert (len(store), store.num_left_out, store.fps) == (2, 1, 30)
    assert store.episode(1).tasks == ("fold towel 1",)
    assert store.features["observations.ego"].shape == (32, 32, 3)
    for name, values in store.columns(1, tuple(COLUMNS)).items():
        np.testing.assert_allclose(values, arrays(1)[name], rtol=1e-6)
    frames = store.frames(0, "observations.wrist_left", 3, 6)
    assert np.abs(frames.reshape(3, -1).mean(axis=1) - [60, 80, 100]).max() < 4


def test_a_mixture_gives_the_same_chunks_as_the_released_loader(tmp_path: Path) -> None:
    """Complete windows only (frames - T + 1), the current frame as picture, absolute targets, state of the frame."""
    robot = two_arms()
    store = XR0Episodes(write_set(tmp_path), tmp_path)
    source = RobotSource(store, xr0_map(robot), HORIZON)
    assert len(source.windows) == 2 * (NUM_FRAMES - HORIZON + 1)
    with Loader(Mixture(MixtureSpec((source,)), 18), num_workers=1) as loader:
        rows = next(loader).samples
    joint, place = robot.state_index("left_joint_1"), robot.action_index("right_x")
    starts = []
    for row in rows:
        assert set(row.images) == {"ego", "left_wrist", "right_wrist"}
        start = round(float(row.images["ego"].mean()) / 20)
        expected = arrays(int(row.prompt[-1]))
        starts.append((row.prompt, start))
        assert row.state[joint] == pytest.approx(expected["proprios.left_arm_joint"][start, 0])
        np.testing.assert_allclose(
            row.actions[:, place], expected["actions.right_ee_pos"][start : start + HORIZON, 0], rtol=1e-6
        )
        rotation = row.actions[0, [robot.action_index(f"left_axis_angle_{axis}") for axis in "xyz"]]
        np.testing.assert_allclose(so3_exp(rotation).ravel(), expected["actions.left_ee_rotm"][start], atol=1e-5)
        assert row.is_valid.all()
    assert len(set(starts)) == 18


def test_failed_episodes_come_when_asked_for(tmp_path: Path) -> None:
    directory = write_set(tmp_path)
    assert len(XR0Episodes(directory, tmp_path, include=("success", "ongoing", "invalid"))) == 3
    (directory / "episode_2.json").unlink()
    with pytest.raises(ValueError, match="holds no episode of the types invalid; 2 of other types"):
        XR0Episodes(directory, tmp_path, include=("invalid",))


def damage(**changed: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(changed)


def shift(content: dict[str, Any]) -> None:
    content["observations"]["ego"][0]["start"] = 5


def slow(content: dict[str, Any]) -> None:
    content["observations"]["ego"][0]["fps"] = 15


def blind(content: dict[str, Any]) -> None:
    del content["observations"]["wrist_left"]


def mute(content: dict[str, Any]) -> None:
    content["instruction"]["general"][0]["conversations"][0]["value"] = "<image>"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (damage(trajectory_type="great"), "metadata: trajectory_type 'great'; known types: success, ongoing, invalid"),
        (damage(num_frames=0), "empty episode: num_frames is 0"),
        (damage(num_frames=None), "metadata: num_frames must be a count; got None"),
        (damage(observations={}), "missing camera: there are no observations"),
        (damage(instruction={}), "missing task: no instruction.general"),
        (mute, "missing task: an instruction must end in"),
        (shift, "observations.ego has start 5"),
        (slow, r"wrong fps: cameras at \[15.0, 30.0\] frames/s; others at 30.0"),
        (blind, "missing camera: cameras observations.ego, observations.wrist_right; the first episode has"),
    ],
)
def test_a_malformed_episode_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    file = write_set(tmp_path, ("success", "success")) / "episode_1.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(DataFault, match=rf"episode_1\.json: .*{said}"):
        XR0Episodes(file.parent, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["actions"].pop("left_ee_pos"), "missing column: there is no actions.left_ee_pos"),
        (lambda c: c["actions"]["left_ee_pos"].pop(), r"wrong shape: .* = \[12, 3\]; got \[11, 3\]"),
        (lambda c: c["actions"]["left_ee_pos"][3].pop(), "wrong shape: actions.left_ee_pos is no table of numbers"),
    ],
)
def test_broken_arrays_name_file_and_episode(tmp_path: Path, change: Callable[[Any], object], said: str) -> None:
    file = write_set(tmp_path, ("success",)) / "episode_0.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(DataFault, match=rf"episode_0\.json, episode 0: {said}"):
        XR0Episodes(file.parent, tmp_path).columns(0)


def test_a_nan_action_and_a_corrupt_video_name_their_episode(tmp_path: Path) -> None:
    directory = write_set(tmp_path, ("success", "success"))
    content = json.loads((directory / "episode_0.json").read_text())
    content["actions"]["left_ee_pos"][7][1] = float("nan")
    (directory / "episode_0.json").write_text(json.dumps(content))
    (tmp_path / "1_wrist_left.mp4").write_bytes(b"no video at all")
    store = XR0Episodes(directory, tmp_path)
    mapping = xr0_map(two_arms())
    with pytest.raises(DataFault, match=r"episode 0: not finite: 'actions.left_ee_pos'\[1\] is nan at frame 7"):
        mapping.window(store, 0, 0, HORIZON)
    with pytest.raises(DataFault, match=r"1_wrist_left\.mp4, episode 1: corrupt video"):
        mapping.window(store, 1, 0, HORIZON)


def test_the_writer_wants_every_column(tmp_path: Path) -> None:
    columns = arrays(0)
    with pytest.raises(ValueError, match=r"x.json: actions.left_ee_rotm must be \[12, 9\]; got \[12, 3\]"):
        write_xr0_episode(tmp_path / "x.json", columns | {"actions.left_ee_rotm": np.zeros((12, 3))}, {}, "x")
    del columns["proprios.left_ee_pos"]
    with pytest.raises(ValueError, match=r"missing the columns proprios\.left_ee_pos"):
        write_xr0_episode(tmp_path / "x.json", columns, {}, "x")
