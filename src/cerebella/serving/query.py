"""What every dialect turns its messages into, and what it gets back."""

import math
from dataclasses import dataclass

from cerebella.interfaces import Guidance
from cerebella.types import ActionChunk, FloatArray, Observation


@dataclass(frozen=True, eq=False)
class Query:
    """One question to the policy.

    Args:
        observation: in the units and views of the policy's embodiment.
        action_prefix: float32[p, action_dim], absolute, raw units; p = 0 for none.
        guidance: for policies that are shown the running plan at inference time; then the prefix is empty.
        deadline_s: the answer is of use within so many seconds from now.
    """

    observation: Observation
    action_prefix: FloatArray
    guidance: Guidance | None = None
    deadline_s: float = math.inf


@dataclass(frozen=True, eq=False)
class Answer:
    """A chunk and how it came about.

    Args:
        chunk: absolute actions.
        infer_s: seconds in the policy, of the whole batch. queue_s: seconds before that.
        batch_size: how many requests were evaluated together.
    """

    chunk: ActionChunk
    infer_s: float
    queue_s: float
    batch_size: int
