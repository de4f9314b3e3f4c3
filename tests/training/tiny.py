"""A model of a few hundred thousand parameters with the real topology, robot windows and conversations for it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cerebella.envs.dynamic.conveyor import COLOURS, CONVEYOR
from cerebella.envs.dynamic.conveyor_data import expert_windows
from cerebella.models.choice import ChoiceHeads
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA
from cerebella.processing.conversation import ConversationProcessor
from cerebella.recipes.conveyor import ConveyorSource, make_processor
from cerebella.training.loop import LoopConfig
from cerebella.training.objectives import trained_modules
from cerebella.training.parallel import TrainedModules
from cerebella.training.sources import Shuffled
from cerebella.training.stages import Stage
from cerebella.training.vision_objective import VisionHeads
from cerebella.types import Conversation

HORIZON = 8


def _config() -> ModelConfig:
    micro = preset("micro", horizon=HORIZON)
    brain: dict[str, Mapping[str, Any]] = dict(micro.brain)
    brain["text_config"] = {**brain["text_config"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    brain["vision_config"] = {
        **brain["vision_config"],
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 1,
        "out_hidden_size": 64,
    }
    return replace(micro, brain=brain, num_layers=2)


CONFIG = _config()
WINDOWS = expert_windows(48, HORIZON, seed=3, max_delay=6)
COMMITTED = expert_windows(48, HORIZON, seed=4, committed_share=0.5, max_delay=6)
PROCESSOR = make_processor(CONFIG, CONVEYOR, WINDOWS)
TALK = ConversationProcessor(PROCESSOR.tokenizer, PROCESSOR.images)


@dataclass(frozen=True)
class Colours:
    """Conversations about plain pictures; every third one has none."""

    num: int = 12

    def __len__(self) -> int:
        return self.num

    def conversations(self, indices: np.ndarray) -> list[Conversation]:
        return [self._one(int(index)) for index in indices]

    def _one(self, index: int) -> Conversation:
        source = f"colour {index}"
        if index % 3 == 2:
            return Conversation((), (("user", "pick the red part"), ("assistant", "yes" * (1 + index % 4))), source)
        picture = np.full((32, 32, 3), 20 * index, dtype=np.uint8)
        return Conversation((picture,), (("user", "<image>what?"), ("assistant", "red" * (1 + index % 4))), source)


def source(windows=WINDOWS) -> Shuffled:
    return Shuffled(ConveyorSource(windows), PROCESSOR, Colours(), TALK)


def fresh(num_candidates: int = 3) -> TrainedModules:
    torch.manual_seed(0)
    width = CONFIG.brain["text_config"]["hidden_size"]
    return trained_modules(
        VLA(CONFIG), vision=VisionHeads(width, len(COLOURS) + 1), choice=ChoiceHeads(CONFIG, num_candidates)
    )


def loop(directory: Path, **fields: Any) -> LoopConfig:
    return LoopConfig(directory, **({"log_every": 1, "save_every": 100, "show_progress": False} | fields))


COMMON: dict[str, Any] = {"num_steps": 2, "batch_size": 4, "learning_rate": 1e-3, "num_warmup_steps": 1}
BRAIN: Any = ("vision", "language", "embeddings")
ALL_STAGES = (
    Stage("warmup_vision", "vision", BRAIN, **COMMON),
    Stage("pretrain_brain", "choice", BRAIN, **COMMON, num_conversations=4, language_weight=0.1, ema_decay=0.9),
    Stage("pretrain_cerebellum", "flow", ("cerebellum",), **COMMON, flow_repeats=2, decay_rule="released"),
    Stage("posttrain_sync", "flow", ("vision", "language", "cerebellum"), **COMMON, flow_repeats=2, brain_rate=0.1),
    Stage(
        "posttrain_async",
        "flow",
        ("vision", "language", "cerebellum"),
        **COMMON,
        flow_repeats=2,
        async_probability=0.5,
        max_prefix=6,
        hide_probability=0.5,
        num_conversations=2,
        language_weight=0.1,
    ),
)
SOURCES = tuple(source(COMMITTED if stage.max_prefix else WINDOWS) for stage in ALL_STAGES)
