"""The nouns refuse what they cannot carry, where it arises, with a sentence that names it."""

from typing import Any

import numpy as np
import pytest

from cerebella.types import Action, ActionChunk, Conversation, Observation, Sample, SceneTruth

IMAGE = np.zeros((64, 96, 3), dtype=np.uint8)
NAN = float("nan")


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)


def make_observation(**changed: Any) -> Observation:
    return Observation(
        **{"state": zeros(4), "prompt": "pick it", "tick": 0, "timestamp_s": 0.0, "images": {"base": IMAGE}, **changed}
    )


def make_chunk(**changed: Any) -> ActionChunk:
    fields = {"start_tick": 0, "observation_tick": 0, "prefix_length": 0, "policy_id": "p", "duration_s": 0.0}
    return ActionChunk(**{"actions": zeros(8, 3), **fields, **changed})


def make_sample(**changed: Any) -> Sample:
    fields = {"state": zeros(4), "prompt": "pick it", "robot_type": "conveyor", "control_mode": "end_effector"}
    arrays = {"images": {"base": IMAGE}, "actions": zeros(8, 3), "is_valid": np.ones((8, 3), dtype=np.bool_)}
    return Sample(**{**fields, **arrays, **changed})


def make_conversation(**changed: Any) -> Conversation:
    turns = (("user", "<image><image> same?"), ("assistant", "yes"), ("user", "sure?"), ("assistant", "no"))
    return Conversation(**{"images": (IMAGE, IMAGE), "turns": turns, "source": "a.jsonl, line 3", **changed})


def make_truth(**changed: Any) -> SceneTruth:
    kinds, targets = np.zeros((2, 5), dtype=np.int64), np.zeros(2, dtype=np.int64)
    fields = {"is_present": np.ones((2, 5), dtype=np.bool_), "class_index": kinds, "target_index": targets}
    return SceneTruth(**{**fields, "pixel": zeros(2, 5, 2), "num_classes": 3, **changed})


@pytest.mark.parametrize(
    ("make", "changed", "said"),
    [
        (make_observation, {"state": zeros(1, 4)}, r"state must be float32\[state_dim\]; got float32\[1, 4\]"),
        (make_observation, {"state": np.zeros(4)}, r"got float64\[4\]"),
        (make_observation, {"state": [0.0, 0.0]}, "got a list"),
        (make_observation, {"state": np.array([0, NAN], dtype=np.float32)}, r"holds nan at index \[1\]"),
        (make_observation, {"images": {"front": IMAGE}}, "view 'front'; known views: base, ego"),
        (make_observation, {"images": {"base": IMAGE[..., 0]}}, r"uint8\[h, w, 3\] .*; got uint8\[64, 96\]"),
        (make_observation, {"images": {"base": IMAGE[:0]}}, r"got uint8\[0, 96, 3\]"),
        (make_observation, {"images": [IMAGE]}, "must map views to pictures; got a list"),
        (make_observation, {"tick": 0.5}, "tick must be an integer .*; got 0.5"),
        (make_observation, {"tick": -1}, "tick must be 0 or more .*; got -1"),
        (make_observation, {"timestamp_s": NAN}, "timestamp_s must be finite seconds; got nan"),
        (make_observation, {"prompt": None}, "prompt must be text; got None"),
        (make_observation, {"tactile": {"left": zeros(11, 8)}}, r"newtons\) must be float32\[11, 9\]"),
        (make_chunk, {"actions": np.full((8, 3), np.inf, dtype=np.float32)}, r"holds inf at index \[0, 0\]"),
        (make_chunk, {"actions": zeros(0, 3)}, "must not be empty"),
        (make_chunk, {"prefix_length": 8}, r"must be in 0..7 \(rows\); got 8"),
        (make_chunk, {"start_tick": 1.0}, "start_tick must be an integer"),
        (make_chunk, {"duration_s": NAN}, "duration_s must be 0 s or more; got nan"),
        (make_sample, {"images": {"front": IMAGE}}, "Sample.images has the view 'front'"),
        (make_sample, {"is_valid": np.ones((8, 2), dtype=np.bool_)}, r"bool\[8, 3\] like actions; got bool\[8, 2\]"),
        (make_sample, {"num_committed": 8}, "in 0..7 rows; got 8"),
        (make_conversation, {"images": (IMAGE,)}, "a.jsonl, line 3: 1 pictures, but 2 times <image>"),
        (make_conversation, {"images": (IMAGE, zeros(4, 4, 3))}, r"images\[1\] must be uint8\[h, w, 3\]"),
        (make_conversation, {"turns": ()}, "pairs of user and assistant; got 0 turns"),
        (make_conversation, {"turns": (("user", "hi"),)}, "pairs of user and assistant; got 1 turns"),
        (make_conversation, {"turns": (("assistant", "hi"), ("user", "hi"))}, "turn 0 must be of the user; got"),
        (make_conversation, {"turns": (("user", "hi"), ("assistant", " "))}, r"turn 1 \(assistant\) must have a text"),
        (make_conversation, {"turns": (("user", "hi"), ("assistant", "<image>"))}, "turn 1 is an answer and holds"),
        (make_truth, {"is_present": zeros(2, 5)}, r"must be bool\[n, num_objects\]; got float32\[2, 5\]"),
        (make_truth, {"pixel": zeros(2, 5)}, r"pixel must be float32\[2, 5, 2\]"),
        (make_truth, {"target_index": np.full(2, 5, dtype=np.int64)}, r"target_index must lie in 0..4; got 5..5"),
        (make_truth, {"num_classes": 0}, "class_index must lie in"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, changed: dict[str, Any], said: str) -> None:
    make()
    with pytest.raises(ValueError, match=said):
        make(**changed)


def test_numpy_integers_are_ticks() -> None:
    assert Action(zeros(3), np.int32(7)).tick == 7  # pyright: ignore[reportArgumentType]
