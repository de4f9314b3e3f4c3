import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.data.grounding import Box, parse_grounding
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.mapping_sources import map_from_names
from cerebella.data.records import read_record
from cerebella.data.validate import validate
from cerebella.embodiment import Embodiment
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import expert_ticks
from cerebella.envs.workcell.landmarks import Landmarks
from cerebella.recipes.workcell_attempt import Demonstrator, GenerationSettings, attempt_file, recording_directory
from cerebella.recipes.workcell_data import generate, read_attempts
from cerebella.recipes.workcell_set import ATTEMPTS, EMBODIMENT, read_truth
from tests.recipes.short_cube import ShortCube

SETTINGS = GenerationSettings(render_px=64, first_seed=3, moment_every_s=0.3)
NUM_EPISODES = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set made by one process without a break."""
    directory = tmp_path_factory.mktemp("sets") / "whole"
    generate(ShortCube(), directory, NUM_EPISODES, SETTINGS)
    return directory


@pytest.fixture(scope="module")
def shorter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but for its last episode."""
    directory = tmp_path_factory.mktemp("sets") / "shorter"
    generate(ShortCube(), directory, NUM_EPISODES - 1, SETTINGS)
    return directory


def assert_same(found: Path, wanted: Path) -> None:
    assert read_attempts(found) == read_attempts(wanted)
    one, other = LeRobotStore(found), LeRobotStore(wanted)
    assert len(one) == len(other)
    for episode in range(len(other)):
        columns = one.columns(episode)
        for name, values in other.columns(episode).items():
            np.testing.assert_array_equal(columns[name], values)
        length = other.episode(episode).length
        for view in ("base", "left_wrist"):
            camera = f"observation.images.{view}"
            np.testing.assert_array_equal(
                one.frames(episode, camera, 0, length), other.frames(episode, camera, 0, length)
            )
        for truth in (f"truth/truth-{episode:06d}.json", f"truth/landmarks-{episode:06d}.npz"):
            assert (found / truth).read_bytes() == (wanted / truth).read_bytes()
    records = "companion/conversations.jsonl"
    assert (found / records).read_text() == (wanted / records).read_text()
    assert (one.directory / "meta/stats.json").read_text() == (other.directory / "meta/stats.json").read_text()
    assert not (found / "generation").exists()


def test_the_set_is_sound_and_holds_what_the_expert_saw_and_did(whole: Path) -> None:
    assert validate(whole, "all") == []
    robot = Embodiment.load(whole / EMBODIMENT)
    store = LeRobotStore(whole)
    mapping = map_from_names(store, robot)
    mapping.check(store)
    assert mapping.views == {view: f"observation.images.{view}" for view in ("base", "left_wrist", "right_wrist")}
    kept = [attempt for attempt in read_attempts(whole) if attempt.is_kept]
    arrays = mapping.arrays(store, 1)
    environment = WorkcellEnvironment(ShortCube(), with_images=False, randomisation="mild")
    states, commands = [], []
    for action in expert_ticks(environment, kept[1].seed, style_seed=kept[1].seed):
        states.append(environment.observe_state())
        commands.append(action.values)
    np.testing.assert_array_equal(arrays.states, states)
    np.testing.assert_array_equal(arrays.actions, commands)
    assert arrays.prompts == (kept[1].prompt,) * len(states)
    sample = mapping.window(store, 1, 5, 10)
    np.testing.assert_array_equal(sample.actions, commands[5:15])
    assert sample.images["base"].shape == (64, 64, 3)


def test_failed_attempts_are_written_down_and_left_out(whole: Path, tmp_path: Path) -> None:
    attempts = read_attempts(whole)
    assert [attempt.seed for attempt in attempts] == list(range(3, 3 + len(attempts)))
    failed = [attempt for attempt in attempts if not attempt.is_success]
    assert failed
    assert len(attempts) - len(failed) == NUM_EPISODES == len(LeRobotStore(whole))
    assert {(attempt.reason, attempt.is_kept) for attempt in failed} == {("the expert stopped before the end", False)}
    first = failed[0].seed
    made = generate(
        ShortCube(), tmp_path / "kept", 1, GenerationSettings(render_px=64, first_seed=first, keeps_failed=True)
    )
    assert (made.num_episodes, made.failed[0].is_kept, made.num_frames) == (1, True, failed[0].num_frames)


def test_questions_are_about_the_pictures(whole: Path) -> None:
    path = whole / "companion" / "conversations.jsonl"
    records = [read_record(line, path.parent, "here") for line in path.read_bytes().splitlines()]
    answers = [text for record in records for role, text in record.turns if role == "assistant"]
    boxes = [item for text in answers if text.startswith("[{") for item in parse_grounding(text)]
    assert any(isinstance(item, Box) for item in boxes)
    assert {"beginning", "middle", "end"} & set(answers)
    assert all(record.images[0].shape == (64, 64, 3) for record in records)
    assert {hold.side for hold in read_truth(whole / "truth/truth-000000.json").holds} == {"left"}


def test_landmarks_have_a_row_for_each_frame(whole: Path) -> None:
    store = LeRobotStore(whole)
    for episode in range(NUM_EPISODES):
        found = Landmarks.load(whole / f"truth/landmarks-{episode:06d}.npz")
        assert found.pixel.shape == (store.episode(episode).length, 3, 1, 2)
        assert (found.views, found.size_px) == (("base", "left_wrist", "right_wrist"), (64, 64))
        assert found.next[0] == 0
        picture = store.frames(episode, "observation.images.base", 0, 1)[0].astype(int)
        u, v = found.pixel[0, 0, 0].astype(int)
        assert picture[v, u, 0] > 1.5 * picture[v, u, 1:].max()  # the cube is red


