"""The native dialect, as openpi's clients see it and with our extension."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from cerebella.serving.arrays import pack, unpack
from cerebella.serving.background import BackgroundServer
from cerebella.serving.exchange import checksum
from cerebella.serving.openpi import KNOWN_KEYS, MAX_OPEN, OpenpiDialect
from tests.runtime.tagged import make_metadata

from .gate import HORIZON, WAIT_S, BatchPolicy, GatedPolicy, guided_metadata, wait_until, with_views

STATE = np.arange(4, dtype=np.float32)
REQUEST = {"state": STATE, "prompt": "go"}


class Robot:
    """A websocket client by hand."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.first_frame = self.take()

    def send(self, **fields: Any) -> None:
        self._connection.send(pack(REQUEST | fields))

    def send_raw(self, message: bytes | str) -> None:
        self._connection.send(message)

    def take(self) -> dict[str, Any]:
        return unpack(self.take_raw())

    def take_raw(self) -> Any:
        return self._connection.recv(timeout=WAIT_S)


def joined(server: BackgroundServer) -> Any:
    return connect(server.address(), compression=None, proxy=None)


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    policy = BatchPolicy(make_metadata(HORIZON, 4, with_views("base", "left_wrist")))
    with BackgroundServer(policy, {OpenpiDialect({"ours": "free", "horizon": -1}): 0}) as server:
        yield server


PICTURE = np.zeros((8, 8, 3), dtype=np.uint8)
VIEWS = {"images": {"base": PICTURE, "left_wrist": PICTURE}}


def test_the_first_frame_says_what_the_server_is(server: BackgroundServer) -> None:
    with joined(server) as connection:
        frame = Robot(connection).first_frame
    assert frame["ours"] == "free"
    assert frame["horizon"] == HORIZON  # ours win
    assert (frame["protocol"], frame["protocol_version"]) == ("cerebella-openpi", 1)
    assert (frame["policy_id"], frame["statistics_hash"], frame["mask_variant"]) == ("tagged", "none", None)
    assert (frame["max_trained_prefix"], frame["supports_guidance"]) == (4, False)
    assert (frame["policy_hz"], frame["control_hz"]) == (30.0, 30.0)
    assert frame["embodiment"]["views"] == ["base", "left_wrist"]
    assert frame["server_id"] == server.service.server_id
    assert frame["keys"] == list(KNOWN_KEYS)
    assert frame["limits"] == {"max_message_bytes": 64 << 20, "max_prefix": HORIZON - 1, "max_open_requests": MAX_OPEN}


def test_a_client_of_openpi_gets_what_it_knows(server: BackgroundServer) -> None:
    request = {
        "observation/image": PICTURE,
        "observation/wrist_image": PICTURE,
        "observation/state": STATE.astype(float),
    }
    with joined(server) as connection:
        robot = Robot(connection)
        for number in range(2):
            robot.send_raw(pack(request | {"prompt": "go"}))
            answer = robot.take()
            assert answer["actions"].shape == (HORIZON, 4)
            assert answer["actions"].dtype == np.float32
            assert np.array_equal(answer["actions"][0], STATE)
            assert answer["policy_timing"]["infer_ms"] == 1.0
            assert answer["server_timing"]["infer_ms"] >= 0
            assert ("prev_total_ms" in answer["server_timing"]) == (number > 0)
            # openpi's ActionChunkBroker takes row after row of every array: there must be no other array
            assert [key for key, value in answer.items() if isinstance(value, np.ndarray)] == ["actions"]


@pytest.mark.parametrize(
    "message", ["text", b"\xc1", pack([1]), pack({"state": STATE}), pack(REQUEST | {"sate": STATE})]
)
def test_an_error_without_seq_is_text_and_then_1011(server: BackgroundServer, message: Any) -> None:
    with joined(server) as connection:
        robot = Robot(connection)
        robot.send_raw(message)
        text = robot.take_raw()
        assert isinstance(text, str)
        assert 10 < len(text) < 1000
        assert "Traceback" not in text
        with pytest.raises(ConnectionClosed) as closed:
            robot.take_raw()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"state": STATE[:2]}, "schema"),
        ({"extra": 1}, "schema"),
        ({"session": 3}, "schema"),
        ({"session": "x" * 200}, "schema"),
        ({"crc32": 0}, "schema"),
    ],
)
def test_an_error_with_seq_is_a_map_and_the_connection_goes_on(
    server: BackgroundServer, fields: dict[str, Any], reason: str
) -> None:
    with joined(server) as connection:
        robot = Robot(connection)
        robot.send(**VIEWS, **fields, seq=4)
        refused = robot.take()
        assert (refused["seq"], refused["reason"]) == (4, reason)
        assert isinstance(refused["error"], str)
        robot.send(**VIEWS, seq=5)
        assert robot.take()["seq"] == 5


@pytest.mark.parametrize("seq", [-1, 1.5, "1", None, True])
def test_a_wrong_seq_is_an_error_without_seq(server: BackgroundServer, seq: Any) -> None:
    with joined(server) as connection:
        robot = Robot(connection)
        robot.send(**VIEWS, seq=seq)
        assert "seq must be an integer" in robot.take_raw()


