"""What a model sampled, decoded, as chunks: the same for every policy with a model."""

import time
from collections.abc import Sequence

from cerebella.types import ActionChunk, FloatArray, Observation


def as_chunks(
    actions: FloatArray,
    observations: Sequence[Observation],
    action_prefixes: Sequence[FloatArray],
    policy_id: str,
    started_s: float,
) -> list[ActionChunk]:
    """Chunks that begin with their prefix bit by bit (a model carries it unchanged; decoding would only add rounding).

    Args:
        actions: float32[n, H, action_dim], decoded; written into.
        started_s: `time.perf_counter()` when the inference began.

    Raises:
        ValueError: a number that is not finite (it never becomes a chunk).
    """
    duration_s = time.perf_counter() - started_s
    chunks: list[ActionChunk] = []
    for rows, observation, prefix in zip(actions, observations, action_prefixes, strict=True):
        rows[: len(prefix)] = prefix
        chunks.append(
            ActionChunk(
                actions=rows,
                start_tick=observation.tick,
                observation_tick=observation.tick,
                prefix_length=len(prefix),
                policy_id=policy_id,
                duration_s=duration_s,
            )
        )
    return chunks
