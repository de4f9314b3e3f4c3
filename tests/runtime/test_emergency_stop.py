import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cerebella.runtime.emergency_stop import (
    COOL_DOWN_S,
    FILE_NAME,
    REPEAT_S,
    EmergencyStop,
    EmergencyStopLatched,
    ResetRefused,
    default_folder,
    latch_on_signal,
)

OTHER_PROCESS = """
import sys, time
from cerebella.runtime.emergency_stop import EmergencyStop
stop = EmergencyStop(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(time.monotonic(), flush=True)
stop.latch("remote", "another process")
"""


def make_latched(folder: Path) -> EmergencyStop:
    stop = EmergencyStop(folder)
    stop.latch("operator", "red button")
    return stop


def reset_after_cool_down(stop: EmergencyStop) -> None:
    time.sleep(COOL_DOWN_S + 0.01)
    stop.reset("Mei")


def test_a_new_robot_is_released_and_a_latch_holds(tmp_path: Path) -> None:
    stop = EmergencyStop(tmp_path / "arm")
    stop.check()
    stop.latch("limit", "velocity of joint 3")
    assert stop.is_latched
    with pytest.raises(EmergencyStopLatched, match=r"limit: velocity of joint 3 .*estop reset"):
        stop.check()


def test_f18_it_stays_latched_over_restart_and_never_clears_by_itself(tmp_path: Path) -> None:
    make_latched(tmp_path).close()
    time.sleep(COOL_DOWN_S + 0.01)
    for _ in range(3):
        with EmergencyStop(tmp_path) as reopened:
            assert reopened.is_latched
            assert [(cause.by, cause.reason) for cause in reopened.causes()] == [("operator", "red button")]
    program = (
        "import sys; from cerebella.runtime.emergency_stop import *; sys.exit(EmergencyStop(sys.argv[1]).is_latched)"
    )
    assert subprocess.run([sys.executable, "-c", program, tmp_path]).returncode == 1


def test_f18_a_reset_needs_an_operator_and_the_cool_down(tmp_path: Path) -> None:
    stop = make_latched(tmp_path)
    with pytest.raises(ValueError, match="name of the operator"):
        stop.reset("  ")
    with pytest.raises(ResetRefused, match=r"red button; a reset is possible 0\.5 s after"):
        stop.reset("Mei")
    assert stop.is_latched
    reset_after_cool_down(stop)
    assert not stop.is_latched
    assert EmergencyStop(tmp_path).is_latched is False
    assert [record.event for record in stop.history()] == ["created", "latch", "reset"]
    assert stop.history()[-1].by == "Mei"
    assert stop.causes() == []


def test_the_cool_down_counts_from_the_newest_latch(tmp_path: Path) -> None:
    stop = make_latched(tmp_path)
    time.sleep(COOL_DOWN_S + 0.01)
    EmergencyStop(tmp_path).latch("watchdog", "silence")
    with pytest.raises(ResetRefused, match="watchdog: silence"):
        stop.reset("Mei")
    assert [cause.by for cause in stop.causes()] == ["operator", "watchdog"]
    with pytest.raises(ValueError, match=r"0\.5 s or more; got 0\.1"):
        EmergencyStop(tmp_path, cool_down_s=0.1)


def test_a_source_that_keeps_firing_keeps_it_latched_without_filling_the_disk(tmp_path: Path) -> None:
    stop = EmergencyStop(tmp_path)
    end_s = time.monotonic() + 3 * REPEAT_S
    while time.monotonic() < end_s:
        stop.latch("limit", "joint 3")
        with pytest.raises(ResetRefused):
            stop.reset("Mei")
    assert 3 <= len(stop.causes()) <= 4