def test_a_disturbed_set_holds_what_was_asked_for_and_what_was_sent(whole: Path, tmp_path: Path) -> None:
    seed = read_attempts(whole)[0].seed
    settings = GenerationSettings(render_px=64, first_seed=seed, moment_every_s=0.0, disturb_m=0.01)
    generate(ShortCube(), tmp_path / "set", 1, settings, num_processes=2)
    assert validate(tmp_path / "set", "all") == []
    store = LeRobotStore(tmp_path / "set")
    mapping = map_from_names(store, Embodiment.load(tmp_path / "set" / EMBODIMENT))
    mapping.check(store)
    columns = store.columns(0)
    sent, asked, state = columns["sent"], columns["action"], columns["observation.state"]
    np.testing.assert_array_equal(mapping.arrays(store, 0).actions, asked)
    off_m = np.abs(sent - asked)[:, 7:10].max(axis=1)  # the right arm, which is far from everything
    assert off_m.max() > 0.005
    behind_m = [np.abs(state[1:, 13:16] - commands[:-1, 7:10]).mean() for commands in (sent, asked)]
    assert behind_m[0] < 0.3 * behind_m[1]
    assert json.loads((tmp_path / "set/meta/generation.json").read_text())["disturb_m"] == 0.01
    assert "sent" not in LeRobotStore(whole).features
    with pytest.raises(ValueError, match=r"begun with disturb_m 0\.01; it cannot go on with 0\.0"):
        generate(ShortCube(), tmp_path / "set", 2, replace(settings, disturb_m=0.0))


def test_a_set_from_before_a_setting_existed_goes_on(whole: Path, shorter: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(shorter, tmp_path / "set")
    path = directory / "meta/generation.json"
    content = json.loads(path.read_text())
    del content["disturb_m"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"begun with disturb_m 0\.0; it cannot go on with 0\.01"):
        generate(ShortCube(), directory, NUM_EPISODES, replace(SETTINGS, disturb_m=0.01))
    generate(ShortCube(), directory, NUM_EPISODES, SETTINGS)
    assert_same(directory, whole)


def test_two_processes_make_the_same_set(whole: Path, tmp_path: Path) -> None:
    generate(ShortCube(), tmp_path / "set", NUM_EPISODES, SETTINGS, num_processes=2)
    assert_same(tmp_path / "set", whole)


@pytest.mark.parametrize("moment", ["half a line", "written down but not added", "recorded but not written down"])
def test_a_kill_between_two_steps_is_made_good(whole: Path, shorter: Path, tmp_path: Path, moment: str) -> None:
    directory = shutil.copytree(shorter, tmp_path / "set")
    attempts, path = read_attempts(directory), directory / ATTEMPTS
    if moment == "half a line":
        path.write_text(path.read_text() + '{"seed": 7, "is_succ')
    else:
        demonstrator = Demonstrator(ShortCube(), SETTINGS, directory / "generation")
        seed = attempts[-1].seed + 1
        while not (attempt := demonstrator.attempt(seed)).is_kept:
            path.write_text(f"{path.read_text()}{attempt.line()}\n")
            seed += 1
        demonstrator.close()
        if moment == "written down but not added":
            path.write_text(f"{path.read_text()}{attempt.line()}\n")
        else:
            attempt_file(directory / "generation", seed).unlink()
            assert recording_directory(directory / "generation", seed).is_dir()
    generate(ShortCube(), directory, NUM_EPISODES, SETTINGS)
    assert_same(directory, whole)


def test_a_killed_run_goes_on_and_its_workers_end(whole: Path, tmp_path: Path) -> None:
    directory = tmp_path / "set"
    code = (
        "from pathlib import Path\n"
        "from tests.recipes.test_workcell_data import *\n"
        "if __name__ == '__main__':\n"
        f"    generate(ShortCube(), Path({str(directory)!r}), {NUM_EPISODES}, SETTINGS, num_processes=2)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    paths = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    run = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": paths})
    try:
        while not (directory / ATTEMPTS).is_file() or len(read_attempts(directory)) < 2:
            assert run.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
        workers = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    deadline = time.monotonic() + 60.0
    while any(Path(f"/proc/{pid}").is_dir() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    generate(ShortCube(), directory, NUM_EPISODES, SETTINGS)
    assert_same(directory, whole)


def test_a_set_goes_on_only_as_it_was_begun(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="begun with first_seed 3; it cannot go on with 0"):
        generate(ShortCube(), whole, NUM_EPISODES, GenerationSettings(render_px=64, moment_every_s=0.3))
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match="not generated here"):
        generate(ShortCube(), tmp_path, 1, SETTINGS)


def test_fewer_frames_per_second_keep_the_commands_of_their_ticks(whole: Path, tmp_path: Path) -> None:
    settings = GenerationSettings(render_px=64, first_seed=3, moment_every_s=0.0, fps=10)
    made = generate(ShortCube(), tmp_path / "slow", 1, settings)
    assert made.companion is None
    slow, fast = LeRobotStore(tmp_path / "slow"), LeRobotStore(whole)
    np.testing.assert_array_equal(slow.columns(0, ["action"])["action"], fast.columns(0, ["action"])["action"][::3])
    assert Embodiment.load(tmp_path / "slow" / EMBODIMENT).policy_hz == slow.fps == 10


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"fps": 7}, "whole divisor of 30; got 7"),
        ({"render_px": 33}, "even number of pixels"),
        ({"first_seed": -1}, "first_seed"),
        ({"codec": "gif"}, "h264, av1"),
        ({"moment_every_s": float("nan")}, "moment_every_s"),
        ({"disturb_m": -0.01}, r"disturb_m must be in 0\.\.0\.05 m"),
        ({"disturb_m": 10.0}, "disturb_m"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GenerationSettings(**wrong)  # pyright: ignore[reportArgumentType]
