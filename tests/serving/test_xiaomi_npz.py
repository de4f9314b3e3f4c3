import io
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cerebella.serving.background import BackgroundServer
from cerebella.serving.npz import pack_npz, unpack_npz
from cerebella.serving.server import ServerConfig
from cerebella.serving.xiaomi_npz import XiaomiNpzDialect

from .echo import HORIZON, PATIENCE_S, PIXELS, STATE, EchoPolicy, SocketClient, expected_actions

PREFIX = np.arange(21, dtype=np.float32).reshape(3, 7)


@pytest.fixture
def policy() -> EchoPolicy:
    return EchoPolicy()


@pytest.fixture
def client(policy: EchoPolicy) -> Iterator[SocketClient]:
    with BackgroundServer(policy, {XiaomiNpzDialect(): 0}, ServerConfig(max_message_bytes=1 << 20)) as server:
        policy.asked.clear()
        with SocketClient(server.address("xiaomi_npz")) as client:
            yield client


def request(**changes: Any) -> dict[str, Any]:
    arrays = {"state": STATE, "prompt": "Go.", "image/base": PIXELS, "image/left_wrist": PIXELS + 1, **changes}
    return {name: np.asarray(array) for name, array in arrays.items() if array is not None}


def ask(client: SocketClient, message: bytes) -> dict[str, np.ndarray]:
    client.send(message)
    answer = client.receive()
    assert answer is not None, "the connection was ended"
    with np.load(io.BytesIO(answer), allow_pickle=False) as archive:  # as the released clients read it
        return dict(archive)


def test_a_chunk_for_what_was_seen(client: SocketClient, policy: EchoPolicy) -> None:
    answer = ask(client, pack_npz(request()))
    assert answer.keys() == {"actions", "action"}
    for name in ("actions", "action"):
        assert answer[name].dtype == np.float32
        np.testing.assert_array_equal(answer[name], expected_actions(STATE)[None])
    observation, prefix = policy.asked[0]
    np.testing.assert_array_equal(observation.images["base"], PIXELS)
    np.testing.assert_array_equal(observation.images["left_wrist"], PIXELS + 1)
    assert (observation.prompt, observation.tick, len(prefix)) == ("Go.", 0, 0)


def test_ticks_are_counted_or_named(client: SocketClient, policy: EchoPolicy) -> None:
    for changes in ({}, {}, {"tick": 40}, {}):
        ask(client, pack_npz(request(**changes)))
    assert [observation.tick for observation, _ in policy.asked] == [0, 1, 40, 3]


@pytest.mark.parametrize("has_batch_axis", [False, True])
def test_a_padded_prefix(client: SocketClient, policy: EchoPolicy, has_batch_axis: bool) -> None:
    padded = np.zeros((30, 7), dtype=np.float32)
    padded[:3] = PREFIX
    action = padded[None] if has_batch_axis else padded
    answer = ask(client, pack_npz(request(action=action, prefix_length=3)))
    np.testing.assert_array_equal(policy.asked[0][1], PREFIX)
    np.testing.assert_array_equal(answer["actions"][0, :3], PREFIX)


def test_shapes_and_types_of_released_clients(client: SocketClient) -> None:
    """State as [1, 1, n] in float64, the seed as a number, compressed archives."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, **request(state=STATE.astype(np.float64).reshape(1, 1, 8), seed=2**32 - 1, task_id="libero_all")
    )
    np.testing.assert_array_equal(ask(client, buffer.getvalue())["actions"], expected_actions(STATE)[None])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no state": ({"state": None}, "'state'"),
    "no prompt": ({"prompt": None}, "'prompt'"),
    "a state of another length": ({"state": np.zeros(7)}, r"float32\[8\]"),
    "a state that is text": ({"state": "here"}, "state must be"),
    "a state that is not finite": ({"state": np.full(8, np.nan)}, "finite"),
    "a state beyond float32": ({"state": np.full(8, 1e300)}, "finite"),
    "a prompt that is a number": ({"prompt": 3}, "prompt must be one text"),
    "two prompts": ({"prompt": np.array(["a", "b"])}, "prompt must be one text"),
    "half of a surrogate pair": ({"prompt": np.array("\ud800")}, "prompt is not text"),
    "a prompt without an end": ({"prompt": "x" * 20_000}, "at most"),
    "a missing view": ({"image/left_wrist": None}, "left_wrist"),
    "an unknown view": ({"image/left_foot": PIXELS}, "left_foot"),
    "a picture of floats": ({"image/base": PIXELS / 255}, "uint8"),
    "a grey picture": ({"image/base": PIXELS[:, :, 0]}, "uint8"),
    "another robot": ({"task_id": "bridge_delta"}, "libero_all"),
    "tokens": ({"input_ids": np.arange(9)}, "tokenises by itself"),
    "an unknown key": ({"stat": STATE}, "'stat'"),
    "a prefix without its length": ({"action": PREFIX}, "prefix_length"),
    "a length without its prefix": ({"prefix_length": 2}, "'action'"),
    "a prefix of another width": ({"action": np.zeros((3, 60)), "prefix_length": 3}, "7"),
    "a length beyond the prefix": ({"action": PREFIX, "prefix_length": 4}, "4"),
    "a negative length": ({"action": PREFIX, "prefix_length": -1}, "prefix_length"),
    "a prefix as long as the chunk": ({"action": np.zeros((HORIZON, 7)), "prefix_length": HORIZON}, f"{HORIZON}"),
    "a prefix that is not finite": ({"action": np.full((3, 7), np.inf), "prefix_length": 3}, "finite"),
    "a negative tick": ({"tick": -1}, "tick"),
    "a tick that is no integer": ({"tick": 1.5}, "tick"),
}


def test_refusals_name_the_fault_and_the_connection_goes_on(client: SocketClient, policy: EchoPolicy) -> None:
    for name, (changes, message) in REFUSED.items():
        answer = ask(client, pack_npz(request(**changes)))
        assert answer.keys() == {"error"}, name
        assert re.search(message, str(answer["error"])), f"{name}: {answer['error']}"
    for message in (b"", b"PK\x03\x04", b"\x80\x05cos\nsystem\n."):
        assert "NPZ archive" in str(ask(client, message)["error"])
    assert not policy.asked
    assert "actions" in ask(client, pack_npz(request()))


def test_a_message_beyond_the_cap_ends_the_connection(client: SocketClient) -> None:
    client.socket.sendall((2 << 20).to_bytes(4, "big"))
    assert client.receive() is None


def test_a_client_that_leaves_in_the_middle(client: SocketClient, policy: EchoPolicy) -> None:
    address = "tcp://{}:{}".format(*client.socket.getpeername())
    policy.is_open.clear()
    with SocketClient(address) as second:
        second.send(pack_npz(request()))
    with SocketClient(address) as third:
        third.socket.sendall(b"\x00\x00\x10\x00half")
    policy.is_open.set()
    give_up_s = time.monotonic() + PATIENCE_S
    answer = ask(client, pack_npz(request()))
    assert "actions" in answer
    assert time.monotonic() < give_up_s


def test_our_own_reader_takes_our_answers(client: SocketClient) -> None:
    client.send(pack_npz(request()))
    answer = client.receive()
    assert answer is not None
    assert unpack_npz(answer, 1 << 20)["actions"].shape == (1, HORIZON, 7)