def test_a_latch_of_another_process_is_seen_within_a_control_period(tmp_path: Path) -> None:
    stop = EmergencyStop(tmp_path)
    argv = [sys.executable, "-c", OTHER_PROCESS, tmp_path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        assert not stop.is_latched
        other.stdin.write("go\n")
        other.stdin.flush()
        latched_s = float(other.stdout.readline())
        while not stop.is_latched:
            assert time.monotonic() < latched_s + 1.0
    assert stop.causes()[0].pid == other.pid


def test_a_look_is_cheap_enough_for_every_control_tick(tmp_path: Path) -> None:
    stop = EmergencyStop(tmp_path)
    durations_s = []
    for _ in range(200):
        start_s = time.perf_counter()
        for _ in range(10):
            assert not stop.is_latched
        durations_s.append((time.perf_counter() - start_s) / 10)
    assert sorted(durations_s)[len(durations_s) // 2] < 50e-6


def test_a_signal_latches_also_in_the_middle_of_a_latch(tmp_path: Path) -> None:
    stop = EmergencyStop(tmp_path)
    with latch_on_signal(stop, signal.SIGUSR1):
        stop_signals = threading.Event()

        def fire() -> None:
            while not stop_signals.is_set():
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.001)

        sender = threading.Thread(target=fire)
        sender.start()
        for number in range(50):
            stop.latch("limit", f"violation {number}")
        stop_signals.set()
        sender.join()
        time.sleep(0.01)  # a signal under way is handled before the handler is taken away
    assert stop.is_latched
    assert {record.by for record in stop.causes()} == {"limit", "signal"}
    assert all(record.event == "latch" for record in stop.causes())


def append_text(path: Path) -> None:
    with path.open("a") as file:
        file.write("light curtain\n")


def cut_last_line(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


def copy_an_old_release(path: Path) -> None:
    with path.open("ab") as file:
        file.write(path.read_bytes().splitlines(keepends=True)[0])


@pytest.mark.parametrize(
    "damage",
    [
        append_text,
        cut_last_line,
        flip_a_bit,
        copy_an_old_release,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 10_000),
        lambda path: path.write_bytes(b"[" * 4000 + b"\n"),
    ],
    ids=["word of a script", "torn", "flipped bit", "misplaced release", "empty", "garbage", "brackets"],
)
def test_whatever_is_not_a_release_in_its_place_is_a_latch(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    stop = EmergencyStop(tmp_path)
    assert not stop.is_latched
    damage(tmp_path / FILE_NAME)
    assert stop.is_latched
    reopened = EmergencyStop(tmp_path)
    assert reopened.is_latched
    with pytest.raises(ResetRefused):
        reopened.reset("Mei")
    reset_after_cool_down(reopened)
    assert not stop.is_latched
    assert not EmergencyStop(tmp_path).is_latched


def test_a_removed_file_latches_whoever_had_it_open(tmp_path: Path) -> None:
    stop = EmergencyStop(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    assert stop.is_latched
    with pytest.raises(EmergencyStopLatched, match="removed"):
        stop.check()
    with pytest.raises(ResetRefused, match="was removed"):
        stop.reset("Mei")


def test_a_latch_that_cannot_be_written_holds_in_its_process(tmp_path: Path) -> None:
    stop = EmergencyStop(tmp_path)
    stop.close()
    with pytest.raises(OSError, match="Bad file"):
        stop.latch("operator", "red button")
    assert stop.is_latched


def test_a_reset_never_covers_a_latch_that_came_in_between(tmp_path: Path) -> None:
    """Latches rain from a thread while resets are tried with a cool-down that seems over: none may be lost."""
    resetting, latching = EmergencyStop(tmp_path), EmergencyStop(tmp_path)
    for number in range(20):
        old = {
            "event": "latch",
            "by": "robot",
            "reason": "old",
            "monotonic_s": time.monotonic() - 10,
            "time": "",
            "pid": 1,
        }
        with (tmp_path / FILE_NAME).open("a") as file:
            file.write(json.dumps(old) + "\n")
        latched = threading.Thread(target=latching.latch, args=("limit", str(number)))
        latched.start()
        with suppress(ResetRefused):
            resetting.reset("Mei")
        latched.join()
        assert resetting.is_latched
        assert resetting.causes()[-1].reason in (str(number), "")


def test_many_processes_may_create_it_at_once(tmp_path: Path) -> None:
    threads = [threading.Thread(target=EmergencyStop, args=(tmp_path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [record.event for record in EmergencyStop(tmp_path).history()] == ["created"]
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_where_the_state_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder("so101") == tmp_path / "cerebella" / "so101"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_folder("so101") == Path.home() / ".local" / "state" / "cerebella" / "so101"
    with pytest.raises(ValueError, match=r"got '\.\./x'"):
        default_folder("../x")


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown source 'dog'; known sources: operator, signal, watchdog"):
        EmergencyStop(tmp_path).latch("dog", "barks")  # pyright: ignore[reportArgumentType]
