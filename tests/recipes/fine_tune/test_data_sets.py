"""From paths and options to windows: whose numbers they are, which episodes, which cameras; and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.data.episodes import DataFault
from cerebella.data.shards import write_shards
from cerebella.data.sources import RobotSource
from cerebella.data.windows import Run
from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.recipes.fine_tune.data_set import DataSet
from cerebella.recipes.fine_tune.data_sets import SetOptions, open_conversations, open_sets, unique_names
from cerebella.types import Conversation, Sample
from tests.data.test_xr0_episodes import two_arms
from tests.data.test_xr0_episodes import write_set as write_xr0
from tests.recipes.fine_tune.conveyor_set import CAMERA, OTHER, write_set

HORIZON = 8


@pytest.fixture(scope="module")
def belt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data") / "belt", num_episodes=5)


def opened(path: Path, robot: Embodiment = CONVEYOR, num_lanes: int = 1, **options: Any) -> DataSet:
    (one,) = open_sets(SetOptions(data=(str(path),), **options), [robot], HORIZON, num_lanes)
    return one


def first(one: DataSet) -> Sample:
    (sample,) = one.source.read(Run(0, 0, 1, 0))
    assert isinstance(sample, Sample)
    return sample


@pytest.mark.parametrize(("share", "num"), [(0.0, 0), (0.05, 1), (0.4, 2), (0.41, 3), (0.99, 4)])
def test_the_last_episodes_are_held_out(belt: Path, share: float, num: int) -> None:
    one = opened(belt, held_out=share)
    assert (one.num_episodes, one.num_held_out, one.num_frames) == (5 - num, num, 5 * 24)
    windows = np.diff(one.source.windows.offsets)
    assert windows.tolist() == [17] * (5 - num) + [0] * num
    if num:
        assert isinstance(one.held_out, RobotSource)
        assert np.diff(one.held_out.windows.offsets).tolist() == [0] * (5 - num) + [17] * num


def test_columns_by_name_by_order_and_by_file(belt: Path, tmp_path: Path) -> None:
    expected = first(opened(belt))
    (tmp_path / "map.json").write_text(
        json.dumps(
            {
                "state": [
                    {"column": "observation.state", "start": 0, "stop": 4, "names": [d.name for d in CONVEYOR.states]}
                ],
                "action": [{"column": "action", "start": 0, "stop": 3, "names": [d.name for d in CONVEYOR.actions]}],
                "views": {"base": CAMERA},
            }
        )
    )
    for how in ("names", "order", str(tmp_path / "map.json")):
        sample = first(opened(belt, map=(how,)))
        np.testing.assert_array_equal(sample.state, expected.state)
        np.testing.assert_array_equal(sample.actions, expected.actions)
        np.testing.assert_array_equal(sample.images["base"], expected.images["base"])


def test_columns_by_modality(belt: Path, tmp_path: Path) -> None:
    path = write_set(tmp_path / "belt", num_episodes=2)
    groups = {"xy": {"start": 0, "end": 2}, "opening": {"start": 2, "end": 3}}
    content = {
        "state": {**groups, "belt": {"start": 3, "end": 4}},
        "action": groups,
        "video": {"front": {"original_key": CAMERA}},
    }
    (path / "meta" / "modality.json").write_text(json.dumps(content))
    named = [f"{what}.xy=gripper_x,gripper_y" for what in ("state", "action")]
    named += [f"{what}.opening=gripper_opening" for what in ("state", "action")]
    one = opened(path, map=("modality",), group=(*named, "state.belt=belt_speed"), view=("base=front",))
    np.testing.assert_array_equal(first(one).state, first(opened(path)).state)
    with pytest.raises(ValueError, match="--map modality needs --group"):
        opened(path, map=("modality",))


def test_units_names_and_grippers_are_said_not_guessed(tmp_path: Path) -> None:
    names = ["x", "gripper_y", "gripper_opening", "belt_speed"]
    path = write_set(tmp_path / "set", num_episodes=2, names=names, camera="observation.images.top")
    view = ("base=observation.images.top",)
    with pytest.raises(ValueError, match="has no state called 'gripper_x'; it has: x, gripper_y"):
        opened(path, view=view)
    with pytest.raises(ValueError, match="has no state called 'gone'"):
        opened(path, view=view, rename=("gripper_x=gone",))
    plain = first(opened(path, view=view, rename=("gripper_x=x",)))
    in_order = first(opened(path, view=view, map=("order",)))
    np.testing.assert_array_equal(in_order.state, plain.state)
    np.testing.assert_array_equal(in_order.actions, plain.actions)
    one = first(opened(path, map=("order",), unit=("gripper_y=mm",), gripper_ends=("gripper_opening=1,0",), view=view))
    assert one.state[1] == pytest.approx(plain.state[1] / 1000)
    assert one.state[2] == pytest.approx(1 - plain.state[2])


def test_numbers_far_outside_the_robots_range_are_noticed(belt: Path) -> None:
    assert opened(belt).notices == ()
    narrow = replace(CONVEYOR, states=(replace(CONVEYOR.states[0], low=10.0, high=20.0), *CONVEYOR.states[1:]))
    (notice,) = opened(belt, narrow).notices
    assert notice.startswith("100% of the state 'gripper_x' in episode 0 lie outside 10..20 m (from 0.")


def test_a_view_without_a_camera_is_left_out(belt: Path) -> None:
    one = opened(belt, OTHER)
    assert one.missing_views == ("left_wrist",)
    assert set(first(one).images) == {"base"}


def test_options_that_fit_nothing_are_refused(belt: Path, tmp_path: Path) -> None:
    options: dict[str, Any]
    for options, message in (
        ({"view": ("base",)}, "--view takes NAME=VALUE; got 'base'"),
        ({"view": ("wrist=observation.images.base",)}, "--view: no robot of this run has 'wrist'; known: base"),
        ({"view": ("base=front",)}, "--view: no data set has the camera 'front'; cameras: observation.images.base"),
        ({"unit": ("elbow=deg",)}, "--unit: no robot of this run has 'elbow'"),
        ({"gripper_ends": ("gripper_opening=1",)}, "--gripper-ends takes DIMENSION=CLOSED,OPEN"),
        ({"map": ("names", "order")}, "--map takes one entry, or one for each of 1 data sets; got 2"),
        ({"held_out": 1.0}, "--held-out must be 0 or more and below 1; got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            opened(belt, **options)
    with pytest.raises(FileNotFoundError, match="'sorted' is neither names, order nor modality, nor a file"):
        opened(belt, map=("sorted",))
    blind = write_set(tmp_path / "blind", num_episodes=2, camera="observation.images.front")
    with pytest.raises(
        ValueError, match=r"no camera for any view of 'conveyor' \(base\); its cameras: observation.images.front"
    ):
        opened(blind)


def test_another_robot_or_rate_is_refused(belt: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no state called 'left_x'; it has: gripper_x"):
        opened(belt, two_arms())
    slow = write_set(tmp_path / "slow", num_episodes=2, fps=10)
    with pytest.raises(DataFault, match=r"slow: wrong fps: 10\.0 frames/s; the embodiment 'conveyor' has rows at 30"):
        opened(slow)
    with pytest.raises(ValueError, match="has no window of 8 rows: 2 episodes, the longest has 5 frames"):
        opened(write_set(tmp_path / "short", num_episodes=2, num_frames=5))
    changed = replace(CONVEYOR, policy_hz=29.9)
    with pytest.raises(ValueError, match="two embodiments are called conveyor/end_effector and differ"):
        open_sets(SetOptions(data=(str(belt), str(belt))), [CONVEYOR, changed], HORIZON, 1)


def test_xr0_episodes(tmp_path: Path) -> None:
    one = opened(write_xr0(tmp_path, ("success", "success", "invalid")), two_arms(), root=tmp_path)
    assert (one.num_episodes, one.num_held_out, one.missing_views) == (1, 1, ())
    assert first(one).prompt == "fold towel 0"


def test_shards_of_windows(belt: Path, tmp_path: Path) -> None:
    whole = opened(belt, held_out=0.0)
    records = [record for i in range(60) for record in whole.source.read(Run(i // 17, i % 17, 1, i))]
    write_shards(str(tmp_path / "shards"), [r for r in records if isinstance(r, Sample)], records_per_shard=20)
    one = opened(tmp_path / "shards", num_lanes=2)
    assert (one.num_episodes, one.num_held_out, len(one.source.windows), one.fps) == (2, 1, 40, None)
    np.testing.assert_array_equal(first(one).actions, first(whole).actions)
    ours, theirs = (x.motion.motion(Run(0, 2, 3, 2)) for x in (one, whole))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="holds windows of conveyor/end_effector; the robot of this set is other"):
        opened(tmp_path / "shards", OTHER)
    with pytest.raises(ValueError, match="holds windows of 8 rows; this run has horizon 5"):
        open_sets(SetOptions(data=(str(tmp_path / "shards"),)), [CONVEYOR], 5, 1)
    with pytest.raises(ValueError, match=r"holds robot windows \(conveyor/end_effector\); name it in --data"):
        open_conversations([str(tmp_path / "shards")])


def test_conversations(tmp_path: Path) -> None:
    (tmp_path / "talk.jsonl").write_text(
        '{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}\n'
    )
    talk = Conversation((), (("user", "a"), ("assistant", "b")), "x")
    write_shards(str(tmp_path / "shards"), [talk] * 3)
    lines, shards = open_conversations([str(tmp_path / "talk.jsonl"), str(tmp_path / "shards")])
    assert (lines.name, len(lines.windows), len(shards.windows)) == ("talk.jsonl", 1, 3)
    with pytest.raises(FileNotFoundError, match=r"no file of conversations '.*gone\.jsonl'"):
        open_conversations([str(tmp_path / "gone.jsonl")])
    with pytest.raises(ValueError, match="holds conversations; name it in --conversations"):
        opened(tmp_path / "shards")


def test_names_do_not_depend_on_where_a_run_was_started(tmp_path: Path) -> None:
    assert unique_names(["c/set"], taken=["set", "other"]) == ["set#2"]
    assert unique_names(["a/set", "b/set/", "s3://bucket/set", "other"]) == ["set", "set#2", "set#3", "other"]
