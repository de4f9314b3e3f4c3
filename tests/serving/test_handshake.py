"""What a server says about itself, and what a client makes of it."""

import dataclasses
from typing import Any

import pytest

from cerebella.serving.arrays import pack, unpack
from cerebella.serving.errors import WireError
from cerebella.serving.handshake import Handshake, describe, read_handshake
from tests.runtime.tagged import make_metadata

from .gate import HORIZON, guided_metadata, with_views


def frame(**changes: Any) -> dict[str, Any]:
    fields = unpack(pack(describe(make_metadata(HORIZON, 4), "start-1"))) | changes
    return {key: value for key, value in fields.items() if value != "left out"}


def test_it_comes_back_over_the_wire() -> None:
    handshake = read_handshake(frame())
    assert handshake == Handshake(make_metadata(HORIZON, 4), "start-1")
    assert read_handshake(unpack(pack(describe(guided_metadata(), "x")))).metadata == guided_metadata()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "left out"}, "another kind of server"),
        ({"protocol_version": 2}, "speaks version 2"),
        ({"embodiment": 3}, "no embodiment"),
        ({"embodiment": {"name": "x"}}, "missing"),
        ({"policy_id": "left out"}, "no valid policy_id"),
        ({"horizon": "8"}, "no valid horizon"),
        ({"horizon": 0}, "do not fit"),
        ({"max_trained_prefix": 8}, "do not fit"),
        ({"mask_variant": 3}, "no valid mask_variant"),
        ({"supports_guidance": "yes"}, "no valid supports_guidance"),
    ],
)
def test_a_wrong_first_frame_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(WireError, match=words):
        read_handshake(frame(**changes))


@pytest.mark.parametrize("fields", [None, "text", [], {}])
def test_another_kind_of_server_is_recognised(fields: Any) -> None:
    with pytest.raises(WireError, match="another kind of server"):
        read_handshake(fields)


def test_differences_are_named() -> None:
    first = Handshake(make_metadata(HORIZON, 4), "start-1")
    assert first.differences(Handshake(make_metadata(HORIZON, 4), "start-2")) == []
    other = dataclasses.replace(make_metadata(HORIZON + 1, 4, with_views("base")), policy_id="new@1")
    assert first.differences(Handshake(other, "start-1")) == [
        "policy_id was tagged, is new@1",
        "horizon was 8, is 9",
        "embodiment was tagged (4 actions), is tagged (4 actions)",
    ]
