import json
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from cerebella.released_robots import released_embodiment
from cerebella.serving.arrays import pack
from cerebella.serving.background import BackgroundServer
from cerebella.serving.pictures import encode_picture
from cerebella.serving.vla_eval import VlaEvalDialect
from cerebella.serving.vla_eval_specs import action_spec, observation_params, observation_spec

from .echo import HORIZON, PATIENCE_S, PIXELS, STATE, EchoPolicy, expected_actions

GOLDEN_OBSERVATION = bytes.fromhex(  # written by vla-eval 0.8.0: seq 7, two PNGs of PIXELS, states 1..8, "Go."
    "84a474797065ab6f62736572766174696f6ea77061796c6f616483a6696d6167657382a96167656e747669657784a95f5f696d6167655f5fc3"
    "a6666f726d6174a3706e67a464617461c45089504e470d0a1a0a0000000d49484452000000030000000208020000001216f14d000000174944"
    "4154789c6364606462666666666666e1e4e484b000028e0048c03f5e280000000049454e44ae426082a5736861706593020303a57772697374"
    "84a95f5f696d6167655f5fc3a6666f726d6174a3706e67a464617461c45089504e470d0a1a0a0000000d494844520000000300000002080200"
    "00001216f14d0000001749444154789c6364606462666666666666e1e4e484b000028e0048c03f5e280000000049454e44ae426082a5736861"
    "706593020303a673746174657384ab5f5f6e6461727261795f5fc3a464617461c440000000000000f03f000000000000004000000000000008"
    "400000000000001040000000000000144000000000000018400000000000001c400000000000002040a56474797065a33c6638a57368617065"
    "9108b07461736b5f6465736372697074696f6ea3476f2ea373657107a974696d657374616d70cb3ff8000000000000"
)


@pytest.fixture
def policy() -> EchoPolicy:
    return EchoPolicy()


@pytest.fixture
def dialect() -> VlaEvalDialect:
    return VlaEvalDialect()


@pytest.fixture
def address(policy: EchoPolicy, dialect: VlaEvalDialect) -> Iterator[str]:
    with BackgroundServer(policy, {dialect: 0}) as server:
        policy.asked.clear()
        yield server.address("vla_eval")


@pytest.fixture
def client(address: str) -> Iterator[ClientConnection]:
    with connect(address, compression=None, ping_interval=None) as client:
        yield client


def send(client: ClientConnection, kind: str, payload: Any, seq: Any = 1) -> None:
    client.send(pack({"type": kind, "payload": payload, "seq": seq, "timestamp": 0.0}, keys="text"))


def receive(client: ClientConnection) -> dict[str, Any]:
    message = client.recv(timeout=PATIENCE_S)
    assert isinstance(message, bytes)
    return msgpack.unpackb(message)


def actions_of(message: dict[str, Any]) -> np.ndarray:
    """What the harness would apply, decoded by hand."""
    assert message["type"] == "action", message
    array = message["payload"]["actions"]
    assert array["__ndarray__"] is True
    return np.frombuffer(array["data"], array["dtype"]).reshape(array["shape"])


def observation(state: np.ndarray = STATE, **changes: Any) -> dict[str, Any]:
    images = {"agentview": encode_picture(PIXELS), "wrist": encode_picture(PIXELS)}
    payload = {"images": images, "states": state, "task_description": "Go.", **changes}
    return {key: value for key, value in payload.items() if value is not None}


def test_hello_says_what_the_policy_wants_and_gives(client: ClientConnection) -> None:
    send(client, "hello", {"harness_version": "0.8.0", "protocol_version": 1, "benchmark": "some:Benchmark"}, seq=4)
    answer = receive(client)
    assert (answer["type"], answer["seq"]) == ("hello", 4)
    assert set(answer) == {"type", "payload", "seq", "timestamp"}
    payload = answer["payload"]
    assert payload["protocol_version"] == 1
    assert payload["capabilities"] == {}
    assert payload["observation_params"] == {"send_state": True, "send_wrist_image": True}
    assert payload["action_spec"]["gripper"]["format"] == "binary_close_positive"
    assert payload["observation_spec"]["state"]["format"] == "eef_pos3_axisangle3_gripper2"


