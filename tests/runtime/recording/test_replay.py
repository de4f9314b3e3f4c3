"""The same inputs give the same commands, bit by bit (E-10); one changed bit is found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cerebella.interfaces import Policy
from cerebella.runtime.camera_check import CameraCheck
from cerebella.runtime.clock import WallClock
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.drive import drive
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import MODES, ExecutorConfig, Mode
from cerebella.runtime.instruments.tagged import TaggedPolicy, make_metadata, make_observation
from cerebella.runtime.recording.construction import delay_settings, describe_run, make_delay_estimator
from cerebella.runtime.recording.pictures import Camera, stand_in
from cerebella.runtime.recording.reader import Arrived, Entry, Recording, Seen, read_recording
from cerebella.runtime.recording.recorder import Recorder
from cerebella.runtime.recording.replay import replay
from cerebella.runtime.trace import Event, RequestRecord, TickRecord
from cerebella.runtime.transport import ThreadTransport, VirtualTransport, batched
from tests.runtime.recording.runs import record_conveyor, record_tagged
from tests.runtime.tagged import Robot


@pytest.mark.parametrize("mode", ["sync", "naive", "prefix"])
def test_an_episode_of_the_conveyor_replays_bit_by_bit(mode: Mode, tmp_path: Path) -> None:
    executor = record_conveyor(tmp_path / "run.mcap", mode)
    report = replay(tmp_path / "run.mcap")
    assert report.difference == ""
    assert report.num_commands == report.num_equal == len(executor.trace) > 30


@pytest.mark.parametrize("with_filter", [False, True])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", MODES)
def test_a_run_with_every_trouble_replays_bit_by_bit(mode: Mode, seed: int, with_filter: bool, tmp_path: Path) -> None:
    executor = record_tagged(tmp_path / "run.mcap", mode, seed, with_filter=with_filter)
    report = replay(tmp_path / "run.mcap")
    assert report.difference == ""
    assert report.num_equal == len(executor.trace) == 150


def test_the_troubles_happen(tmp_path: Path) -> None:
    """Otherwise the test above would prove little."""
    states: set[str] = set()
    events: set[str] = set()
    outcomes: set[str] = set()
    for seed in range(4):
        for with_filter in (False, True):
            path = tmp_path / f"{seed}{with_filter}.mcap"
            record_tagged(path, "prefix", seed, with_filter=with_filter)
            recording = read_recording(path)
            states |= {record.state for record in recording.ticks}
            events |= {event.name for event in recording.events}
            outcomes |= {record.outcome for record in recording.requests}
    assert {"run", "hold", "human", "filter"} <= states
    assert {"pause", "resume", "task", "take over", "human command", "hand back"} <= events
    assert {"used", "late", "rejected", "discarded", "timed out"} <= outcomes


def test_a_run_on_the_wall_clock_with_a_worker_thread_replays(tmp_path: Path) -> None:
    metadata = make_metadata(12, 6)
    policy: Policy = TaggedPolicy(metadata)
    clock, config, estimator = WallClock(), ExecutorConfig("prefix", 5), DelayEstimator(1)
    recorder = Recorder(tmp_path / "run.mcap", describe_run(metadata, config, estimator))
    latency_s = np.random.default_rng(0).uniform(0, 0.12, size=100)
    transport = ThreadTransport(policy, clock, lambda number: float(latency_s[number]))
    executor = Executor(metadata, config, transport, estimator, sinks=[recorder])
    robot = Robot(60)
    robot.reset(0)
    drive(robot, executor, clock, 60)
    executor.close()
    recorder.close()
    report = replay(tmp_path / "run.mcap")
    assert (report.difference, report.num_equal) == ("", 60)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    path = tmp_path_factory.mktemp("recorded") / "run.mcap"
    record_conveyor(path, "prefix")
    return read_recording(path)


def changed(recording: Recording, kind: type, number: int, **changes: object) -> Recording:
    """The recording with the `number`-th entry of a kind changed."""
    entries: list[Entry] = list(recording.entries)
    place = [i for i, entry in enumerate(entries) if isinstance(entry, kind)][number]
    entries[place] = replace(entries[place], **changes)  # pyright: ignore[reportArgumentType]
    return replace(recording, entries=tuple(entries))


def test_one_bit_of_one_command_is_found(recorded: Recording) -> None:
    values = recorded.ticks[20].values.copy()
    values.view(np.uint32)[1] ^= 1
    report = replay(changed(recorded, TickRecord, 20, values=values))
    assert report.num_equal == 20
    assert report.difference.startswith("command 20 (tick 20, phase 0, run): values of gripper_y is")


def test_a_changed_reply_changes_the_commands(recorded: Recording) -> None:
    arrived = next(entry for entry in recorded.entries if isinstance(entry, Arrived))
    assert arrived.reply.chunk is not None
    chunk = replace(arrived.reply.chunk, actions=arrived.reply.chunk.actions + np.float32(0.001))
    report = replay(changed(recorded, Arrived, 0, reply=replace(arrived.reply, chunk=chunk)))
    assert not report.is_equal
    assert report.num_equal == arrived.tick


def test_a_changed_observation_is_found(recorded: Recording) -> None:
    seen = recorded.seen[0]
    observation = replace(seen.observation, state=seen.observation.state + np.float32(0.01))
    assert not replay(changed(recorded, Seen, 0, observation=observation)).is_equal


def test_a_missing_record_is_found(recorded: Recording) -> None:
    first = next(i for i, entry in enumerate(recorded.entries) if isinstance(entry, RequestRecord))
    entries = recorded.entries[:first] + recorded.entries[first + 1 :]
    assert "comes where the recording has" in replay(replace(recorded, entries=entries)).difference
    extra = (*recorded.entries, Event(99, "stop", {}))
    assert replay(replace(recorded, entries=extra)).difference == "the replay ends before the event 'stop' (tick 99)"


def test_other_settings_are_found(recorded: Recording) -> None:
    header = replace(recorded.header, config=replace(recorded.header.config, execute_horizon=7))
    assert not replay(replace(recorded, header=header)).is_equal


def test_what_a_killed_process_left_is_replayed(recorded: Recording) -> None:
    """Cut after any entry: the commands up to there are the same."""
    for length in range(0, len(recorded.entries), 7):
        report = replay(replace(recorded, entries=recorded.entries[:length], is_finished=False))
        assert report.difference == ""
        assert report.num_equal == report.num_commands


def test_a_shared_estimator_goes_on_where_it_was() -> None:
    estimator = DelayEstimator(3, window=4, num_warmup=2)
    for delay in (9, 9, 1, 2, 3, 4, 5):
        copy = make_delay_estimator(delay_settings(estimator), "here")
        assert delay_settings(copy) == delay_settings(estimator)
        assert copy.estimate() == estimator.estimate()
        estimator.record(delay)
    with pytest.raises(ValueError, match=r"run\.mcap: the delay estimator cannot be made"):
        make_delay_estimator({"initial": 1}, "run.mcap")


def test_a_run_with_a_camera_check_replays(tmp_path: Path) -> None:
    """The camera freezes for a while; notes of the surroundings change nothing."""
    metadata = make_metadata(8, 4)
    config, estimator = ExecutorConfig("prefix", 4), DelayEstimator(1)
    check = CameraCheck(["base"], 1.0, 1.0, 2, num_equal_frames=2)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    header = describe_run(metadata, config, estimator, camera_check=check)
    with Recorder(tmp_path / "run.mcap", header, pictures="none", may_wait=True) as recorder:
        transport = VirtualTransport(batched(TaggedPolicy(metadata)), lambda _: 2)
        executor = Executor(metadata, config, transport, estimator, camera_check=check, sinks=[recorder])
        for tick in range(60):
            if not 20 <= tick < 30:
                image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            executor.observe(replace(make_observation(tick), images={"base": image}))
            recorder.note(Event(tick, "remark"))
            executor.command()
    names = [event.name for event in read_recording(tmp_path / "run.mcap").events]
    assert "blind" in names
    assert "sees again" in names
    assert replay(tmp_path / "run.mcap").difference == ""


def test_a_frozen_camera_is_frozen_in_a_replay_too() -> None:
    """The stand-ins are judged as the pictures were, also where only rows differ that no check looks at."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 30, 3), dtype=np.uint8) for _ in range(3)]
    between = pictures[0].copy()
    between[1] += 1
    shown = [pictures[0], pictures[0].copy(), between, pictures[1], pictures[1], pictures[1], pictures[2], pictures[0]]
    verdicts: list[list[str]] = []
    for images in (shown, [stand_in(Camera.of("base", image, False)) for image in shown]):
        check = CameraCheck(["base"], 1.0, 1.0, 0, num_equal_frames=2)
        observations = [replace(make_observation(i), images={"base": image}) for i, image in enumerate(images)]
        verdicts.append([check.check(observation, observation.timestamp_s).kind for observation in observations])
    assert verdicts[0] == verdicts[1]
    assert "fault" in verdicts[0]
