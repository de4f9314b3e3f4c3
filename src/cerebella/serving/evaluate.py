"""Queries through a policy, so that one bad query cannot spoil the others."""

from collections.abc import Callable, Sequence
from typing import cast

from cerebella.interfaces import Guidance, Policy
from cerebella.serving.query import Query
from cerebella.types import ActionChunk, FloatArray, Observation

InferBatch = Callable[[list[Observation], list[FloatArray]], list[ActionChunk]]
InferGuidedBatch = Callable[[list[Observation], list[Guidance]], list[ActionChunk]]


def evaluate(policy: Policy, queries: Sequence[Query]) -> list[ActionChunk | Exception]:
    """One chunk, or what the policy raised, per query. If a batch fails, each query is tried alone.

    Args:
        policy: its `infer_batch` and `infer_guided_batch` are used where it has them.
        queries: all guided or none.
    """
    try:
        chunks = _infer(policy, queries)
        if len(chunks) != len(queries):
            raise TypeError(f"the policy returned {len(chunks)} chunks for {len(queries)} observations")
        if foreign := [chunk for chunk in chunks if not isinstance(chunk, ActionChunk)]:
            raise TypeError(f"the policy returned a {type(foreign[0]).__name__}, not an ActionChunk")
    except Exception as error:  # the boundary to a foreign policy: whatever it raises becomes an answer, and is logged
        if len(queries) > 1:
            return [outcome for query in queries for outcome in evaluate(policy, [query])]
        return [error]
    return list(chunks)


def _infer(policy: Policy, queries: Sequence[Query]) -> Sequence[ActionChunk]:
    observations = [query.observation for query in queries]
    guidances = [query.guidance for query in queries if query.guidance is not None]
    if guidances:
        assert len(guidances) == len(queries)
        guided_batch = cast(InferGuidedBatch | None, getattr(policy, "infer_guided_batch", None))
        if guided_batch is not None:
            return guided_batch(observations, guidances)
        guided = cast(Callable[[Observation, Guidance], ActionChunk] | None, getattr(policy, "infer_guided", None))
        if guided is None:
            raise ValueError(f"policy {policy.metadata.policy_id} cannot be guided at inference time")
        return [guided(*pair) for pair in zip(observations, guidances, strict=True)]
    prefixes = [query.action_prefix for query in queries]
    infer_batch = cast(InferBatch | None, getattr(policy, "infer_batch", None))
    if infer_batch is not None:
        return infer_batch(observations, prefixes)
    return [policy.infer(*pair) for pair in zip(observations, prefixes, strict=True)]
