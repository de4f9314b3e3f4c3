"""What looks wrong is noticed, and what is fine is not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cerebella.data.checks import examine
from cerebella.data.episodes import Feature
from cerebella.data.inspection import inspect_store
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.lerobot_writer import LeRobotWriter
from tests.data import lerobot_sets as sets

NAMES = ("shoulder_pan.pos", "elbow.pos", "gripper.pos")


def write(directory: Path, value: Callable[[int], list[float]], lengths: tuple[int, ...] = (40, 40)) -> LeRobotStore:
    features = {"action": Feature("float32", (3,), NAMES)}
    with LeRobotWriter(directory, 30, features, "toy") as writer:
        for length in lengths:
            for frame in range(length):
                writer.add_frame({"action": np.array(value(frame), np.float32)}, "move")
            writer.save_episode()
    return LeRobotStore(directory)


def kinds(store: LeRobotStore) -> list[tuple[str, str]]:
    return [(notice.kind, notice.where) for notice in examine(store).notices]


def healthy(frame: int) -> list[float]:
    return [np.sin(frame / 9), np.cos(frame / 7), 0.5 + 0.4 * np.sin(frame)]


def test_a_healthy_set_has_no_notice(tmp_path: Path) -> None:
    assert kinds(write(tmp_path / "set", healthy)) == []


def test_degrees_constants_and_clipped_grippers(tmp_path: Path) -> None:
    def sick(frame: int) -> list[float]:
        return [90 * np.sin(frame / 9), 1.5, min(1.0, frame / 25)]

    assert kinds(write(tmp_path / "set", sick)) == [
        ("degrees", "action[shoulder_pan.pos]"),
        ("constant dimension", "action[elbow.pos]"),
        ("clipped gripper", "action[gripper.pos]"),
    ]


def test_many_constants_are_counted_and_nan_is_noticed(tmp_path: Path) -> None:
    with LeRobotWriter(tmp_path / "set", 30, {"taxels": Feature("float32", (3, 4))}, "toy") as writer:
        for frame in range(5):
            writer.add_frame({"taxels": np.eye(3, 4, dtype=np.float32) * frame}, "touch")
        writer.save_episode()
    store = LeRobotStore(tmp_path / "set")
    (notice,) = examine(store).notices
    assert (notice.where, notice.detail) == ("taxels", "9 of 12 dimensions never change")

    def change(rows: list[list[list[float]]]) -> list[list[list[float]]]:
        rows[2][0][0] = float("nan")
        return rows

    sets.edit_rows(store.place(0).data, "taxels", change)
    found = examine(LeRobotStore(tmp_path / "set"))
    assert found.notices[0].detail == "taxels has 1 frames that are not finite, the first is frame 2"
    assert found.stats["taxels"]["max"][0, 0] == 4


def test_a_gripper_that_only_opens_and_closes_is_not_clipped(tmp_path: Path) -> None:
    store = write(tmp_path / "set", lambda frame: [*healthy(frame)[:2], float(frame % 20 > 9)])
    assert kinds(store) == []


def test_frames_that_come_twice_or_not_at_all(tmp_path: Path) -> None:
    store = write(tmp_path / "set", healthy, (30, 30, 4))

    def change(seconds: list[float]) -> list[float]:
        seconds[5] = seconds[4]
        return [second + (0.5 if i > 40 else 0) for i, second in enumerate(seconds)]

    sets.edit_rows(store.place(0).data, "timestamp", change)
    found = [(notice.kind, notice.where) for notice in examine(LeRobotStore(tmp_path / "set")).notices]
    assert found == [
        ("duplicate frames", "episode 0"),
        ("missing frames", "episode 0"),  # the step after the repeated frame is two periods long
        ("missing frames", "episode 1"),
        ("short episode", "episode 2"),
    ]


def test_a_task_that_no_frame_has(tmp_path: Path) -> None:
    store = LeRobotStore(sets.write_v2(tmp_path / "set", (4,)))
    (notice,) = [notice for notice in examine(store).notices if notice.kind == "dropped task"]
    assert notice.detail == f"no frame has the instruction {sets.TASKS[1]!r}"


def test_the_page_stands_alone_and_says_everything(tmp_path: Path) -> None:
    store = LeRobotStore(sets.write_v3(tmp_path / "set", (30, 25)))
    page = tmp_path / "page.html"
    examined = inspect_store(store, page, num_episodes=2, num_frames=3)
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 2 + 2 + 1  # a strip per episode, state and action, lengths
    assert "http" not in text.replace("http-equiv", "")
    for said in ("toy_arm", "observation.images.base", "shoulder", sets.TASKS[0], "55 (0.0 min)"):
        assert said in text
    for notice in examined.notices:
        assert notice.where in text
    assert all(f"<td>{value:.4g}</td>" in text for value in examined.stats["action"]["q99"])


def test_nothing_to_look_at_is_said(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    inspect_store(write(tmp_path / "set", healthy), page)
    assert "Nothing stands out." in page.read_text()
    LeRobotWriter(tmp_path / "empty", 30, {"a": Feature("float32", (1,))}, "toy").finalise()
    with pytest.raises(ValueError, match="has no episode"):
        examine(LeRobotStore(tmp_path / "empty"))
