"""What every small policy that acts from pictures is trained with: stages, windows, processor, one call for a run.

Nothing is downloaded: tokenizer, statistics and weights are all made here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic import conveyor_data, windows
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.task import Task
from cerebella.envs.dynamic.windows import Windows
from cerebella.models.config import ModelConfig
from cerebella.models.vla import VLA
from cerebella.processing.actions import to_relative
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import measure_statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.training.loop import LoopConfig, run_stages
from cerebella.training.objectives import trained_modules
from cerebella.training.sources import Shuffled
from cerebella.training.stages import Stage
from cerebella.training.vision_objective import VisionHeads
from cerebella.types import Sample, SceneTruth

STAGES = (
    Stage(
        name="warmup_vision",
        objective="vision",
        trains=("vision", "language", "embeddings"),
        num_steps=1500,
        batch_size=64,
        learning_rate=1.5e-3,
        weight_decay=0.02,
    ),
    Stage(
        name="pretrain_cerebellum",
        objective="flow",
        trains=("cerebellum",),
        num_steps=800,
        batch_size=64,
        learning_rate=2e-3,
        weight_decay=0.02,
    ),
    Stage(
        name="posttrain_async",
        objective="flow",
        trains=("vision", "language", "cerebellum"),
        num_steps=800,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.02,
        flow_repeats=2,
        async_probability=0.5,
        max_prefix=6,
        hide_probability=0.5,
    ),
)
"""Those of the shipped `conveyor` policy."""


@dataclass(frozen=True)
class PictureSource:
    """Expert windows as the training loop wants them, pictures rendered when a step asks for them."""

    windows: Windows[Any]

    def __len__(self) -> int:
        return len(self.windows)

    def samples(self, indices: np.ndarray) -> list[Sample]:
        """Windows by index, with a picture each."""
        return self.windows.samples(indices, with_images=True)

    def truth(self, indices: np.ndarray) -> SceneTruth:
        """Where the landmarks are in the pictures of `samples`."""
        task = self.windows.task
        return task.landmarks(self.windows.state.take(indices)).in_picture(len(task.landmark_names))


def task_windows(
    task: Task[Any], num_windows: int, horizon: int, seed: int, committed_share: float = 0.0, max_delay: int = 8
) -> Windows[Any]:
    """Expert windows of a task, as `windows.expert_windows` says; the conveyor has its own."""
    if isinstance(task, ConveyorTask):
        return conveyor_data.expert_windows(num_windows, horizon, seed, committed_share, max_delay)
    return windows.expert_windows(task, num_windows, horizon, seed, committed_share, max_delay)


def make_processor(
    config: ModelConfig, embodiment: Embodiment, windows: Windows[Any], tokenizer: Qwen2Tokenizer | None = None
) -> Processor:
    """Statistics from the windows; the tokenizer of a brain that exists, or one from the task's own sentences."""
    if tokenizer is None:
        vocab_size = config.brain["text_config"]["vocab_size"]
        sentences = [robot_prompt(embodiment.views, prompt) for prompt in windows.task.all_prompts()]
        tokenizer = train_tokenizer(sentences, vocab_size)
    states = windows.observed(with_images=True)
    statistics = measure_statistics(
        to_relative(embodiment, windows.actions, states),
        states,
        embodiment.name,
        embodiment.control_mode,
        fixed_dimensions=[not dimension.relative for dimension in embodiment.actions],
    )
    return Processor(
        embodiment=embodiment,
        statistics=statistics,
        tokenizer=tokenizer,
        images=ImageConfig(patch_size=config.brain["vision_config"]["patch_size"]),
        horizon=config.horizon,
        model_state_dim=config.state_dim,
        model_action_dim=config.action_dim,
    )


def train_stages(
    model: VLA, processor: Processor, windows: Sequence[Windows[Any]], stages: Sequence[Stage], loop: LoopConfig
) -> bool:
    """Train in place, each stage on its windows, or continue; False if `loop.stop_after` ended the call before the end."""
    heads = None
    if any(stage.objective == "vision" for stage in stages):
        width = model.config.brain["text_config"]["hidden_size"]
        heads = VisionHeads(width, len(windows[0].task.landmark_names))
    sources = [Shuffled(PictureSource(each), processor) for each in windows]
    return run_stages(trained_modules(model, vision=heads), sources, stages, loop)
