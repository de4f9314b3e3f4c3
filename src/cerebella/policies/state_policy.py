"""`StatePolicy`: a `StateModel` with the numbers around it, as a `Policy`; and its small directory.

config.json         geometry of the model, attention rule, longest prefix, rolled forward or not
model.safetensors   weights, float32
embodiment.json  statistics.json
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cerebella.embodiment import Embodiment, read_json_object
from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.models.checkpoint import load_weights, save_weights
from cerebella.models.config import ModelConfig
from cerebella.models.guidance import BETA
from cerebella.models.state_model import StateModel
from cerebella.policies.answers import as_chunks
from cerebella.policies.shown_plan import initial_noise, sample_with_plan
from cerebella.policies.stored import weights_hash
from cerebella.processing.actions import rolled_forward
from cerebella.processing.motion import MotionProcessor, batch_without_scene
from cerebella.processing.statistics import Statistics
from cerebella.types import ActionChunk, FloatArray, Observation

MODEL_TYPE = "cerebella_state"
ROWS_PER_UNIT = 8.0
"""A policy that is rolled forward reads how far in the last slot of its state, in units of so many rows."""
FILES = ("config.json", "model.safetensors", "embodiment.json", "statistics.json")


class StatePolicy:
    """Infers chunks from state vectors alone; stateless between calls.

    Args:
        model: put into evaluation mode. processor: of the same embodiment.
        metadata: what an executor must know; guidance is always supported.
        num_flow_steps: Euler steps, 1 or more; None takes the model's own.
        guidance_beta: the largest gain of a guided sampler, above 0.
        roll_forward: the model has learnt to act from where a prefix will leave the robot (`rolled_forward`) and to say
            what comes behind it. A prefix then moves the state instead of entering the model. The last slot of the model's
            state, which no dimension of the robot may use, says how many rows it was (`told_how_far`): the scene is as many
            ticks older than the robot.

    Raises:
        ValueError: fewer than one flow step, guidance_beta not above 0, or no free slot for a policy that is rolled forward.
    """

    def __init__(
        self,
        model: StateModel,
        processor: MotionProcessor,
        metadata: PolicyMetadata,
        num_flow_steps: int | None = None,
        guidance_beta: float = BETA,
        roll_forward: bool = False,
    ) -> None:
        if num_flow_steps is not None and num_flow_steps < 1:
            raise ValueError(f"num_flow_steps must be 1 or more; got {num_flow_steps}")
        if not guidance_beta > 0:
            raise ValueError(f"guidance_beta must be above 0; got {guidance_beta}")
        if roll_forward and processor.model_state_dim - 1 in processor.state_slots:
            raise ValueError(
                f"roll_forward needs the last state slot ({processor.model_state_dim - 1}) for itself, but "
                f"{metadata.embodiment.name!r} uses it: make the model's state wider"
            )
        self.model = model.eval()
        self.processor = processor
        self.metadata = replace(metadata, supports_guidance=True)
        self.num_flow_steps = num_flow_steps
        self.guidance_beta = guidance_beta
        self.roll_forward = roll_forward
        self._nothing = np.empty((0, metadata.embodiment.action_dim), dtype=np.float32)

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """One chunk; see `Policy.infer`."""
        return self.infer_batch([observation], [action_prefix])[0]

    @torch.inference_mode()
    def infer_batch(
        self, observations: Sequence[Observation], action_prefixes: Sequence[FloatArray]
    ) -> list[ActionChunk]:
        """One chunk per observation in one pass; prefix lengths may differ. Noise as in `VLAPolicy.infer_batch`.

        Raises:
            ValueError: wrong shapes, or a model output that is not finite.
        """
        started_s = time.perf_counter()
        sample = self._sample_behind if self.roll_forward else self._sample
        actions = sample(observations, action_prefixes)
        return as_chunks(actions, observations, action_prefixes, self.metadata.policy_id, started_s)

    def infer_guided(self, observation: Observation, guidance: Guidance) -> ActionChunk:
        """One chunk; see `infer_guided_batch`."""
        return self.infer_guided_batch([observation], [guidance])[0]

    @torch.inference_mode(False)
    @torch.no_grad()
    def infer_guided_batch(
        self, observations: Sequence[Observation], guidances: Sequence[Guidance]
    ) -> list[ActionChunk]:
        """One chunk per observation for its running plan, without a prefix; see `VLAPolicy.infer_guided_batch`.

        Raises:
            ValueError: as `infer_batch`; a plan or execute horizon longer than the chunk.
        """
        started_s = time.perf_counter()
        nothing = [self._nothing] * len(observations)
        motion = self.processor.encode_motion(observations, nothing)
        sampled = sample_with_plan(
            self.model,
            self.model.encode(batch_without_scene(**motion._asdict())),
            state=motion.state,
            action_mask=motion.action_mask,
            plan=self.processor.encode_plans(observations, [guidance.plan for guidance in guidances]),
            observations=observations,
            guidances=guidances,
            beta=self.guidance_beta,
            num_flow_steps=self.num_flow_steps,
        )
        actions = self.processor.decode(sampled, np.stack([observation.state for observation in observations]))
        return as_chunks(actions, observations, nothing, self.metadata.policy_id, started_s)

    def save(self, directory: Path) -> None:
        """Write the directory; `config.json` comes last, so that a directory with it is complete."""
        directory.mkdir(parents=True, exist_ok=True)
        save_weights(self.model, directory, torch.float32, names="ours")
        self.metadata.embodiment.save(directory / "embodiment.json")
        self.processor.statistics.save(directory / "statistics.json")
        config = {
            "model_type": MODEL_TYPE,
            "model": json.loads(self.model.config.to_json()),
            "max_trained_prefix": self.metadata.max_trained_prefix,
            "roll_forward": self.roll_forward,
        }
        partial = directory / "config.json.new"
        partial.write_text(json.dumps(config, indent=1) + "\n")
        partial.replace(directory / "config.json")

    @classmethod
    def load(cls, directory: Path, num_flow_steps: int | None = None) -> "StatePolicy":
        """Read what `save` wrote; the policy is called like the directory.

        Args:
            num_flow_steps: as in the constructor.

        Raises:
            FileNotFoundError: a file is missing (names it). ValueError: another kind of policy, or a file does not fit.
        """
        for name in FILES:
            if not (directory / name).is_file():
                raise FileNotFoundError(f"{directory} is not the directory of a state policy: {name} is missing")
        stored = read_json_object(directory / "config.json")
        if stored.get("model_type") != MODEL_TYPE:
            raise ValueError(f"{directory}: model_type is {stored.get('model_type')!r}; wanted {MODEL_TYPE!r}")
        robot = Embodiment.load(directory / "embodiment.json")
        statistics = Statistics.load(directory / "statistics.json", robot.name, robot.control_mode)
        try:
            config = ModelConfig.from_json(json.dumps(stored["model"]))
            max_prefix, roll_forward = int(stored["max_trained_prefix"]), bool(stored["roll_forward"])
        except KeyError as error:
            raise ValueError(f"{directory / 'config.json'}: the field {error} is missing") from error
        model = StateModel(config)
        load_weights(model, directory)
        processor = MotionProcessor(robot, statistics, config.horizon, config.state_dim, config.action_dim)
        metadata = PolicyMetadata(
            policy_id=f"{directory.resolve().name}@{weights_hash(directory)}",
            embodiment=robot,
            horizon=config.horizon,
            mask_variant=config.mask_variant,
            max_trained_prefix=max_prefix,
            statistics_hash=statistics.hash,
        )
        return cls(model, processor, metadata, num_flow_steps, roll_forward=roll_forward)

    def _sample(
        self,
        observations: Sequence[Observation],
        action_prefixes: Sequence[FloatArray],
        noise_of: Sequence[Observation] | None = None,
        num_rolled: Sequence[int] | None = None,
    ) -> FloatArray:
        """Decoded rows, float32[n, H, action_dim].

        Args:
            noise_of: whose noise, if not that of `observations`. num_rolled: how far each was rolled forward, rows.
        """
        motion = self.processor.encode_motion(observations, action_prefixes)
        if num_rolled is not None:
            motion = motion._replace(state=told_how_far(motion.state, torch.tensor(num_rolled)))
        horizon, width = self.processor.horizon, self.processor.model_action_dim
        noise = [initial_noise(observation, horizon, width) for observation in noise_of or observations]
        context = self.model.encode(batch_without_scene(**motion._asdict()))
        sampled = self.model.sample(
            context, noise=torch.cat(noise), num_flow_steps=self.num_flow_steps, **motion._asdict()
        )
        return self.processor.decode(sampled, np.stack([observation.state for observation in observations]))

    def _sample_behind(self, observations: Sequence[Observation], action_prefixes: Sequence[FloatArray]) -> FloatArray:
        """The prefix, then what the model does where the prefix will leave the robot; as `_sample`."""
        rolled = [self._rolled(*each) for each in zip(observations, action_prefixes, strict=True)]
        num_rolled = [len(prefix) for prefix in action_prefixes]
        behind = self._sample(rolled, [self._nothing] * len(rolled), noise_of=observations, num_rolled=num_rolled)
        whole = [np.concatenate([prefix, rows]) for prefix, rows in zip(action_prefixes, behind, strict=True)]
        return np.stack([rows[: self.processor.horizon] for rows in whole])

    def _rolled(self, observation: Observation, prefix: FloatArray) -> Observation:
        """The observation as it will be when the robot has arrived at the end of the prefix."""
        robot = self.metadata.embodiment
        robot.check_state(observation.state)
        self.processor.check_prefix(prefix)
        if not len(prefix):
            return observation
        return replace(observation, state=rolled_forward(robot, observation.state[None], prefix[-1:])[0])


def told_how_far(state: Tensor, num_rows: Tensor) -> Tensor:
    """Model states float32[n, 1, S] whose last slot says how many rows they were rolled forward; num_rows: int64[n]."""
    told = state.clone()
    told[:, 0, -1] = num_rows.to(state) / ROWS_PER_UNIT
    return told
