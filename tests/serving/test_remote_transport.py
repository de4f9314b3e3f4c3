"""`RemoteTransport` against a real server, through a network that fails."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cerebella.interfaces import Guidance, Reply, Request, Transport
from cerebella.runtime.instruments.fault_proxy import FaultProxy, Rule
from cerebella.serving.background import BackgroundServer
from cerebella.serving.openpi import OpenpiDialect
from cerebella.serving.remote_transport import RemoteTransport
from cerebella.serving.server import ServerConfig
from tests.runtime.tagged import make_metadata

from .gate import HORIZON, NO_PREFIX, WAIT_S, BatchPolicy, GatedPolicy, guided_metadata, observed, with_views

NUM_WARM_UPS = 8
"""Inferences of a server's own warm-up: one per batch size."""


def request(number: int, tick: int | None = None, **more: Any) -> Request:
    return Request(number, observed(number if tick is None else tick, value=number), NO_PREFIX, 2, **more)


def serving(policy: BatchPolicy | None = None, port: int = 0, **config: Any) -> BackgroundServer:
    return BackgroundServer(policy or BatchPolicy(), {OpenpiDialect(): port}, ServerConfig(**config))


def through(server: BackgroundServer, *rules: Rule) -> FaultProxy:
    return FaultProxy(("127.0.0.1", server.server.ports["openpi"]), "websocket", *rules)


class Line:
    """A transport, and the replies that it has given so far."""

    def __init__(self, url: str, **options: Any) -> None:
        quick = {
            "timeout_s": 5.0,
            "ping_interval_s": 0.1,
            "ping_timeout_s": 0.5,
            "first_pause_s": 0.02,
            "max_pause_s": 0.1,
        }
        settings: dict[str, Any] = {**quick, **options}
        self.transport = RemoteTransport(url, **settings)
        self.replies: list[Reply] = []

    def submit(self, *requests: Request) -> None:
        transport: Transport = self.transport
        for one in requests:
            transport.submit(one)

    def wait_for(self, number: int) -> list[Reply]:
        """Poll as a control loop does, until there are so many replies in all."""
        self._poll_until(lambda: len(self.replies) >= number)
        return self.replies

    def until_up(self) -> None:
        self._poll_until(lambda: not self.transport.trouble)

    def until_down(self, words: str = "") -> None:
        self._poll_until(lambda: bool(self.transport.trouble) and words in self.transport.trouble)

    def _poll_until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline_s, (self.replies, self.transport.trouble, self.transport.counts)
            self.replies += self.transport.poll(0)
            time.sleep(0.002)
        self.replies += self.transport.poll(0)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()
        self.transport.close()


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with serving() as server:
        yield server


def test_replies_belong_to_their_requests(server: BackgroundServer) -> None:
    with Line(server.address()) as line:
        assert line.transport.metadata == make_metadata(HORIZON, 4)
        prefix = np.full((2, 4), 9.0, dtype=np.float32)
        for number in range(20):
            line.submit(dataclasses.replace(request(number), action_prefix=prefix))
            reply = line.wait_for(number + 1)[number]
            assert reply.request_id == number
            assert reply.chunk is not None
            assert (reply.chunk.start_tick, reply.chunk.prefix_length) == (number, 2)
            assert np.array_equal(reply.chunk.actions[:2], prefix)
            assert np.array_equal(reply.chunk.actions[2], np.full(4, number + 2, dtype=np.float32))
        assert line.transport.counts.num_connections == 1


def test_guidance_goes_along() -> None:
    with serving(BatchPolicy(guided_metadata())) as server, Line(server.address()) as line:
        plan = np.full((3, 4), 6.0, dtype=np.float32)
        line.submit(request(1, guidance=Guidance(plan, 1, 4), deadline_s=0.5))
        chunk = line.wait_for(1)[0].chunk
        assert chunk is not None
        assert np.array_equal(chunk.actions[0], plan[0])
        assert chunk.prefix_length == 0


def test_submit_never_waits() -> None:
    policy = GatedPolicy(num_free=NUM_WARM_UPS + 1)
    with serving(policy) as server, Line(server.address(), max_outstanding=2) as line:
        started_s = time.monotonic()
        line.submit(*(request(number) for number in range(200)))
        assert time.monotonic() - started_s < 30.0, "it waited for the gate"
        policy.go(100)
        while {reply.request_id for reply in line.replies} < set(range(200)):  # one may end, and be answered late
            line.wait_for(len(line.replies) + 1)
        while not any(reply.chunk is not None and reply.request_id == 199 for reply in line.replies):
            line.wait_for(len(line.replies) + 1)  # the newest always comes through
        assert line.transport.counts.num_superseded > 0


def test_a_request_without_an_answer_in_time_ends_and_its_late_answer_is_handed_over() -> None:
    policy = GatedPolicy(num_free=NUM_WARM_UPS + 1)
    with serving(policy) as server, Line(server.address(), timeout_s=0.2) as line:
        line.submit(request(1))
        [reply] = line.wait_for(1)
        assert reply.error == "no answer within 0.2 s"
        policy.go()
        late = line.wait_for(2)[1]
        assert late.request_id == 1
        assert late.chunk is not None
        line.submit(request(2))
        policy.go()
        assert line.wait_for(3)[2].chunk is not None
        counts = line.transport.counts
        assert (counts.num_timeouts, counts.num_late, counts.num_losses, counts.num_connections) == (1, 1, 0, 1)


