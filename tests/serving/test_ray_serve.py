"""Two replicas on one machine, under load, one killed, both replaced. Needs Ray: `make test-scale`."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cerebella.interfaces import Request
from cerebella.runtime.instruments.tagged import make_observation
from cerebella.serving.arrays import unpack
from cerebella.serving.remote_transport import RemoteTransport
from tests.serving.fleet_policy import HORIZON
from tests.serving.ray_program import TOKEN

pytestmark = [pytest.mark.scale, pytest.mark.timeout(280)]

ROOT = Path(__file__).parents[2]
NUM_ROBOTS = 6
START_S = 90.0
MAX_GAP_S = 5.0
"""Longest time without an answer that a robot may see. Most of it is the machine's: a reconnect takes about 0.1 s."""
TICK_S = 0.02


@dataclass(frozen=True)
class Seen:
    """One answer: when, from which process, of which version."""

    at_s: float
    pid: int
    version: int


class Robot:
    """Asks again as soon as it is answered, looking once per tick, as an executor does; checks every answer."""

    def __init__(self, number: int, url: str) -> None:
        self.seen: list[Seen] = []
        self.wrong: list[str] = []
        self.lost: list[str] = []
        self.transport = RemoteTransport(url, TOKEN, session=f"robot-{number}", timeout_s=10.0)
        self._number = number
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def stop(self) -> None:
        self._is_done.set()
        self._thread.join()
        self.transport.close()

    def longest_gap_s(self) -> float:
        return float(np.diff([seen.at_s for seen in self.seen]).max())

    def _play(self) -> None:
        tick, asked = 0, -1
        while not self._is_done.wait(TICK_S):
            tick += 1
            for reply in self.transport.poll(tick):
                if reply.request_id == asked:
                    asked = -1
                if reply.chunk is None:
                    self.lost.append(str(reply.error))
                    continue
                rows = reply.chunk.actions
                if (
                    not (rows[:, 2] == reply.request_id + np.arange(HORIZON)).all()
                    or (rows[:, 3] != self._number).any()
                ):
                    self.wrong.append(f"request {reply.request_id}: {rows.tolist()}")
                self.seen.append(Seen(time.monotonic(), int(rows[0, 0]), int(rows[0, 1])))
            if asked < 0:
                asked = tick
                observation = make_observation(tick, float(self._number))
                self.transport.submit(Request(tick, observation, np.zeros((0, 4), np.float32), 0, deadline_s=0.2))


class Program:
    """The fleet as a process; its lines are kept."""

    def __init__(self, mode: str, port: int) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.serving.ray_program", mode, str(port)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._has_ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str, timeout_s: float = START_S) -> None:
        with self._news:
            self._news.wait_for(lambda: self._has_ended or self._has_said(text), timeout_s)
            assert self._has_said(text), "".join(self._lines[-50:])

    def _has_said(self, text: str) -> bool:
        return any(text in line for line in self._lines)

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """As Ctrl-C's polite sister does; the cluster ends with it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60.0)
        finally:
            self.process.kill()
            self._reader.join()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._has_ended = True
            self._news.notify_all()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def program(mode: str, ready: str) -> Iterator[tuple[Program, str]]:
    port = free_port()
    fleet = Program(mode, port)
    try:
        fleet.wait_for(ready)
        yield fleet, f"ws://127.0.0.1:{port}"
    finally:
        if fleet.process.poll() is None:
            fleet.end()


def replicas(url: str, num_connections: int = 8) -> set[int]:
    """Process ids behind several connections that are open at once, as their first frames say; none that fail."""
    pids: set[int] = set()
    with ExitStack() as stack, suppress(InvalidStatus, ConnectionClosed, OSError):
        for number in range(num_connections):
            headers = {"Authorization": f"Api-Key {TOKEN}", "x-session-id": f"probe-{number}"}
            frame = stack.enter_context(connect(url, compression=None, additional_headers=headers)).recv()
            assert isinstance(frame, bytes)
            pids.add(unpack(frame)["replica_pid"])
    return pids


def report(event: str, robots: list[Robot]) -> None:
    gaps_s = [round(robot.longest_gap_s(), 3) for robot in robots]
    print(f"{event}: longest time without an answer per robot {gaps_s} s; refused {[len(r.lost) for r in robots]}")


def wait_until(condition: Callable[[], bool], robots: list[Robot], timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, [(r.seen[-1:], r.lost[-3:], r.transport.trouble) for r in robots]
        time.sleep(TICK_S)


def test_a_killed_replica_and_an_update_cost_no_session_more_than_its_reconnect() -> None:
    with program("cycle", "deployed 1") as (fleet, url):
        wait_until(lambda: len(replicas(url)) == 2, [])  # the proxy hears of a replica a moment after it is ready
        robots = [Robot(number, url) for number in range(NUM_ROBOTS)]
        try:
            wait_until(lambda: all(len(robot.seen) > 20 for robot in robots), robots)
            pids = {robot.seen[-1].pid for robot in robots}
            assert len(pids) == 2, "the proxy spreads connections over both replicas"
            victim = min(pids)
            on_victim = {robot for robot in robots if robot.seen[-1].pid == victim}

            killed_s = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: all(robot.seen[-1].at_s > killed_s + 3.0 for robot in robots), robots)
            for robot in robots:
                assert robot.longest_gap_s() < MAX_GAP_S
                assert all(seen.pid != victim for seen in robot.seen if seen.at_s > killed_s + 0.5)
                if robot not in on_victim:
                    assert not robot.lost, "who was not there has not noticed"
            report("kill", robots)
            wait_until(lambda: len(replicas(url) - {victim}) == 2, robots)

            for robot in robots:
                robot.seen, robot.lost = robot.seen[-1:], []
            fleet.say("2")
            fleet.wait_for("deployed 2", 120.0)
            wait_until(lambda: all(robot.seen[-1].version == 2 for robot in robots), robots)
            for robot in robots:
                assert robot.longest_gap_s() < MAX_GAP_S
                # What is being worked on is answered first; a question may cross the close on its way, one per session.
                crossed = [text for text in robot.lost if not text.startswith("no server")]
                assert len(crossed) <= 1, crossed
            report("update", robots)
        finally:
            for robot in robots:
                robot.stop()
        assert not any(robot.wrong for robot in robots), [robot.wrong[:1] for robot in robots]


def test_the_command_with_the_python_proxy_a_token_and_affinity() -> None:
    with program("run", "2 replicas ready") as (fleet, url):
        with pytest.raises(InvalidStatus):
            connect(url, compression=None)
        with urllib.request.urlopen(f"{url.replace('ws:', 'http:')}/healthz") as answer:
            assert answer.read() == b"OK\n"
        wait_until(lambda: len(replicas(url)) == 2, [])
        assert replicas(url, 1) == replicas(url, 1) == replicas(url, 1), "one id, one replica"
        assert fleet.end() == 0
