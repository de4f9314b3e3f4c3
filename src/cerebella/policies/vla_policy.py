"""`VLAPolicy`: a processor and a model as a `Policy`; the model is the readable `VLA` or the fast `Engine`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.models.guidance import BETA
from cerebella.models.vla import VLA
from cerebella.policies.answers import as_chunks
from cerebella.policies.engine import Engine
from cerebella.policies.shown_plan import initial_noise, sample_with_plan
from cerebella.processing.motion import Motion
from cerebella.processing.processor import Processor
from cerebella.types import ActionChunk, FloatArray, Observation


@dataclass(frozen=True, eq=False)
class Scene:
    """What the brain made of the pictures and instructions of some observations, kept for re-planning.

    Args:
        model: which encoded it. context: what it made. prompts: the instructions it has read. ticks: when the pictures
            were taken.
    """

    model: VLA | Engine
    context: Any
    prompts: tuple[str, ...]
    ticks: tuple[int, ...]


class VLAPolicy:
    """Infers chunks; stateless between calls.

    Args:
        model: on its device, in its type; put into evaluation mode. processor: of the same policy directory.
        metadata: what an executor must know. Whether guidance is supported is up to the model: the readable one can, the
            engine cannot.
        num_flow_steps: Euler steps, 1 or more; None takes the model's own.
        guidance_beta: the largest gain of a guided sampler, above 0.

    Raises:
        ValueError: fewer than one flow step, or guidance_beta not above 0.
    """

    def __init__(
        self,
        model: VLA | Engine,
        processor: Processor,
        metadata: PolicyMetadata,
        num_flow_steps: int | None = None,
        guidance_beta: float = BETA,
    ) -> None:
        if num_flow_steps is not None and (not isinstance(num_flow_steps, int) or num_flow_steps < 1):
            raise ValueError(f"num_flow_steps must be an integer of 1 or more; got {num_flow_steps!r}")
        if not guidance_beta > 0:
            raise ValueError(f"guidance_beta must be above 0; got {guidance_beta}")
        self.model = model.eval() if isinstance(model, VLA) else model
        self.processor = processor
        self.metadata = replace(metadata, supports_guidance=isinstance(model, VLA))
        self.num_flow_steps = num_flow_steps
        self.guidance_beta = guidance_beta

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device if isinstance(self.model, Engine) else self.model.cerebellum.sink.weight.device

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """One chunk; see `Policy.infer`."""
        return self.infer_batch([observation], [action_prefix])[0]

    @torch.inference_mode()
    def infer_batch(
        self, observations: Sequence[Observation], action_prefixes: Sequence[FloatArray]
    ) -> list[ActionChunk]:
        """One chunk per observation in one pass; prefix lengths may differ.

        The initial noise is a function of the observation alone (`initial_noise`), so that the same request always gets
        the same answer, whoever else is in the batch, up to floating-point summation order.

        Raises:
            ValueError: wrong shapes or views, or a model output that is not finite (it never becomes a chunk).
        """
        started_s = time.perf_counter()
        batch = self.processor.encode(observations, action_prefixes)
        assert batch.action_prefix is not None
        assert batch.prefix_length is not None
        motion = Motion(batch.state, batch.action_mask, batch.action_prefix, batch.prefix_length)
        return self._act(self._encode(batch), motion, observations, action_prefixes, started_s)

    def infer_guided(self, observation: Observation, guidance: Guidance) -> ActionChunk:
        """One chunk; see `infer_guided_batch`."""
        return self.infer_guided_batch([observation], [guidance])[0]

    @torch.inference_mode(False)
    @torch.no_grad()
    def infer_guided_batch(
        self, observations: Sequence[Observation], guidances: Sequence[Guidance]
    ) -> list[ActionChunk]:
        """One chunk per observation, each pulled towards its running plan (`models.guidance`, soft weights) in one pass,
        or the nearest to it of several that are drawn without it (`shown_plan`).

        A plan is pulled at, not copied: also its frozen rows come out only near to what was sent. So a chunk says
        `prefix_length` 0, and whoever runs it takes over behind the frozen rows. Noise as in `infer_batch`; the first of
        several candidates is what `infer_batch` answers without a prefix.

        Args:
            guidances: one per observation; they may differ in everything.

        Raises:
            ValueError: the model is an engine; as `infer_batch`; a plan or execute horizon longer than the chunk.
        """
        started_s = time.perf_counter()
        if not isinstance(self.model, VLA):
            raise ValueError(
                f"guidance needs gradients, which {type(self.model).__name__} does not keep: load the policy with "
                'engine="readable"'
            )
        nothing = [np.empty((0, self.metadata.embodiment.action_dim), dtype=np.float32)] * len(observations)
        batch = self.processor.encode(observations, nothing)
        plan = self.processor.encode_plans(observations, [guidance.plan for guidance in guidances])
        sampled = sample_with_plan(
            self.model,
            self._encode(batch),
            state=batch.state.to(self.device),
            action_mask=batch.action_mask.to(self.device),
            plan=plan.to(self.device),
            observations=observations,
            guidances=guidances,
            beta=self.guidance_beta,
            num_flow_steps=self.num_flow_steps,
        )
        return self._chunks(sampled, observations, nothing, started_s)

    @torch.inference_mode()
    def encode(self, observations: Sequence[Observation]) -> Scene:
        """Look and read once, without acting: the costly half of `infer_batch`, to be followed by any number of `act`."""
        nothing = np.empty((0, self.metadata.embodiment.action_dim), dtype=np.float32)
        batch = self.processor.encode(observations, [nothing] * len(observations))
        return Scene(
            model=self.model,
            context=self._encode(batch),
            prompts=tuple(observation.prompt for observation in observations),
            ticks=tuple(observation.tick for observation in observations),
        )

    @torch.inference_mode()
    def act(
        self, scene: Scene, observations: Sequence[Observation], action_prefixes: Sequence[FloatArray]
    ) -> list[ActionChunk]:
        """Re-plan with the cerebellum alone: fresh states and prefixes on pictures that were encoded before.

        With the observations that made the scene this is `infer_batch`, bit for bit. Pictures of `observations` are used
        for the noise seed only; how old `scene.ticks` may get is the caller's decision.

        Raises:
            ValueError: as `infer_batch`; another policy's scene; another number of observations; an instruction that
                changed (encode again).
        """
        started_s = time.perf_counter()
        if scene.model is not self.model:
            raise ValueError("the scene was encoded by another policy or engine: encode again")
        prompts = tuple(observation.prompt for observation in observations)
        if prompts != scene.prompts:
            raise ValueError(
                f"the scene was encoded for the instructions {list(scene.prompts)}; got {list(prompts)}: encode again"
            )
        motion = self.processor.encode_motion(observations, action_prefixes)
        return self._act(scene.context, motion, observations, action_prefixes, started_s)

    def warm_up(self, observation: Observation, batch_sizes: Sequence[int] = (1,)) -> float:
        """Run until every later call of these batch sizes finds its kernels compiled and its graphs captured; seconds.

        Before this returns, the policy is not ready for a robot: the first call of a new layout may take a minute.
        """
        started_s = time.perf_counter()
        nothing = np.empty((0, self.metadata.embodiment.action_dim), dtype=np.float32)
        if isinstance(batch_sizes, int):
            raise ValueError(f"batch_sizes must be a sequence such as ({batch_sizes},); got {batch_sizes!r}")
        for size in batch_sizes:
            for _ in range(2):
                self.infer_batch([observation] * size, [nothing] * size)
        return time.perf_counter() - started_s

    def _encode(self, batch: Batch) -> Any:
        if isinstance(self.model, Engine):
            return self.model.encode(batch)
        return self.model.encode(batch.to(self.device))

    def _act(
        self,
        context: Any,
        motion: Motion,
        observations: Sequence[Observation],
        action_prefixes: Sequence[FloatArray],
        started_s: float,
    ) -> list[ActionChunk]:
        noise = self._noises(observations)
        if isinstance(self.model, VLA):
            motion, noise = Motion(*(tensor.to(self.device) for tensor in motion)), noise.to(self.device)
        sampled = self.model.sample(
            context,
            state=motion.state,
            noise=noise,
            action_mask=motion.action_mask,
            action_prefix=motion.action_prefix,
            prefix_length=motion.prefix_length,
            num_flow_steps=self.num_flow_steps,
        )
        return self._chunks(sampled, observations, action_prefixes, started_s)

    def _chunks(
        self,
        sampled: Tensor,
        observations: Sequence[Observation],
        action_prefixes: Sequence[FloatArray],
        started_s: float,
    ) -> list[ActionChunk]:
        """What the model sampled, decoded, as chunks."""
        actions = self.processor.decode(sampled, np.stack([observation.state for observation in observations]))
        return as_chunks(actions, observations, action_prefixes, self.metadata.policy_id, started_s)

    def _noises(self, observations: Sequence[Observation]) -> Tensor:
        """Initial noise, float32[n, H, A]."""
        horizon, model_action_dim = self.processor.horizon, self.processor.model_action_dim
        return torch.cat([initial_noise(observation, horizon, model_action_dim) for observation in observations])
