"""`RemotePolicy`: the policy over there behaves as one here."""

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.sync.server import ServerConnection, serve

from cerebella.interfaces import Guidance, Policy
from cerebella.runtime.instruments.fault_proxy import FaultProxy, Rule
from cerebella.serving.arrays import pack, unpack
from cerebella.serving.background import BackgroundServer
from cerebella.serving.client import RemotePolicy
from cerebella.serving.openpi import OpenpiDialect
from tests.runtime.tagged import make_metadata

from .gate import HORIZON, NO_PREFIX, WAIT_S, BatchPolicy, GatedPolicy, observed, with_views

METADATA = make_metadata(HORIZON, 4, with_views("base"))


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    metadata = dataclasses.replace(METADATA, supports_guidance=True)
    with BackgroundServer(BatchPolicy(metadata), {OpenpiDialect(): 0}) as server:
        yield server


def through(server: BackgroundServer, *rules: Rule) -> FaultProxy:
    return FaultProxy(("127.0.0.1", server.server.ports["openpi"]), "websocket", *rules)


def url_of(proxy: FaultProxy) -> str:
    return f"ws://127.0.0.1:{proxy.port}"


def test_it_is_the_policy(server: BackgroundServer) -> None:
    with RemotePolicy(server.address()) as remote:
        policy: Policy = remote
        assert policy.metadata == dataclasses.replace(METADATA, supports_guidance=True)
        here = BatchPolicy(METADATA)
        prefix = np.full((2, 4), 3.0, dtype=np.float32)
        for tick, rows in ((0, NO_PREFIX), (5, prefix)):
            observation = observed(tick, value=tick, views=("base",))
            there, ours = policy.infer(observation, rows), here.infer(observation, rows)
            assert np.array_equal(there.actions, ours.actions)
            for name in ("start_tick", "observation_tick", "prefix_length", "policy_id", "duration_s"):
                assert getattr(there, name) == getattr(ours, name)
        guided = remote.infer_guided(observed(9, views=("base",)), Guidance(prefix, 1, 4))
        assert np.array_equal(guided.actions[0], prefix[0])
        remote.reset()
        assert remote.first_frame["server_id"] == server.service.server_id


def test_what_the_server_refuses_is_a_value_error_and_the_next_question_works(server: BackgroundServer) -> None:
    with RemotePolicy(server.address()) as remote:
        with pytest.raises(ValueError, match="the picture of the view 'base' is missing"):
            remote.infer(observed(0), NO_PREFIX)
        remote.infer(observed(1, views=("base",)), NO_PREFIX)


def test_nobody_there() -> None:
    with pytest.raises(ConnectionError, match="refuses the connection"):
        RemotePolicy("ws://127.0.0.1:1")
    with pytest.raises(ValueError, match="no websocket address"):
        RemotePolicy("127.0.0.1:8000")
    with pytest.raises(ValueError, match="timeout_s must be above 0"):
        RemotePolicy("ws://127.0.0.1:1", timeout_s=0)


def test_no_answer_in_time_is_an_error_and_the_next_question_connects_anew() -> None:
    policy = GatedPolicy(num_free=8)
    serving = BackgroundServer(policy, {OpenpiDialect(): 0})
    with serving as server, RemotePolicy(server.address(), timeout_s=0.3) as remote:
        with pytest.raises(TimeoutError, match=r"no answer within 0.3 s"):
            remote.infer(observed(1), NO_PREFIX)
        policy.go(2)
        assert remote.infer(observed(2), NO_PREFIX).observation_tick == 2


@pytest.mark.parametrize(
    "rule",
    [
        Rule("reset", "to client", first=1, count=1),
        Rule("close", "to server", first=0, count=1),
        Rule("truncate", "to client", first=1, count=1, num_bytes=5),
    ],
)
def test_a_lost_connection_is_an_error_and_the_next_question_connects_anew(
    server: BackgroundServer, rule: Rule
) -> None:
    with through(server, rule) as proxy, RemotePolicy(url_of(proxy), timeout_s=2.0) as remote:
        with pytest.raises((ConnectionError, TimeoutError, ValueError)):  # a cut frame is no message
            remote.infer(observed(0, views=("base",)), NO_PREFIX)
        proxy.set_rules()
        assert remote.infer(observed(1, views=("base",)), NO_PREFIX).observation_tick == 1