def test_golden_bytes_of_the_harness(client: ClientConnection, policy: EchoPolicy) -> None:
    client.send(GOLDEN_OBSERVATION)
    answer = receive(client)
    assert answer["seq"] == 7
    np.testing.assert_array_equal(actions_of(answer), np.arange(1, 8))
    seen = policy.asked[0][0]
    assert (seen.prompt, seen.tick) == ("Go.", 0)
    for view in ("base", "left_wrist"):
        np.testing.assert_array_equal(seen.images[view], PIXELS)


@pytest.mark.parametrize("kind", ["png", "raw", "array with text keys", "array with binary keys"])
def test_pictures_and_arrays_in_every_form(kind: Any, client: ClientConnection, policy: EchoPolicy) -> None:
    if kind in ("png", "raw"):
        images = {"agentview": encode_picture(PIXELS, kind), "wrist": encode_picture(PIXELS, kind)}
    else:
        images = {"agentview": PIXELS, "wrist": PIXELS}
    payload = observation(images=images)
    message = {"type": "observation", "payload": payload, "seq": 1, "timestamp": 0.0}
    client.send(pack(message, keys="binary" if kind == "array with binary keys" else "text"))
    np.testing.assert_array_equal(actions_of(receive(client)), expected_actions(STATE)[0])
    np.testing.assert_array_equal(policy.asked[0][0].images["base"], PIXELS)


def test_a_jpeg_is_close(client: ClientConnection, policy: EchoPolicy) -> None:
    smooth = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    picture = encode_picture(smooth, "jpeg")
    send(client, "observation", observation(images={"agentview": picture, "wrist": picture}))
    actions_of(receive(client))
    assert np.abs(policy.asked[0][0].images["base"].astype(int) - smooth).max() <= 4


def test_one_inference_serves_a_chunk_of_observations(client: ClientConnection, policy: EchoPolicy) -> None:
    send(client, "episode_start", {"task": {"name": "Go."}})
    for seq in range(HORIZON + 1):
        send(client, "observation", observation(STATE + seq), seq=seq)
        answer = receive(client)
        row, first = seq % HORIZON, seq - seq % HORIZON
        assert answer["seq"] == seq
        np.testing.assert_array_equal(actions_of(answer), expected_actions(STATE + first)[row])
    assert [seen.tick for seen, _ in policy.asked] == [0, HORIZON]


def test_a_new_episode_starts_anew(client: ClientConnection, policy: EchoPolicy) -> None:
    for episode in range(2):
        send(client, "episode_start", {"task": {}})
        for state in (STATE + episode, STATE + 9):
            send(client, "observation", observation(state))
            actions = actions_of(receive(client))
        np.testing.assert_array_equal(actions, expected_actions(STATE + episode)[1])
        send(client, "episode_end", {"metrics": {"success": True}, "steps": 2})
    assert [seen.tick for seen, _ in policy.asked] == [0, 0]


