"""An expert that samples: its chunks are normal around the expert's plan, by an exact flow, so that every mode fits it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from cerebella.envs.dynamic.environment import DynamicEnvironment, DynamicExpert
from cerebella.interfaces import Environment, Guidance
from cerebella.models.guidance import BETA, guidance_weights, nearest
from cerebella.processing.noise import noise_seed
from cerebella.runtime.instruments.gaussian import autoregressive, sample, sample_after, sample_guided
from cerebella.types import ActionChunk, FloatArray, Observation

HORIZON = 16
NUM_FLOW_STEPS = 5


class FlowExpert:
    """Rows are plan + spread_m * z, z a smooth Gaussian process; the noise is a function of the observation alone."""

    def __init__(self, environment: DynamicEnvironment, spread_m: float) -> None:
        self._expert = DynamicExpert(environment, HORIZON)
        self._spread_m = spread_m
        self._process = autoregressive(HORIZON)
        expert = self._expert.metadata
        self.metadata = replace(expert, policy_id="flow expert", supports_guidance=True)

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        plan = self._expert.infer(observation, action_prefix).actions
        no_deviation = np.zeros(len(action_prefix))
        columns = [
            sample_after(self._process, no_deviation, z[:1], NUM_FLOW_STEPS)[0] for z in self._noise(observation)
        ]
        return self._chunk(observation, plan, np.stack(columns, axis=1), action_prefix)

    def infer_guided(self, observation: Observation, guidance: Guidance) -> ActionChunk:
        nothing = guidance.plan[:0]
        plan = self._expert.infer(observation, nothing).actions
        wanted = plan.copy()
        wanted[: len(guidance.plan)] = guidance.plan
        old = (wanted - plan).astype(np.float64) / self._spread_m
        frozen, between, rows = (
            torch.tensor([n]) for n in (guidance.num_frozen, guidance.execute_horizon, len(guidance.plan))
        )
        weights = guidance_weights(frozen, between, rows, HORIZON)[0].numpy().astype(np.float64)
        noise = self._noise(observation, max(1, guidance.num_candidates))
        if guidance.num_candidates:
            free = [sample(self._process, z, NUM_FLOW_STEPS) for z in noise]
            candidates = torch.from_numpy(np.stack(free, axis=-1))[None]
            pull = torch.from_numpy(np.tile(weights[:, None], len(noise)))[None]
            chosen = int(nearest(candidates, torch.from_numpy(old)[None], pull))
            return self._chunk(observation, plan, candidates[0, chosen].numpy(), nothing)
        use_jacobian = guidance.use_jacobian
        columns = [
            sample_guided(self._process, z, old[:, i], weights, BETA, NUM_FLOW_STEPS, use_jacobian)[0]
            for i, z in enumerate(noise)
        ]
        return self._chunk(observation, plan, np.stack(columns, axis=1), nothing)

    def _noise(self, observation: Observation, num_draws: int = 1) -> list[np.ndarray]:
        """Per action dimension float64[num_draws, H]; the first draw is the same for any number."""
        width = self.metadata.embodiment.action_dim
        rng = np.random.default_rng(noise_seed(observation))
        draws = np.stack([rng.normal(size=(width, HORIZON)) for _ in range(num_draws)], axis=1)
        return list(draws)

    def _chunk(
        self, observation: Observation, plan: FloatArray, deviation: np.ndarray, prefix: FloatArray
    ) -> ActionChunk:
        rows = (plan + self._spread_m * deviation).astype(np.float32)
        rows[: len(prefix)] = prefix
        return ActionChunk(rows, observation.tick, observation.tick, len(prefix), self.metadata.policy_id, 0.0)


def flow_expert(spread_m: float) -> Callable[[Environment], FlowExpert]:
    """A policy source for `rollout_virtual`."""

    def make(environment: Environment) -> FlowExpert:
        assert isinstance(environment, DynamicEnvironment)
        return FlowExpert(environment, spread_m)

    return make