def test_an_error_of_the_server_is_an_error_reply_and_the_connection_goes_on(server: BackgroundServer) -> None:
    with Line(server.address()) as line:
        wrong = Request(1, dataclasses.replace(observed(1), state=np.zeros(3, dtype=np.float32)), NO_PREFIX, 0)
        line.submit(wrong)
        [reply] = line.wait_for(1)
        assert reply.error is not None
        assert "state must be float32[4]" in reply.error
        line.submit(request(2))
        assert line.wait_for(2)[1].chunk is not None
        assert line.transport.counts.num_connections == 1


def test_a_lost_answer_times_out_and_a_repeated_one_is_ignored(server: BackgroundServer) -> None:
    with through(server) as proxy, Line(f"ws://127.0.0.1:{proxy.port}", timeout_s=0.3, ping_timeout_s=10.0) as line:
        proxy.set_rules(Rule("drop", "to client", count=1))
        line.submit(request(1))
        assert line.wait_for(1)[0].error == "no answer within 0.3 s"
        proxy.set_rules(Rule("duplicate", "to client", count=1))
        line.submit(request(2))
        assert line.wait_for(2)[1].chunk is not None
        line.submit(request(3))
        assert [reply.request_id for reply in line.wait_for(3)] == [1, 2, 3]
        assert line.transport.counts.num_unknown == 1


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_cut_connection_ends_what_was_asked_and_is_made_anew(how: str) -> None:
    policy = GatedPolicy(num_free=NUM_WARM_UPS + 1)
    with serving(policy) as server, through(server) as proxy, Line(f"ws://127.0.0.1:{proxy.port}") as line:
        line.submit(request(1))
        policy.wait_until_busy()
        policy.go(100)
        if how == "reset":
            proxy.reset()
        else:
            proxy.close()
        line.until_down()
        line.until_up()
        line.submit(request(2))
        last = line.wait_for(2)[-1]
        assert (last.request_id, last.chunk is not None) == (2, True)
        counts = line.transport.counts
        assert (counts.num_connections, counts.num_losses, counts.num_restarts) == (2, 1, 0)


def test_while_there_is_no_server_requests_end_at_once() -> None:
    with serving() as server:
        line = Line(server.address())
    with line:
        line.until_down()
        line.submit(request(1))
        [reply] = line.wait_for(1)
        assert reply.error is not None
        assert reply.error.startswith("no server: ")


def test_a_half_open_connection_is_found_out_by_pings(server: BackgroundServer) -> None:
    with through(server) as proxy, Line(f"ws://127.0.0.1:{proxy.port}", timeout_s=0.2) as line:
        proxy.half_open()
        line.submit(request(1))
        assert line.wait_for(1)[0].error is not None
        line.until_down()
        line.until_up()
        line.submit(request(2))
        assert line.wait_for(2)[-1].chunk is not None
        assert line.transport.counts.num_losses == 1


@pytest.mark.parametrize(
    "rule",
    [
        Rule("truncate", "to client", count=1, num_bytes=40),
        Rule("corrupt", "to client", count=1, num_bytes=200),
        Rule("oversize", "to client", count=1, num_bytes=70 << 20),
    ],
    ids=lambda rule: rule.fault,
)
def test_a_mangled_answer_never_becomes_a_chunk(server: BackgroundServer, rule: Rule) -> None:
    with through(server) as proxy, Line(f"ws://127.0.0.1:{proxy.port}", timeout_s=2.0, ping_interval_s=5.0) as line:
        proxy.set_rules(rule)
        line.submit(request(1))
        proxy.wait_for(rule.fault)
        [reply] = line.wait_for(1)
        assert reply.error is not None
        proxy.set_rules()
        line.until_up()
        line.submit(request(2))
        reply = line.wait_for(2)[-1]
        assert reply.chunk is not None
        assert np.array_equal(reply.chunk.actions[0], np.full(4, 2, dtype=np.float32))


def test_any_flipped_bit_of_an_answer_is_found_or_harmless(server: BackgroundServer) -> None:
    """Whatever bit flips on the way: a chunk that arrives is the one that was sent."""
    with through(server) as proxy, Line(f"ws://127.0.0.1:{proxy.port}", timeout_s=0.5, ping_interval_s=5.0) as line:
        for number in range(1, 41):
            line.until_up()
            proxy.set_rules(Rule("corrupt", "to client", count=1, num_bytes=1))
            line.submit(request(number))
            line.wait_for(number)
            proxy.set_rules()
        chunks = {reply.request_id: reply.chunk for reply in line.replies if reply.chunk is not None}
        assert proxy.num_hits["corrupt", "to client"] > 30
        assert len(chunks) < 40
        for number, chunk in chunks.items():
            assert chunk.actions[0, 0] == number
            assert (chunk.start_tick, chunk.policy_id) == (number, "tagged")


