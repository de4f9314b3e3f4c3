"""The real server is killed, frozen, started again, or answers somebody else: the robot comes to rest, and goes on."""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect as connect_websocket

from cerebella.runtime.instruments.fault_proxy import FaultProxy
from cerebella.runtime.instruments.processes import ServerProcess
from cerebella.serving.exchange import request_message
from cerebella.serving.remote_transport import RemoteTransport
from cerebella.types import Observation

from .harness import CONTROL_HZ, READY, Course, after, connect, holding, make_server, nothing, recovered, running

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with make_server(tmp_path) as server:
        yield server


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[FaultProxy]:
    with FaultProxy(("127.0.0.1", server.port), "websocket", seed=7) as proxy:
        yield proxy


def restart(server: ServerProcess, proxy: FaultProxy) -> Callable[[], None]:
    """At another port, as the operating system likes."""

    def act() -> None:
        server.start()
        proxy.upstream = ("127.0.0.1", server.port)

    return act


def test_f10_killed_in_the_middle_of_a_chunk(
    transport: RemoteTransport, server: ServerProcess, proxy: FaultProxy
) -> None:
    course = Course(transport, [(running, server.kill), (holding, nothing), (after(50), nothing), (recovered, nothing)])
    course.steps[2] = (after(50), course.in_background(restart(server, proxy)))
    course.run()
    killed_at, held_at, *_ = course.done_at
    states = course.states(killed_at - 1, held_at)
    assert (states[0], states[-1]) == ("run", "hold")  # slowed down to rest on the plan, or stopped beside it
    assert set(states) <= {"run", "stop", "hold"}
    assert held_at - killed_at <= 1.2 * CONTROL_HZ  # the rest of the plan (0.8 s at most), and the stop
    assert (transport.counts.num_losses, transport.counts.num_restarts, transport.counts.num_connections) == (1, 1, 2)
    requests = course.executor.requests
    first = next(
        r for r in requests if r.outcome in ("used", "late") and r.id > 2 and requests[r.id - 1].outcome == "rejected"
    )
    assert (first.promised_delay, len(first.action_prefix), first.consumed) == (0, 0, 0)
    assert course.executor.counters.rejections.keys() == {"inference failed"}


def test_f11_frozen_with_its_sockets_open(transport: RemoteTransport, server: ServerProcess, proxy: FaultProxy) -> None:
    """TCP notices nothing; the ping of the transport and the time-out of the executor do."""
    steps = [(running, server.freeze), (lambda _: transport.counts.num_losses == 1, nothing)]
    course = Course(transport, [*steps, (after(25), server.thaw), (recovered, nothing)])
    course.run()
    frozen_at, noticed_at, *_ = course.done_at
    assert noticed_at - frozen_at <= 5.0 * CONTROL_HZ  # ping every 0.2 s, pong within 2 s, and a busy machine
    assert "hold" in course.states(frozen_at, None)
    assert transport.counts.num_restarts == 0


def test_f12_another_checkpoint_needs_consent(
    transport: RemoteTransport, server: ServerProcess, proxy: FaultProxy, tmp_path: Path
) -> None:
    with_other_policy = make_server(tmp_path, policy_id="another")
    try:
        steps = [(running, server.kill), (holding, nothing), (lambda _: transport.counts.num_refusals > 0, nothing)]
        course = Course(transport, [*steps, (after(75), nothing)])
        course.steps[1] = (holding, course.in_background(restart(with_other_policy, proxy)))
        course.run()
        assert course.states(course.done_at[1]) == ["hold"]
        assert "policy_id was sway, is another" in transport.trouble
        assert any("another policy" in request.reason for request in course.executor.requests)
        transport.accept_server_change()
        following = Course(transport, [(lambda _: transport.trouble == "", nothing), (running, nothing)])
        following.run()
        assert following.executor.metadata.policy_id == "another"
    finally:
        with_other_policy.kill()


def test_f23_two_robots_at_one_server(proxy: FaultProxy) -> None:
    """Each gets answers to its own questions: the judge compares rows with ticks, and the two are at different ones."""
    courses = []
    for num_ahead in (0, 40):
        transport = connect(proxy)
        courses.append(Course(transport, [(after(100 + num_ahead), nothing), (running, nothing)]))
    threads = [threading.Thread(target=course.run) for course in courses[1:]]
    for thread in threads:
        thread.start()
    courses[0].run()
    for thread in threads:
        thread.join()
    for course in courses:
        assert course.num_done == 2
        assert course.executor.counters.num_rejected == 0
        course.transport.close()


def test_f23_a_client_that_never_reads_harms_nobody(
    transport: RemoteTransport, server: ServerProcess, proxy: FaultProxy
) -> None:
    """It asks as fast as it may, for as long as the robot runs, and reads nothing. The server's memory stays bounded."""
    is_over = threading.Event()

    def flood() -> None:
        address = f"ws://127.0.0.1:{server.port}"
        with connect_websocket(
            address, compression=None, proxy=None, max_queue=1, ping_interval=None, close_timeout=0.5
        ) as client:
            seq = 0
            while not is_over.is_set():
                seq += 1
                observation = Observation(np.zeros(1, np.float32), "flood", seq, 0.0)
                try:
                    client.send(request_message(seq, observation, np.zeros((0, 1), np.float32)))
                except (OSError, RuntimeError, ConnectionError):
                    return
                is_over.wait(0.002)

    flooding = threading.Thread(target=flood)
    before_kib = resident_kib(server.pid)
    course = Course(transport, [(running, flooding.start), (after(250), is_over.set), (running, nothing)])
    course.run()
    flooding.join()
    assert resident_kib(server.pid) - before_kib < 50_000
    assert transport.counts.num_losses == 0
    states = [record.state for record in list(course.executor.trace)[course.done_at[0] :]]
    assert states.count("run") > 0.9 * len(states)


def test_the_command_itself(tmp_path: Path) -> None:
    """`cerebella serve hold`, word by word: it comes up, a robot stands still with it, and SIGTERM ends it."""
    with make_server(tmp_path):
        words = ["serve", "hold", "--port", "0", "--embodiment", str(tmp_path / "embodiment.json"), "--horizon", "20"]
    with ServerProcess([sys.executable, "-m", "cerebella", *words], READY) as server:
        with FaultProxy(("127.0.0.1", server.port), "websocket") as proxy:
            transport = connect(proxy)
            course = Course(transport, [(running, nothing), (after(25), nothing)], is_swaying=False)
            course.run()
            assert np.abs(np.stack([record.values for record in course.robot.records])).max() == 0.0
            transport.close()
        assert server.terminate() == 0


def resident_kib(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])