def test_what_our_clients_send_comes_back(server: BackgroundServer) -> None:
    prefix = np.full((2, 4), 9.0, dtype=np.float32)
    with joined(server) as connection:
        robot = Robot(connection)
        robot.send(**VIEWS, seq=7, tick=30, timestamp_s=1.0, session="left arm", prefix_actions=prefix, prefix_length=2,
                   promised_delay=2, deadline_ms=100.0, crc32=checksum(STATE, prefix))  # fmt: skip
        answer = robot.take()
    assert (answer["seq"], answer["tick"], answer["prefix_length"], answer["policy_id"]) == (7, 30, 2, "tagged")
    assert answer["batch_size"] == 1
    assert np.array_equal(answer["actions"][:2], prefix)
    assert np.array_equal(answer["actions"][2], STATE + 2)
    assert np.array_equal(answer["state"], STATE)
    assert answer["crc32"] == checksum(answer["actions"])


def test_damage_to_the_numbers_that_move_a_robot_is_found(server: BackgroundServer) -> None:
    message = bytearray(pack(REQUEST | VIEWS | {"seq": 1, "crc32": checksum(STATE)}))
    where = message.index(struct.pack("<4f", *STATE))
    message[where + 4] ^= 0x10
    with joined(server) as connection:
        robot = Robot(connection)
        robot.send_raw(bytes(message))
        assert "checksum" in robot.take()["error"]


def test_a_reset_is_answered_and_ends_what_waits() -> None:
    policy = GatedPolicy(num_free=8)
    with BackgroundServer(policy, {OpenpiDialect(): 0}) as server, joined(server) as connection:
        robot = Robot(connection)
        robot.send_raw(pack({"reset": True}))
        assert robot.take() == {"reset": True}
        robot.send(seq=1, session="a")
        policy.wait_until_busy()
        robot.send(seq=2, session="a")
        robot.send(seq=3, session="b")
        robot.send_raw(pack({"reset": True, "seq": 4, "session": "a"}))
        early = [robot.take(), robot.take()]
        assert {frame["seq"]: frame.get("reason") for frame in early} == {2: "superseded", 4: None}
        policy.go(2)
        assert {robot.take()["seq"], robot.take()["seq"]} == {1, 3}


def test_a_newer_observation_takes_the_place_of_an_older_one_of_its_session() -> None:
    policy = GatedPolicy(num_free=8)
    with BackgroundServer(policy, {OpenpiDialect(): 0}) as server, joined(server) as connection:
        robot = Robot(connection)
        robot.send(seq=1, tick=1)
        policy.wait_until_busy()
        for seq in (2, 3, 4):
            robot.send(seq=seq, tick=seq)
        robot.send(seq=5, tick=5, session="other")
        assert [robot.take()["seq"] for _ in range(2)] == [2, 3]
        policy.go(2)
        assert [robot.take()["seq"] for _ in range(3)] == [1, 4, 5]
        assert policy.batches[8:] == [[1], [4, 5]]


def test_connections_do_not_meet_in_a_session_of_one_name() -> None:
    policy = GatedPolicy(num_free=8)
    with (
        BackgroundServer(policy, {OpenpiDialect(): 0}) as server,
        joined(server) as one,
        joined(server) as two,
        joined(server) as three,
    ):
        robots = [Robot(connection) for connection in (one, two, three)]
        robots[0].send(seq=1, session="arm", tick=1)
        policy.wait_until_busy()
        robots[1].send(seq=1, session="arm", tick=2)
        robots[2].send(seq=1, session="arm", tick=3)
        wait_until(lambda: server.service.num_open >= 3)
        robots[1].send_raw(pack({"reset": True, "seq": 2, "session": "arm"}))
        assert {robots[1].take()["seq"], robots[1].take()["seq"]} == {1, 2}
        policy.go(2)
        assert robots[0].take()["tick"] == 1
        assert robots[2].take()["tick"] == 3


def test_a_client_that_leaves_takes_its_waiting_request_along() -> None:
    policy = GatedPolicy(num_free=8)
    with BackgroundServer(policy, {OpenpiDialect(): 0}) as server, joined(server) as stays:
        robot = Robot(stays)
        robot.send(seq=1, tick=1)
        policy.wait_until_busy()
        with joined(server) as leaves:
            Robot(leaves).send(seq=1, tick=2)
            wait_until(lambda: server.service.num_open >= 2)
        wait_until(lambda: server.service.num_open <= 1)
        robot.send(seq=2, tick=3)
        policy.go(2)
        assert [robot.take()["seq"] for _ in range(2)] == [1, 2]
        assert policy.batches[8:] == [[1], [3]]


def test_guidance_reaches_the_policy() -> None:
    plan = np.full((3, 4), 6.0, dtype=np.float32)
    with BackgroundServer(BatchPolicy(guided_metadata()), {OpenpiDialect(): 0}) as server, joined(server) as connection:
        robot = Robot(connection)
        robot.send(seq=1, guidance={"plan": plan, "num_frozen": 1, "execute_horizon": 4}, crc32=checksum(STATE, plan))
        assert np.array_equal(robot.take()["actions"][0], plan[0])


class FailingPolicy(BatchPolicy):
    def infer_batch(self, observations: Any, prefixes: Any) -> Any:
        if observations[0].prompt == "fail":
            raise OSError("a secret path")
        return super().infer_batch(observations, prefixes)


def test_a_policy_that_fails_says_so_without_its_inside(caplog: pytest.LogCaptureFixture) -> None:
    with BackgroundServer(FailingPolicy(), {OpenpiDialect(): 0}) as server, joined(server) as connection:
        robot = Robot(connection)
        robot.send(prompt="fail", seq=1)
        refused = robot.take()
        assert refused["reason"] == "failed"
        assert refused["error"].startswith("the policy failed (error ")
        robot.send(seq=2)
        assert robot.take()["seq"] == 2
        robot.send(prompt="fail")
        assert robot.take_raw().startswith("the policy failed (error ")
    assert "a secret path" in caplog.text
