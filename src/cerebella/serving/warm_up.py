"""What happens before the first robot may ask: everything is compiled, and every batch size has been timed once."""

import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Policy
from cerebella.serving.batching import ServiceTimes
from cerebella.serving.evaluate import evaluate
from cerebella.serving.query import Query
from cerebella.types import Observation

_SIDE_PX = 224


def warm_up(policy: Policy, max_batch: int, on_progress: Callable[[str], None] = lambda text: None) -> ServiceTimes:
    """Run every batch size from 1 to `max_batch`; how long each takes.

    Calls `policy.warm_up(observation, batch_sizes)` if there is one, then one timed inference per size.

    Raises:
        Exception: what the policy raises.
    """
    observation = blank_observation(policy.metadata.embodiment)
    query = Query(observation, np.zeros((0, policy.metadata.embodiment.action_dim), dtype=np.float32))
    own = cast(Callable[[Observation, Sequence[int]], float] | None, getattr(policy, "warm_up", None))
    sizes = range(1, max_batch + 1)
    if own is not None:
        on_progress(f"warming up batch sizes 1 to {max_batch}")
        own(observation, tuple(sizes))
    law = ServiceTimes()
    for size in sizes:
        started_s = time.monotonic()
        for outcome in evaluate(policy, [query] * size):
            if isinstance(outcome, Exception):
                raise outcome
        law.add(size, time.monotonic() - started_s)
        on_progress(f"batch of {size}: {law(size) * 1e3:.1f} ms")
    return law


def blank_observation(embodiment: Embodiment, tick: int = 0) -> Observation:
    """Black pictures of 224 x 224, every state in the middle of its range, an instruction of a few words."""
    state = np.array([(dimension.low + dimension.high) / 2 for dimension in embodiment.states], dtype=np.float32)
    images = {view: np.zeros((_SIDE_PX, _SIDE_PX, 3), dtype=np.uint8) for view in embodiment.views}
    return Observation(state=state, prompt="do nothing", tick=tick, timestamp_s=0.0, images=images)
