"""`VLAPolicy`: a processor and a VLA as a `Policy`. This is the readable path; the fast engine will stand beside it."""

import hashlib
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cerebella.interfaces import PolicyMetadata
from cerebella.models.vla import VLA
from cerebella.processing.processor import Processor
from cerebella.types import ActionChunk, FloatArray, Observation


class VLAPolicy:
    """Infers chunks; stateless between calls.

    Args:
        model: put into evaluation mode. processor: of the same policy directory.
        metadata: what an executor must know.
        num_flow_steps: Euler steps, 1 or more; None takes the model's own.

    Raises:
        ValueError: fewer than one flow step.
    """

    def __init__(
        self, model: VLA, processor: Processor, metadata: PolicyMetadata, num_flow_steps: int | None = None
    ) -> None:
        if num_flow_steps is not None and num_flow_steps < 1:
            raise ValueError(f"num_flow_steps must be 1 or more; got {num_flow_steps}")
        self.model = model.eval()
        self.processor = processor
        self.metadata = metadata
        self.num_flow_steps = num_flow_steps

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """One chunk; see `Policy.infer`."""
        return self.infer_batch([observation], [action_prefix])[0]

    @torch.inference_mode()
    def infer_batch(
        self, observations: Sequence[Observation], action_prefixes: Sequence[FloatArray]
    ) -> list[ActionChunk]:
        """One chunk per observation in one pass; prefix lengths may differ.

        The initial noise is a function of the observation alone (`noise_seed`), so that the same request always gets
        the same answer, whoever else is in the batch, up to floating-point summation order.

        Raises:
            ValueError: wrong shapes or views, or a model output that is not finite (it never becomes a chunk).
        """
        started_s = time.perf_counter()
        batch = self.processor.encode(observations, action_prefixes)
        assert batch.action_prefix is not None
        noise = torch.stack([self._noise(observation) for observation in observations])
        context = self.model.encode(batch)
        sampled = self.model.sample(
            context,
            state=batch.state,
            noise=noise,
            action_mask=batch.action_mask,
            action_prefix=batch.action_prefix,
            prefix_length=batch.prefix_length,
            num_flow_steps=self.num_flow_steps,
        )
        actions = self.processor.decode(sampled, np.stack([observation.state for observation in observations]))
        duration_s = time.perf_counter() - started_s
        chunks = []
        for rows, observation, prefix in zip(actions, observations, action_prefixes, strict=True):
            # The model carries the prefix unchanged; decoding it again would only add rounding.
            rows[: len(prefix)] = prefix
            chunks.append(
                ActionChunk(
                    actions=rows,
                    start_tick=observation.tick,
                    observation_tick=observation.tick,
                    prefix_length=len(prefix),
                    policy_id=self.metadata.policy_id,
                    duration_s=duration_s,
                )
            )
        return chunks

    def _noise(self, observation: Observation) -> Tensor:
        generator = torch.Generator().manual_seed(noise_seed(observation))
        return torch.randn(self.processor.horizon, self.processor.model_action_dim, generator=generator)


def noise_seed(observation: Observation) -> int:
    """A 32-bit seed from what was observed (state, images, instruction), as the released clients derive theirs.

    The prefix takes no part, so asynchronous and synchronous runs meet the same noise on the same observation.
    """
    digest = hashlib.sha256(observation.prompt.encode())
    digest.update(observation.state.tobytes())
    for view in sorted(observation.images):
        digest.update(view.encode())
        digest.update(observation.images[view].tobytes())
    return int.from_bytes(digest.digest()[:4], "big")