def test_a_server_with_another_policy_is_not_taken_for_the_old_one(server: BackgroundServer) -> None:
    serving = BackgroundServer(BatchPolicy(make_metadata(HORIZON, 2, with_views("base"))), {OpenpiDialect(): 0})
    with serving as other, through(server) as proxy, RemotePolicy(url_of(proxy)) as remote:
        proxy.upstream = ("127.0.0.1", other.server.ports["openpi"])
        proxy.reset()
        with pytest.raises(ConnectionError):
            remote.infer(observed(0, views=("base",)), NO_PREFIX)
        with pytest.raises(ValueError, match="came back with another policy: max_trained_prefix was 4, is 2"):
            remote.infer(observed(1, views=("base",)), NO_PREFIX)


class ForeignServer:
    """An openpi server that is not ours: free metadata, its own names, one chunk of actions, text for an error."""

    def __init__(self, *answers: Any) -> None:
        self.requests: list[Any] = []
        self._answers = list(answers)

    def talk(self, connection: ServerConnection) -> None:
        connection.send(pack({"anything": 1}))
        for frame in connection:
            assert isinstance(frame, bytes)
            self.requests.append(unpack(frame))
            connection.send(self._answers.pop(0))

    def __enter__(self) -> "ForeignServer":
        self._server = serve(self.talk, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(WAIT_S)


KEYS = {"images/base": "observation/image", "state": "observation/state", "prompt": "prompt"}


def test_a_foreign_openpi_server_can_be_asked_under_its_own_names() -> None:
    actions = np.arange(HORIZON * 4, dtype=np.float64).reshape(HORIZON, 4)
    good = pack({"actions": actions, "policy_timing": {"infer_ms": 5.0}})
    observation = observed(3, views=("base",))
    with (
        ForeignServer(good, pack({"actions": actions[:3]}), good, "Traceback: it broke") as foreign,
        RemotePolicy(foreign.url, metadata=METADATA, keys=KEYS) as remote,
    ):
        assert remote.first_frame == {"anything": 1}
        chunk = remote.infer(observation, NO_PREFIX)
        assert np.array_equal(chunk.actions, actions.astype(np.float32))
        assert (chunk.start_tick, chunk.duration_s) == (3, 0.005)
        assert set(foreign.requests[0]) == set(KEYS.values())
        with pytest.raises(ValueError, match=r"actions must be float32\[8, 4\]"):
            remote.infer(observation, NO_PREFIX)
        with pytest.raises(ValueError, match="knows neither action prefixes nor guidance"):
            remote.infer(observation, np.ones((1, 4), dtype=np.float32))
        remote.infer(observation, NO_PREFIX)
        with pytest.raises(RuntimeError, match="the server reports: Traceback: it broke"):
            remote.infer(observation, NO_PREFIX)
        remote.reset()


def test_a_foreign_server_needs_to_be_described() -> None:
    with ForeignServer() as foreign, pytest.raises(ValueError, match="another kind of server"):
        RemotePolicy(foreign.url)
    with pytest.raises(ValueError, match="metadata and keys belong together"):
        RemotePolicy("ws://127.0.0.1:1", metadata=METADATA)


def test_guidance_is_refused_by_a_policy_without_it() -> None:
    serving = BackgroundServer(BatchPolicy(), {OpenpiDialect(): 0})
    guidance = Guidance(np.ones((2, 4), dtype=np.float32), 1, 4)
    with serving as server, RemotePolicy(server.address()) as remote:
        with pytest.raises(ValueError, match="cannot be guided"):
            remote.infer_guided(observed(0), guidance)
        assert remote.infer(observed(0), NO_PREFIX).horizon == HORIZON
