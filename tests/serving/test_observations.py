"""Names of openpi, ours and wrong ones."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.serving.arrays import unpack
from cerebella.serving.errors import WireError
from cerebella.serving.exchange import request_message
from cerebella.serving.observations import OBSERVATION_KEYS, REQUEST_KEYS, check_keys, read_query
from cerebella.serving.query import Query
from cerebella.types import Observation
from tests.runtime.tagged import make_metadata

from .gate import HORIZON, guided_metadata, with_views

STATE = np.arange(4, dtype=np.float32)
BLACK = np.zeros((4, 6, 3), dtype=np.uint8)
GREY = np.full((4, 6, 3), 128, dtype=np.uint8)
PREFIX = np.ones((3, 4), dtype=np.float32)


def read(metadata: PolicyMetadata | None = None, /, **fields: Any) -> Query:
    named = {"state": STATE, "prompt": "go"} | {key.replace("__", "/"): value for key, value in fields.items()}
    named = {key: value for key, value in named.items() if value is not None}
    return read_query(named, metadata or make_metadata(HORIZON, 4), now_s=5.0)


def robot(*views: str) -> PolicyMetadata:
    return make_metadata(HORIZON, 4, with_views(*views))


def test_the_least_that_is_needed() -> None:
    query = read()
    assert np.array_equal(query.observation.state, STATE)
    assert (query.observation.prompt, query.observation.tick, query.observation.timestamp_s) == ("go", 0, 5.0)
    assert query.action_prefix.shape == (0, 4)
    assert query.guidance is None
    assert query.deadline_s == np.inf


def test_everything_natively() -> None:
    touch = np.ones((11, 9), dtype=np.float32)
    query = read(
        robot("base", "left_wrist"),
        images={"base": BLACK},
        images__left_wrist=GREY,
        tick=7,
        timestamp_s=1.5,
        tactile={"thumb": touch},
        prefix_actions=PREFIX,
        prefix_length=2,
        promised_delay=3,
        deadline_ms=250,
    )
    assert query.observation.images["base"] is BLACK
    assert query.observation.images["left_wrist"] is GREY
    assert np.array_equal(query.observation.tactile["thumb"], touch)
    assert (query.observation.tick, query.observation.timestamp_s, query.deadline_s) == (7, 1.5, 0.25)
    assert np.array_equal(query.action_prefix, PREFIX[:2])


@pytest.mark.parametrize(
    ("views", "scene", "wrist"),
    [
        (("base", "left_wrist"), "base", "left_wrist"),
        (("left_wrist", "ego"), "ego", "left_wrist"),
        (("base", "right_wrist"), "base", "right_wrist"),
    ],
)
def test_names_of_openpis_libero_client(views: tuple[str, ...], scene: str, wrist: str) -> None:
    query = read(
        robot(*views), state=None, observation__state=STATE, observation__image=BLACK, observation__wrist_image=GREY
    )
    assert query.observation.images[scene] is BLACK
    assert query.observation.images[wrist] is GREY
    assert np.array_equal(query.observation.state, STATE)


def test_names_of_openpis_droid_client() -> None:
    query = read(
        robot("base", "left_wrist"),
        state=None,
        prompt=b"go",
        observation__exterior_image_1_left=BLACK,
        observation__wrist_image_left=GREY,
        observation__joint_position=np.array([0.0, 1.0, 2.0]),
        observation__gripper_position=np.array(3.0),
    )
    assert np.array_equal(query.observation.state, STATE)
    assert query.observation.state.dtype == np.float32
    assert query.observation.images["left_wrist"] is GREY
    assert query.observation.prompt == "go"


@pytest.mark.parametrize("state", [[0, 1, 2, 3], np.arange(4), np.arange(4.0), np.arange(4, dtype=np.float16)])
def test_a_state_may_be_any_numbers(state: Any) -> None:
    assert np.array_equal(read(state=state).observation.state, STATE)


def test_guidance() -> None:
    guidance = read(guided_metadata(), guidance={"plan": PREFIX, "num_frozen": 2, "execute_horizon": 4}).guidance
    assert guidance is not None
    assert np.array_equal(guidance.plan, PREFIX)
    assert (guidance.num_frozen, guidance.execute_horizon, guidance.use_jacobian, guidance.num_candidates) == (
        2,
        4,
        True,
        0,
    )


@pytest.mark.parametrize(
    "sent",
    [Guidance(PREFIX, 1, 4, num_candidates=16), Guidance(PREFIX, 0, 2, use_jacobian=False), Guidance(PREFIX, 3, 1)],
)
def test_what_a_client_writes_about_guidance_is_what_a_server_reads(sent: Guidance) -> None:
    observation = Observation(STATE, "go", 3, 0.1)
    fields = unpack(request_message(1, observation, PREFIX[:0], guidance=sent))
    assert ("num_candidates" in fields["guidance"]) == (sent.num_candidates > 0), "older servers know no such key"
    guidance = read(guided_metadata(), guidance=fields["guidance"]).guidance
    assert guidance is not None
    assert np.array_equal(guidance.plan, sent.plan)
    assert replace(guidance, plan=sent.plan).__dict__ == sent.__dict__


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": None}, "needs the state once"),
        ({"observation__state": STATE}, "needs the state once"),
        ({"state": STATE[:3]}, r"state must be float32\[4\]"),
        ({"state": STATE[None]}, "1 axes"),
        ({"state": np.array([0, 1, 2, np.nan])}, "finite"),
        ({"state": np.array([0, 1, 2, 1e300])}, "finite"),
        ({"state": [0, 1, 2, "3"]}, "array of numbers"),
        ({"state": [0, 1, 2, 1 << 80]}, "array of numbers"),
        ({"state": [0, 1, [2], 3]}, "must be numbers"),
        ({"state": np.array([True] * 4)}, "array of numbers"),
        ({"state": "0123"}, "array of numbers"),
        ({"prompt": None}, "prompt must be text"),
        ({"prompt": 3}, "prompt must be text"),
        ({"prompt": b"\xff"}, "utf-8"),
        ({"prompt": "x" * 10_000}, "8192 characters"),
        ({"tick": -1}, "tick must be"),
        ({"tick": 1.5}, "tick must be"),
        ({"tick": True}, "tick must be"),
        ({"timestamp_s": "now"}, "timestamp_s must be"),
        ({"timestamp_s": float("inf")}, "timestamp_s must be"),
        ({"tactile": {"thumb": np.ones((2, 2))}}, "tactile"),
        ({"tactile": 3}, "tactile"),
        ({"prefix_actions": PREFIX[:, :3]}, "actions must be"),
        ({"prefix_actions": PREFIX[0]}, "2 axes"),
        ({"prefix_actions": PREFIX * np.inf}, "finite"),
        ({"prefix_actions": np.ones((HORIZON, 4))}, f"at most {HORIZON - 1}"),
        ({"prefix_actions": PREFIX, "prefix_length": 4}, "has 3 rows"),
        ({"prefix_length": 1}, "has 0 rows"),
        ({"promised_delay": -1}, "promised_delay"),
        ({"deadline_ms": -1}, "deadline_ms"),
        ({"deadline_ms": float("nan")}, "deadline_ms"),
        ({"guidance": {"plan": PREFIX, "num_frozen": 1, "execute_horizon": 4}}, "cannot be guided"),
        ({"images": {"base": BLACK}}, "the policy's views: none"),
    ],
)
def test_what_a_policy_could_not_use_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(WireError, match=words):
        read(**fields)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({}, "'base' is missing"),
        ({"images": [BLACK]}, "must be a map"),
        ({"images": {"base": BLACK, "front": BLACK}}, "view 'front'"),
        ({"images": {"base": BLACK}, "images__base": GREY}, "two pictures"),
        ({"images": {"base": BLACK}, "observation__image": GREY}, "two pictures"),
        ({"images": {"base": BLACK}, "observation__wrist_image": GREY}, "view 'None'"),
        ({"images": {"base": BLACK.astype(np.float32)}}, "uint8"),
        ({"images": {"base": BLACK.transpose(2, 0, 1)}}, "uint8"),
        ({"images": {"base": BLACK[:, :0]}}, "uint8"),
        ({"images": {"base": b"png"}}, "uint8"),
    ],
)
def test_pictures_must_be_the_ones_that_the_policy_knows(images: dict[str, Any], words: str) -> None:
    with pytest.raises(WireError, match=words):
        read(robot("base"), **images)


@pytest.mark.parametrize(
    ("guidance", "words"),
    [
        (3, "must be a map"),
        ({"plan": PREFIX}, "needs plan, num_frozen and execute_horizon"),
        ({"plan": PREFIX, "num_frozen": 4, "execute_horizon": 4}, "num_frozen must be"),
        ({"plan": PREFIX, "num_frozen": 1, "execute_horizon": 0}, "execute_horizon must be"),
        ({"plan": PREFIX[:0], "num_frozen": 0, "execute_horizon": 1}, "plan must be"),
        ({"plan": PREFIX * np.nan, "num_frozen": 1, "execute_horizon": 4}, "finite"),
        ({"plan": np.ones((HORIZON + 1, 4)), "num_frozen": 1, "execute_horizon": 4}, f"at most {HORIZON} rows"),
        ({"plan": PREFIX, "num_frozen": 1, "execute_horizon": 4, "use_jacobian": 1}, "use_jacobian"),
        (
            {"plan": PREFIX, "num_frozen": 1, "execute_horizon": 4, "num_candidates": 65},
            r"num_candidates must be in 0\.\.64",
        ),
        (
            {"plan": PREFIX, "num_frozen": 1, "execute_horizon": 4, "num_candidates": 2.0},
            "num_candidates must be an integer",
        ),
        ({"plan": PREFIX, "num_frozen": 1, "execute_horizon": 4, "weight": 1}, "unknown key 'weight'"),
    ],
)
def test_wrong_guidance_is_refused(guidance: Any, words: str) -> None:
    with pytest.raises(WireError, match=words):
        read(guided_metadata(), guidance=guidance)


def test_guidance_and_a_prefix_exclude_each_other() -> None:
    guidance = {"plan": PREFIX, "num_frozen": 1, "execute_horizon": 4}
    with pytest.raises(WireError, match="not both"):
        read(guided_metadata(), guidance=guidance, prefix_actions=PREFIX)


def test_a_key_that_nobody_would_read_is_refused() -> None:
    known = (*OBSERVATION_KEYS, *REQUEST_KEYS)
    check_keys({"state": 1, "images/base": 2, "prefix_actions": 3}, known)
    with pytest.raises(WireError, match="unknown key 'prefix_action'; known: images, state"):
        check_keys({"prefix_action": 1}, known)
    with pytest.raises(WireError, match="unknown key"):
        check_keys({b"state": 1}, known)