@pytest.mark.parametrize("dialect", [VlaEvalDialect(execute_horizon=2)])
def test_execute_horizon(client: ClientConnection, policy: EchoPolicy) -> None:
    for seq in range(4):
        send(client, "observation", observation(STATE + seq), seq=seq)
        np.testing.assert_array_equal(actions_of(receive(client)), expected_actions(STATE + seq // 2 * 2)[seq % 2])
    assert [seen.tick for seen, _ in policy.asked] == [0, 2]


@pytest.mark.parametrize("dialect", [VlaEvalDialect(execute_horizon=4, sends_chunks=True)])
def test_whole_chunks(client: ClientConnection, policy: EchoPolicy) -> None:
    for seq in range(2):
        send(client, "observation", observation(STATE + seq), seq=seq)
        np.testing.assert_array_equal(actions_of(receive(client)), expected_actions(STATE + seq)[:4])
    assert len(policy.asked) == 2
    send(client, "episode_start", {"mode": "live"})
    assert "live" in receive(client)["payload"]["error"]


def test_live_mode_answers_at_once_and_plans_ahead(client: ClientConnection, policy: EchoPolicy) -> None:
    send(client, "episode_start", {"mode": "live"})
    policy.is_open.clear()
    for seq in range(3):  # the simulator goes on while the first inference runs
        send(client, "observation", observation(STATE + seq), seq=seq)
    send(client, "hello", {"protocol_version": 1})
    assert receive(client)["type"] == "hello"  # so all three have been read
    policy.is_open.set()
    answer = receive(client)
    assert answer["seq"] == 2  # the newest, with the row of its tick
    np.testing.assert_array_equal(actions_of(answer), expected_actions(STATE)[2])
    policy.is_open.clear()
    for seq in (3, 4):
        send(client, "observation", observation(STATE + seq), seq=seq)
        answer = receive(client)
        assert answer["seq"] == seq
        np.testing.assert_array_equal(actions_of(answer), expected_actions(STATE)[seq])
    policy.is_open.set()
    send(client, "episode_end", {})
    ticks = {seen.tick: prefix for seen, prefix in policy.asked}
    assert 0 in ticks
    assert len(ticks[0]) == 0


def test_live_mode_gives_the_rows_that_will_be_used_as_prefix(client: ClientConnection, policy: EchoPolicy) -> None:
    send(client, "episode_start", {"mode": "live"})
    policy.is_open.clear()
    for seq in range(3):
        send(client, "observation", observation(STATE + seq), seq=seq)
    send(client, "hello", {"protocol_version": 1})
    receive(client)
    policy.is_open.set()
    receive(client)  # it took two ticks
    seq = 3
    while len(policy.asked) < 2 and seq < 3 * HORIZON:
        send(client, "observation", observation(STATE + seq), seq=seq)
        receive(client)
        seq += 1
    seen, prefix = policy.asked[1]
    assert seen.tick == HORIZON - 2  # two ticks before the chunk ends
    np.testing.assert_array_equal(prefix, expected_actions(STATE)[seen.tick : seen.tick + 2])


REFUSED: dict[str, tuple[str, Any, str]] = {
    "a harness of another version": ("hello", {"protocol_version": 2}, "protocol version"),
    "an unknown type": ("shutdown", {}, "shutdown"),
    "an answer": ("action", {}, "action"),
    "a payload that is no map": ("observation", [1], "payload"),
    "an unknown mode": ("episode_start", {"mode": "dreaming"}, "dreaming"),
    "no state": ("observation", observation(states=None), "send_state"),
    "a state of another length": ("observation", observation(np.zeros(9)), r"float32\[8\]"),
    "a state that is not finite": ("observation", observation(np.full(8, np.inf)), "finite"),
    "no instruction": ("observation", observation(task_description=None), "prompt"),
    "no pictures": ("observation", observation(images=None), "base"),
    "a missing camera": ("observation", observation(images={"agentview": PIXELS}), "left_wrist"),
    "pictures in a list": ("observation", observation(images=[PIXELS]), "images"),
    "a damaged PNG": (
        "observation",
        observation(images={"agentview": encode_picture(PIXELS) | {"data": b"\x89PNG\r\n\x1a\n"}}),
        "picture",
    ),
    "a picture larger than announced": (
        "observation",
        observation(images={"agentview": encode_picture(PIXELS) | {"shape": [1, 1, 3]}}),
        "picture",
    ),
}


def test_an_error_keeps_the_connection(client: ClientConnection, policy: EchoPolicy) -> None:
    for seq, (name, (kind, payload, pattern)) in enumerate(REFUSED.items()):
        send(client, kind, payload, seq=seq)
        answer = receive(client)
        assert answer["type"] == "error", name
        assert re.search(pattern, answer["payload"]["error"]), f"{name}: {answer}"
    assert not policy.asked
    send(client, "observation", observation())
    actions_of(receive(client))


def test_what_is_no_frame_is_refused(client: ClientConnection) -> None:
    object_array = {"__ndarray__": True, "data": b"cos\nsystem\n.", "dtype": "|O", "shape": [1]}
    frames: list[bytes | str] = [
        b"",
        b"\xc1",
        b"\x80",
        b"\x80\x05cos\nsystem\n.",
        "text",
        pack({"type": "hello"}, keys="text"),
        pack({"type": 3, "payload": {}, "seq": 1, "timestamp": 0.0}, keys="text"),
        pack({"type": "hello", "payload": {}, "seq": "1", "timestamp": 0.0}, keys="text"),
        pack({"type": "observation", "payload": {"states": object_array}, "seq": 1, "timestamp": 0.0}, keys="text"),
    ]
    extension = msgpack.packb({"type": "hello", "payload": msgpack.ExtType(1, b"x"), "seq": 1, "timestamp": 0.0})
    assert extension is not None
    frames.append(extension)
    for frame in frames:
        client.send(frame)
        assert receive(client)["type"] == "error", frame
    send(client, "hello", {"protocol_version": 1})
    assert receive(client)["type"] == "hello"


def test_an_error_of_the_client_is_no_question(client: ClientConnection) -> None:
    send(client, "error", {"error": "the simulator fell over"})
    send(client, "hello", {"protocol_version": 1})
    assert receive(client)["type"] == "hello"


def test_sessions_do_not_share_a_chunk(client: ClientConnection, address: str) -> None:
    with connect(address, compression=None) as other:
        for connection, state in ((client, STATE), (other, STATE + 5)):
            send(connection, "observation", observation(state))
            np.testing.assert_array_equal(actions_of(receive(connection)), expected_actions(state)[0])
        for connection, state in ((client, STATE), (other, STATE + 5)):
            send(connection, "observation", observation(state))
            np.testing.assert_array_equal(actions_of(receive(connection)), expected_actions(state)[1])


def test_what_is_under_way_when_the_server_ends_is_answered(policy: EchoPolicy) -> None:
    with (
        BackgroundServer(policy, {VlaEvalDialect(): 0}) as server,
        connect(server.address("vla_eval"), compression=None) as client,
    ):
        policy.is_open.clear()
        send(client, "observation", observation(), seq=5)
        send(client, "hello", {"protocol_version": 1})
        assert receive(client)["type"] == "hello"  # so the observation has been read
        ending = threading.Thread(target=server.stop)
        ending.start()
        policy.is_open.set()
        answer = receive(client)
        assert answer["seq"] == 5
        np.testing.assert_array_equal(actions_of(answer), expected_actions(STATE)[0])
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=PATIENCE_S)
        ending.join(PATIENCE_S)
        assert client.close_code == 1001


def test_a_client_that_leaves_takes_its_question_along(policy: EchoPolicy) -> None:
    with BackgroundServer(policy, {VlaEvalDialect(): 0}) as server:
        policy.is_open.clear()
        with connect(server.address("vla_eval"), compression=None) as client:
            send(client, "observation", observation())
            send(client, "hello", {"protocol_version": 1})
            assert receive(client)["type"] == "hello"
            assert server.service.num_open == 1
        give_up_s = time.monotonic() + PATIENCE_S
        while server.service.num_open:  # although the policy is still at it
            assert time.monotonic() < give_up_s
            time.sleep(0.001)
        policy.is_open.set()


def test_health(address: str) -> None:
    with urllib.request.urlopen(address.replace("ws://", "http://") + "/health", timeout=PATIENCE_S) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        assert json.load(answer)["status"] == "ok"


def test_specs_of_the_released_robots() -> None:
    formats = {
        robot: [part["format"] for part in action_spec(released_embodiment(robot)).values()]
        for robot in ("libero_all", "calvin_abcd_orig", "bridge_delta")
    }
    assert formats == {
        "libero_all": ["delta_xyz", "axis_angle", "binary_close_positive"],
        "calvin_abcd_orig": ["delta_xyz", "euler_xyz", "binary_close_negative"],
        "bridge_delta": ["delta_xyz", "euler_xyz", "continuous_01"],
    }
    libero = released_embodiment("libero_all")
    assert sum(part["dims"] for part in action_spec(libero).values()) == libero.action_dim
    spec = observation_spec(libero, {"agentview": "base"})
    assert list(spec) == ["agentview", "language", "state"]
    assert spec["state"]["dims"] == 8
    assert observation_params(released_embodiment("bridge_delta")) == {"send_state": True, "send_wrist_image": False}


def test_a_wrong_execute_horizon() -> None:
    with pytest.raises(ValueError, match="execute_horizon must be 1 or more"):
        VlaEvalDialect(execute_horizon=0)