def test_a_server_that_comes_back_is_the_same_if_its_policy_is() -> None:
    with serving() as first:
        port = first.server.ports["openpi"]
        line = Line(first.address())
    with line:
        line.until_down()
        policy = BatchPolicy()
        with serving(policy, port=port):
            line.until_up()
            assert len(policy.batches) == NUM_WARM_UPS + 1  # the transport has warmed it up once more
            line.submit(request(1))
            assert line.wait_for(1)[-1].chunk is not None
            counts = line.transport.counts
            assert (counts.num_restarts, counts.num_refusals, counts.num_connections) == (1, 0, 2)


def test_another_policy_is_refused_until_an_operator_accepts_it() -> None:
    with serving() as first:
        port = first.server.ports["openpi"]
        line = Line(first.address())
    other = dataclasses.replace(make_metadata(HORIZON, 4), policy_id="other@1", statistics_hash="more")
    with line, serving(BatchPolicy(other), port=port):
        line.until_down("another policy: policy_id was tagged, is other@1; statistics_hash was none, is more")
        line.submit(request(1))
        error = line.wait_for(1)[0].error
        assert error is not None
        assert "refused, because the server came back with another policy" in error
        assert line.transport.metadata.policy_id == "tagged"
        line.transport.accept_server_change()
        line.until_up()
        line.submit(request(2))
        chunk = line.wait_for(2)[-1].chunk
        assert chunk is not None
        assert chunk.policy_id == line.transport.metadata.policy_id == "other@1"
        assert line.transport.counts.num_refusals == 1
        with pytest.raises(ValueError, match="nothing new to accept"):
            line.transport.accept_server_change()


def test_another_robot_cannot_be_accepted() -> None:
    with serving() as first:
        port = first.server.ports["openpi"]
        line = Line(first.address())
    with line, serving(BatchPolicy(make_metadata(HORIZON, 4, with_views("base"))), port=port):
        line.until_down("another policy: embodiment was")
        with pytest.raises(ValueError, match="the server's embodiment has changed: build a new executor"):
            line.transport.accept_server_change()
        line.submit(request(1))
        assert line.wait_for(1)[0].error is not None


def test_a_refusal_ends_when_the_old_policy_comes_back() -> None:
    with serving() as first:
        port = first.server.ports["openpi"]
        line = Line(first.address())
    with line:
        with serving(BatchPolicy(make_metadata(HORIZON, 3)), port=port):
            line.until_down("another policy")
        with serving(port=port):
            line.until_up()
            line.submit(request(1))
            assert line.wait_for(1)[-1].chunk is not None


def test_it_waits_for_a_server_that_warms_up() -> None:
    """For longer than for one that is not there: it has answered the websocket's handshake, and answers pings."""
    policy = GatedPolicy()
    server = BackgroundServer(policy, {OpenpiDialect(): 0}, wait_until_warm=False)
    with server:
        policy.wait_until_busy()
        with pytest.raises(ConnectionError, match=r"was not ready within 0.5 s: the server is warming up"):
            Line(server.address(), connect_timeout_s=0.2, warm_up_timeout_s=0.5)
        going = threading.Timer(0.5, policy.go, (100,))
        going.start()
        with Line(server.address(), connect_timeout_s=0.2) as line:
            line.submit(request(1))
            assert line.wait_for(1)[0].chunk is not None
        going.join()


def test_a_first_frame_that_is_swallowed_is_not_waited_for_like_a_warm_up(server: BackgroundServer) -> None:
    """The server says beside the connection that it is warm."""
    with through(server) as proxy, Line(f"ws://127.0.0.1:{proxy.port}", connect_timeout_s=2.0) as line:
        cut, swallow = Rule("reset", "to client", count=1), Rule("drop", "to client", first=1, count=1)
        proxy.set_rules(cut, swallow)
        line.submit(request(1))
        assert line.wait_for(1)[0].error is not None
        started_s = time.monotonic()
        line.until_up()
        assert proxy.num_hits["drop", "to client"] == 1
        assert time.monotonic() - started_s < WAIT_S / 2
        line.submit(request(2))
        assert line.wait_for(2)[-1].chunk is not None


def test_what_cannot_work_is_said_at_once() -> None:
    with serving(token="secret-token") as server:
        started_s = time.monotonic()
        with pytest.raises(ConnectionError, match="401"):
            Line(server.address(), connect_timeout_s=WAIT_S)
        assert time.monotonic() - started_s < 5.0
        with Line(server.address(), token="secret-token") as line:
            line.submit(request(1))
            assert line.wait_for(1)[0].chunk is not None
    with pytest.raises(ValueError, match="isn't a valid URI"):
        Line("127.0.0.1:8000")
    with pytest.raises(ConnectionError, match=r"was not ready within 0.2 s: ConnectionRefusedError"):
        Line("ws://127.0.0.1:1", connect_timeout_s=0.2)


def test_nothing_is_submitted_after_the_end(server: BackgroundServer) -> None:
    line = Line(server.address())
    line.transport.close()
    with pytest.raises(RuntimeError, match="after close"):
        line.submit(request(1))
    assert line.transport.poll(0) == []
