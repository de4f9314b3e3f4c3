"""What a run begins with: a policy, a released checkpoint, a plain brain, or nothing but a size."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.embodiment import Embodiment
from cerebella.models.checkpoint import load_brain
from cerebella.models.config import MaskVariant, ModelConfig
from cerebella.models.vla import VLA
from cerebella.policies.directory import StageRecord
from cerebella.policies.released.processing import ACTION_CONFIG, read_preprocessor, robot_entry
from cerebella.policies.stored import read_model
from cerebella.processing.images import ImageConfig
from cerebella.processing.statistics import Statistics, statistics_from_released

StartKind = Literal["preset", "brain", "released", "policy"]


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """What to begin with, and what of it may be changed."""

    start: str
    """a policy directory, a released checkpoint or a plain Qwen3-VL (a directory, or owner/name on a hub), or a preset (micro,
    nano, tiny, small) for a model from nothing"""
    horizon: int | None = None
    """rows of a chunk, at most those of the start; the start's own if not given"""
    mask_variant: MaskVariant | None = None
    """attention rule; only where the start was not trained under another one"""
    mask_window: int | None = None
    """window of that rule, rows; the rule's own if not given"""
    position_offset: int | None = None
    """positions that noisy rows are moved by; the rule's own if not given"""
    max_pixels: int | None = None
    """largest area of a picture, larger ones are made smaller; the start's own, or 90 000 where it is a preset, a plain brain or
    a released checkpoint that takes more"""


@dataclass(frozen=True, eq=False)
class Start:
    """See the module.

    Args:
        source: as given. directory: where it lies; None for a preset. config: geometry, attention rule and horizon of the run.
        tokenizer: None where one has to be trained.
        embodiment: its robot, where it has one. history: the stages behind it.
        takes_raw_states: its states were never normalised, so neither are those to come (released checkpoints).
        says_rule: False for a released checkpoint that does not say under which attention rule it was trained.
    """

    source: str
    kind: StartKind
    directory: Path | None
    config: ModelConfig
    images: ImageConfig
    tokenizer: Qwen2Tokenizer | None
    embodiment: Embodiment | None = None
    history: tuple[StageRecord, ...] = ()
    takes_raw_states: bool = False
    says_rule: bool = True

    def model(self, dtype: torch.dtype) -> VLA:
        """The network with the start's weights; what the start does not have is drawn from torch's own generator."""
        if self.directory is None:
            return VLA(self.config)
        if self.kind == "brain":
            model = VLA(self.config)
            load_brain(model, self.directory)
            return model
        return read_model(self.directory, self.config, dtype).train()

    def statistics(self, robot: Embodiment) -> Statistics:
        """Of the start for one robot, as many rows as this run's horizon.

        Raises:
            ValueError: it has none for this robot, or its robot of that name is another one.
        """
        if self.directory is None or self.kind == "brain":
            raise ValueError(f"--statistics keep: {self.source} has no statistics; measure them")
        if self.kind == "released":
            entry = robot_entry(read_preprocessor(self.directory)[ACTION_CONFIG], robot.name)
            kept = statistics_from_released(entry["mean"], entry["std"], robot)
        else:
            kept = Statistics.load(self.directory / "statistics.json", robot.name, robot.control_mode)
            own = self.embodiment
            if (
                own is not None
                and own.name == robot.name
                and (own.states, own.actions) != (robot.states, robot.actions)
            ):
                raise ValueError(
                    f"--statistics keep: the robot {robot.name!r} of {self.source} has other dimensions; measure"
                )
        rows = self.config.horizon
        if len(kept.action_mean) < rows:
            raise ValueError(f"--statistics keep: {self.source} has {len(kept.action_mean)} rows of them, not {rows}")
        return replace(kept, action_mean=kept.action_mean[:rows], action_std=kept.action_std[:rows])

    def has_statistics(self, robot: Embodiment) -> bool:
        """Whether `statistics` has an answer."""
        try:
            self.statistics(robot)
        except ValueError:
            return False
        return True
