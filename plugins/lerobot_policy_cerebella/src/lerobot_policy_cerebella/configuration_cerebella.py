"""What `--policy.type=cerebella` can be told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import NormalizationMode
from lerobot.optim.optimizers import AdamWConfig
from lerobot.optim.schedulers import CosineDecayWithWarmupSchedulerConfig
from lerobot.utils.constants import ACTION, OBS_STATE


def _identity() -> dict[str, NormalizationMode]:
    return {kind: NormalizationMode.IDENTITY for kind in ("VISUAL", "STATE", "ACTION")}


@PreTrainedConfig.register_subclass("cerebella")
@dataclass
class CerebellaConfig(PreTrainedConfig):
    """A Cerebella policy: in this process (`policy_path`), or in a running `cerebella serve` (`server_url`).

    The policy brings its own normalisation, so LeRobot's is the identity: in all of LeRobot's pipelines actions are absolute
    targets in the units of the data set.

    Args:
        policy_path: policy directory, or `owner/name` on a hub. In a checkpoint that LeRobot wrote it only says where the
            policy came from: the checkpoint has everything.
        server_url: address of a server, `ws://host:port`; then nothing is loaded here and nothing can be trained.
        views: camera -> view of the embodiment, e.g. `{"front": "base"}`. Empty: cameras are called like the views. Cameras that
            are not named here are not looked at.
        state_feature_names, action_feature_names: what the entries of `observation.state` and `action` are, in order. None:
            taken from the data set.
        renamed: entry -> dimension of the embodiment, where they are called differently (a last `.pos` does not matter).
        units: dimension -> unit of LeRobot's numbers, where it is not the embodiment's: deg, deg/s, mm, cm or %.
        gripper_ends: gripper -> LeRobot's numbers at which it is physically closed, and open.
        chunk_size: rows of a chunk; None: as the policy says, which is the only other right value.
        n_action_steps: rows that `select_action` sends before it asks again; None: all of them.
        num_flow_steps: Euler steps of the sampler; None: as the policy says.
        normalization_mapping: of LeRobot's pipelines; must stay the identity.
        trains: parts of the model that learn: vision, language, embeddings, cerebellum.
        max_prefix, async_probability, hide_probability, flow_repeats, reweight_errors: of the training stage (see
            `cerebella.training.stages.Stage`). The longest delay (in rows) that the policy learns to act under is `max_prefix`.
        optimizer_*, scheduler_*: AdamW, and its learning rate: linear rise, then a cosine.
    """

    policy_path: str | None = None
    server_url: str | None = None
    views: dict[str, str] = field(default_factory=dict)
    state_feature_names: list[str] | None = None
    action_feature_names: list[str] | None = None
    renamed: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    gripper_ends: dict[str, list[float]] = field(default_factory=dict)
    chunk_size: int | None = None
    n_action_steps: int | None = None
    num_flow_steps: int | None = None
    normalization_mapping: dict[str, NormalizationMode] = field(default_factory=_identity)

    trains: list[str] = field(default_factory=lambda: ["vision", "language", "cerebellum"])
    max_prefix: int = 6
    async_probability: float = 0.5
    hide_probability: float = 0.5
    flow_repeats: int = 4
    reweight_errors: bool = True

    optimizer_lr: float = 1e-4
    optimizer_betas: tuple[float, float] = (0.9, 0.95)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 0.1
    optimizer_grad_clip_norm: float = 1.0
    scheduler_warmup_steps: int = 500
    scheduler_decay_steps: int = 30_000
    scheduler_decay_lr: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if changed := [kind for kind, mode in self.normalization_mapping.items() if mode != NormalizationMode.IDENTITY]:
            raise ValueError(
                f"normalization_mapping: {', '.join(changed)} must be IDENTITY; the policy directory has its own statistics"
            )
        if self.n_action_steps is not None and self.n_action_steps < 1:
            raise ValueError(f"n_action_steps must be 1 or more rows; got {self.n_action_steps}")
        if wrong := [name for name, ends in self.gripper_ends.items() if len(ends) != 2 or ends[0] == ends[1]]:
            raise ValueError(
                f"gripper_ends[{wrong[0]!r}] must be two different numbers, closed and open; got {self.gripper_ends[wrong[0]]}"
            )

    @property
    def observation_delta_indices(self) -> None:
        """The newest frame only."""
        return None

    @property
    def action_delta_indices(self) -> list[int]:
        """The rows of one chunk, from the frame itself on.

        Raises:
            ValueError: no policy was named, or it cannot be trained because it is on a server.
        """
        return list(range(self.require_chunk_size()))

    @property
    def reward_delta_indices(self) -> None:
        """No rewards."""
        return None

    def require_chunk_size(self) -> int:
        """`chunk_size`, looked up in the policy directory if it is not known yet."""
        if self.chunk_size is None:
            from lerobot_policy_cerebella.policy_files import read_horizon  # needs the learning side of cerebella

            self.chunk_size = read_horizon(self)
        return self.chunk_size

    def get_optimizer_preset(self) -> AdamWConfig:
        """AdamW with the values above."""
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=self.optimizer_betas,
            eps=self.optimizer_eps,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        """Linear rise, then a cosine; LeRobot shortens both for a run that is shorter than `scheduler_decay_steps`."""
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
            peak_lr=self.optimizer_lr,
            decay_lr=self.scheduler_decay_lr,
        )

    def validate_features(self) -> None:
        """Raise a ValueError unless there are a state and an action; what is in them is checked against the embodiment."""
        for name, known in ((OBS_STATE, self.input_features), (ACTION, self.output_features)):
            if name not in (known or {}):
                raise ValueError(
                    f"a cerebella policy needs the feature {name!r}; got {', '.join(known or {}) or 'none'}"
                )

    def read_names(self, features: Mapping[str, Any]) -> None:
        """Take the names of the entries from the features of a data set (`meta.features`), where it has some."""
        for feature, target in ((OBS_STATE, "state_feature_names"), (ACTION, "action_feature_names")):
            if names := flat_names(features.get(feature, {}).get("names")):
                setattr(self, target, names)


def flat_names(names: Sequence[str] | Mapping[str, Sequence[str]] | None) -> list[str]:
    """A list, whether the data set has one or a mapping of groups (`{"motors": [...]}`)."""
    if isinstance(names, Mapping):
        return [name for group in names.values() for name in group]
    return list(names or [])
