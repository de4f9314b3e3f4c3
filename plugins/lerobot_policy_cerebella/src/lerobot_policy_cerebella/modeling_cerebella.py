"""`CerebellaPolicy`: a Cerebella policy behind LeRobot's policy interface.

The space of `predict_action_chunk`, of its left-over argument and of `select_action` is one and the same: absolute targets in
the units and the order of the data set's `action`. LeRobot's pipelines around it are the identity, so what they call model
space (not post-processed) equals what the robot is sent.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from cerebella.interfaces import PolicyMetadata
from cerebella.types import FloatArray, Observation
from lerobot_policy_cerebella.configuration_cerebella import CerebellaConfig
from lerobot_policy_cerebella.features import FeatureMap, prompts_of
from lerobot_policy_cerebella.left_over import committed_rows
from lerobot_policy_cerebella.ranks import rank
from lerobot_policy_cerebella.sources import connect, policy_files, read

if TYPE_CHECKING:  # each needs packages that the other does without
    from cerebella.serving.client import RemotePolicy
    from lerobot_policy_cerebella.policy_files import StoredPolicy

RATE_TOLERANCE = 0.01
"""A data set's rate may differ from the embodiment's by this fraction (29.97 is 30)."""
_HUB_ARGUMENTS = ("force_download", "proxies", "token", "cache_dir", "local_files_only", "revision")
_logger = logging.getLogger(__name__)


class CerebellaPolicy(PreTrainedPolicy):
    """See the module.

    Args:
        config: names a policy directory or a server, and how LeRobot's features map to its embodiment.
        dataset_stats: not used; the policy has its own statistics.
        dataset_meta: of the data set to train on; gives names of entries, and its rate is checked.
        source: folder with the policy's files in a checkpoint, whose weights are loaded afterwards.

    Raises:
        ValueError: no policy is named, or features, units or rates do not fit. ImportError: this environment cannot run the
            model; says what to do instead.
    """

    config_class = CerebellaConfig  # pyright: ignore[reportAssignmentType] - the base class is annotated as None
    name = "cerebella"  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        config: CerebellaConfig,
        dataset_stats: Mapping[str, Any] | None = None,
        dataset_meta: Any = None,
        source: Path | None = None,
    ) -> None:
        super().__init__(config)
        self.config: CerebellaConfig = config
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        self._num_predictions = 0
        self._has_warned = False
        self._stored: StoredPolicy | None = None
        self._remote: RemotePolicy | None = None
        if config.server_url is not None:
            self._remote = connect(config)
        else:
            self._stored = read(config, source)
            self.model = self._stored.model
        metadata = self.metadata
        if dataset_meta is not None:
            config.read_names(dataset_meta.features)
            _check_rate(metadata, float(dataset_meta.fps))
        self.features = FeatureMap.of(config, metadata.embodiment)
        for name, rows in (("chunk_size", config.chunk_size), ("n_action_steps", config.n_action_steps)):
            if rows is not None and (rows > metadata.horizon or (name == "chunk_size" and rows != metadata.horizon)):
                raise ValueError(f"{name} is {rows} rows; a chunk of {metadata.policy_id} has {metadata.horizon}")
        config.chunk_size = metadata.horizon
        if self._stored is not None:
            from lerobot_policy_cerebella import learning

            self._learning = learning
            learning.freeze_the_rest(self.model, learning.stage_of(config, 1))
        self.reset()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        strict: bool = True,
        **kwargs: Any,
    ) -> "CerebellaPolicy":
        """Read what `save_pretrained` wrote, or a hub has; arguments as in LeRobot.

        Raises:
            FileNotFoundError: the checkpoint lacks the policy's files.
        """
        hub = {name: kwargs[name] for name in _HUB_ARGUMENTS if kwargs.get(name) is not None}
        if config is None:
            config = PreTrainedConfig.from_pretrained(pretrained_name_or_path, **hub)
        if not isinstance(config, CerebellaConfig):
            raise ValueError(f"{pretrained_name_or_path} is a policy of the type {config.type!r}, not 'cerebella'")
        if config.server_url is None:
            kwargs["source"] = policy_files().checkpoint_folder(pretrained_name_or_path, **hub)
        return super().from_pretrained(pretrained_name_or_path, config=config, strict=strict, **kwargs)

    def _save_pretrained(self, save_directory: Path, *args: Any, **kwargs: Any) -> None:
        super()._save_pretrained(save_directory, *args, **kwargs)
        if self._stored is not None and rank() == 0:
            self._stored.write(save_directory)

    def save_policy(self, directory: Path, trainer: str) -> None:
        """Write a policy directory; see `policy_files.write_policy`."""
        stored, num_steps = self._require_model(), int(self.num_steps)
        stage = self._learning.stage_of(self.config, num_steps)
        policy_files().write_policy(stored, directory, stage, num_steps, trainer)

    @property
    def metadata(self) -> PolicyMetadata:
        """Of the policy that runs."""
        if self._stored is not None:
            return self._stored.policy.metadata
        assert self._remote is not None
        return self._remote.metadata

    @property
    def max_prefix(self) -> int:
        """The longest action prefix that the weights know, in rows."""
        trained_here = self.config.max_prefix if int(self.num_steps) else 0
        return max(self.metadata.max_trained_prefix, trained_here)

    def supports_rtc(self) -> bool:
        """Whether `predict_action_chunk` can continue a chunk that is running."""
        return self.max_prefix > 0

    def reset(self) -> None:
        """A new episode: forget queued actions."""
        self._action_queue: deque[Tensor] = deque()
        if self._remote is not None and self._num_predictions:
            self._remote.reset()
        self._num_predictions = 0

    def get_optim_params(  # pyright: ignore[reportIncompatibleMethodOverride] - LeRobot takes groups as well
        self,
    ) -> list[dict[str, Any]]:
        """Groups of what learns; see `config.trains`."""
        self._require_model()
        return self._learning.parameter_groups(self.model)

    def update(self) -> None:
        """LeRobot calls this after every optimiser step."""
        self.num_steps += 1

    def forward(
        self, batch: dict[str, Any], reduction: Literal["mean", "none"] = "mean"
    ) -> tuple[Tensor, dict[str, float]]:
        """The flow-matching loss of Cerebella's own training, on a batch of LeRobot's.

        Args:
            batch: `observation.*`, `action` float[B, H, n], `action_is_pad` bool[B, H], `task`.
            reduction: `none` gives float[B], each sample by itself (slower: one pass of the brain for each).

        Raises:
            ValueError: the policy is on a server, or the batch does not fit.
        """
        if reduction not in ("mean", "none"):
            raise ValueError(f"reduction is {reduction!r}; known: mean, none")
        stored, learning = self._require_model(), self._learning
        processor = stored.policy.processor
        samples = learning.samples_of(batch, self.features, processor)
        stage, seed = learning.stage_of(self.config, int(self.num_steps)), learning.draw_seed()
        if reduction == "mean":
            found = learning.losses(self.model, processor, samples, stage, seed)
            return found["loss"], {name: float(value.detach()) for name, value in found.items()}
        each = learning.losses_of_each(self.model, processor, samples, stage, seed)
        means = {name: float(torch.stack([found[name].detach() for found in each]).mean()) for name in each[0]}
        return torch.stack([found["loss"] for found in each]), means

    @torch.no_grad()
    def predict_action_chunk(  # pyright: ignore[reportIncompatibleMethodOverride] - noise comes from the observation
        self, batch: dict[str, Any], inference_delay: int | None = None, prev_chunk_left_over: Tensor | None = None
    ) -> Tensor:
        """The next chunk, float32[B, H, n] on the batch's device; row 0 belongs to the observation.

        Args:
            batch: `observation.*` and `task`.
            inference_delay: rows that will have been sent before this chunk is used.
            prev_chunk_left_over: float[T, n] or float[B, T, n], what the running chunk has from the observation on, as this
                method returned it. Its first rows are the action prefix: they come back bit for bit, and the rest of the chunk
                continues them. See `left_over.committed_rows` for what is taken of it.

        Raises:
            ValueError: the batch does not fit.
        """
        self.eval()
        states = self.features.state.read(batch[OBS_STATE])
        shape = (len(states), self.features.action.num_entries)
        rows = committed_rows(inference_delay, prev_chunk_left_over, shape, self._longest_prefix(inference_delay))
        prefixes: list[FloatArray] = [self.features.action.read(each) for each in rows]
        prompts = prompts_of(batch, len(states))
        observations = [
            Observation(
                state=state, prompt=prompt, tick=self._num_predictions, timestamp_s=time.monotonic(), images=images
            )
            for state, prompt, images in zip(states, prompts, self.features.pictures(batch), strict=True)
        ]
        self._num_predictions += 1
        if self._stored is not None:
            chunks = self._stored.policy.infer_batch(observations, prefixes)
        else:
            assert self._remote is not None
            chunks = [self._remote.infer(*question) for question in zip(observations, prefixes, strict=True)]
        actions = torch.from_numpy(self.features.action.write(np.stack([chunk.actions for chunk in chunks])))
        for chunk, prefix in zip(actions, rows, strict=True):
            chunk[: len(prefix)] = prefix  # as they were given, without the rounding of units
        return actions.to(batch[OBS_STATE].device)

    @torch.no_grad()
    def select_action(  # pyright: ignore[reportIncompatibleMethodOverride] - noise comes from the observation
        self, batch: dict[str, Any]
    ) -> Tensor:
        """The action of this step, float32[B, n]; asks for a chunk when `n_action_steps` rows of the last one are used up."""
        if not self._action_queue:
            num_rows = self.config.n_action_steps or self.metadata.horizon
            self._action_queue.extend(self.predict_action_chunk(batch)[:, :num_rows].unbind(dim=1))
        return self._action_queue.popleft()

    def _longest_prefix(self, delay: int | None) -> int:
        longest = min(self.max_prefix, self.metadata.horizon - 1)
        if delay is not None and delay > longest and not self._has_warned:
            self._has_warned = True
            _logger.warning("inference_delay is %d rows; the policy continues the %d that it knows", delay, longest)
        return longest

    def _require_model(self) -> "StoredPolicy":
        if self._stored is None:
            raise ValueError(
                f"the policy runs on the server {self.config.server_url}; only one in this process (--policy.policy_path) "
                "can be trained"
            )
        return self._stored


def _check_rate(metadata: PolicyMetadata, fps: float) -> None:
    wanted = metadata.embodiment.policy_hz
    if abs(fps - wanted) > RATE_TOLERANCE * wanted:
        raise ValueError(
            f"the data set has {fps:g} frames per second; {metadata.embodiment.name!r} acts at {wanted:g} Hz"
        )
