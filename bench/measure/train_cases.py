"""The training steps that are raced: a stage, batches of its data, and one step of either side on the same batch.

Data are those of the simulated worlds: `scenes` dialogues of up to four questions about one picture, and windows of the
`conveyor` expert, one picture each; pictures are 96 x 64 px.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.envs.dynamic.conveyor_data import expert_windows
from cerebella.envs.dynamic.conveyor_prompts import all_prompts
from cerebella.envs.scenes.dialogues import Dialogues, make_dialogues
from cerebella.envs.scenes.families import FAMILIES
from cerebella.envs.scenes.questions import make_questions
from cerebella.models.config import ModelConfig
from cerebella.models.vla import VLA
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.recipes.conveyor import ConveyorSource, make_processor
from cerebella.training.flow_objective import draw_flow
from cerebella.training.objectives import trained_modules
from cerebella.training.optimizer import make_optimizer
from cerebella.training.sources import Shuffled, StepRequest, TrainingBatch
from cerebella.training.stages import Stage
from cerebella.training.step import ALONE, Precision, train_on

from .train_peer import PlainLoop

SEED = 0
NUM_BATCHES = 4
_QUESTIONS_PER_FAMILY = 100
_NUM_WINDOWS = 512
_COMMON: dict[str, Any] = {
    "num_steps": 1000,
    "learning_rate": 3e-4,
    "final_learning_rate": 3e-4,
    "num_warmup_steps": 0,
    "weight_decay": 0.0,  # the groups of the two optimisers decay other weights
}
CASES: Mapping[str, Stage] = {
    "next_token": Stage(
        "pretrain_brain",
        "next_token",
        ("vision", "language", "embeddings"),
        batch_size=0,
        num_conversations=1,
        language_weight=1.0,
        **_COMMON,
    ),
    "flow_posttrain": Stage(
        "posttrain_async",
        "flow",
        ("vision", "language", "cerebellum"),
        batch_size=1,
        async_probability=0.5,
        max_prefix=6,
        hide_probability=0.5,
        **_COMMON,
    ),
    "pretrain_cerebellum": Stage("pretrain_cerebellum", "flow", ("cerebellum",), batch_size=1, **_COMMON),
}
"""Name -> its stage, for one sample a step."""


@dataclass(frozen=True, eq=False)
class Case:
    """One stage and its data.

    Args:
        stage: with the batch size of the race. batches: `NUM_BATCHES` of them, on the CPU.
    """

    stage: Stage
    batches: tuple[TrainingBatch, ...]

    @property
    def real_share(self) -> float:
        """Share of the text and image tokens that are no padding."""
        masks = [batch.attention_mask for each in self.batches for batch in (each.robot, each.language) if batch]
        return sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def make_case(name: str, source: Shuffled, num_samples: int) -> Case:
    """One of `CASES` with `num_samples` windows or conversations a step."""
    stage = CASES[name]
    counted = "num_conversations" if stage.objective == "next_token" else "batch_size"
    stage = replace(stage, **{counted: num_samples})
    requests = (StepRequest(stage, step, (SEED, 0), ALONE) for step in range(NUM_BATCHES))
    return Case(stage, tuple(source.draw(request)[0].to(ALONE.device) for request in requests))


Step = Callable[[int], float]
"""Learns from the batch of that number, modulo `NUM_BATCHES`; its loss before."""


def our_step(config: ModelConfig, case: Case, precision: Precision) -> Step:
    """The step of `training.loop`, from the weights of `SEED`."""
    modules = trained_modules(fresh(config))
    optimizer = make_optimizer(modules, case.stage)
    modules.train()

    def step(number: int) -> float:
        turn = number % NUM_BATCHES
        return train_on(modules, [case.batches[turn]], case.stage, (SEED, 0, turn), optimizer, precision)["loss"]

    return step


def peer_step(config: ModelConfig, case: Case, precision: Precision) -> Step:
    """The step of the plain loop, from the same weights with the same draws."""
    loop = PlainLoop(fresh(config), case.stage, precision)
    draws = [
        draw_flow(case.stage, batch.robot, (SEED, 0, turn)) if batch.robot is not None else None
        for turn, batch in enumerate(case.batches)
    ]

    def step(number: int) -> float:
        batch, drawn = case.batches[number % NUM_BATCHES], draws[number % NUM_BATCHES]
        if batch.robot is not None and drawn is not None:
            return loop.flow(batch.robot, drawn)
        assert batch.language is not None
        return loop.next_token(batch.language)

    return step


def fresh(config: ModelConfig) -> VLA:
    """The weights that both sides start from."""
    torch.manual_seed(SEED)
    return VLA(config)


def make_source(config: ModelConfig) -> Shuffled:
    """Windows and conversations, encoded for a model of this size; one tokenizer that knows both."""
    talk = make_dialogues(make_questions(list(FAMILIES), _QUESTIONS_PER_FAMILY, SEED, "train"))
    windows = expert_windows(_NUM_WINDOWS, config.horizon, seed=SEED)
    processor = make_processor(config, CONVEYOR, windows, _tokenizer(config, talk))
    answers = ConversationProcessor(processor.tokenizer, processor.images)
    return Shuffled(ConveyorSource(windows), processor, talk, answers)


def _tokenizer(config: ModelConfig, talk: Dialogues) -> Qwen2Tokenizer:
    texts = [robot_prompt(CONVEYOR.views, prompt) for prompt in all_prompts()]
    texts += [text for each in talk.conversations(range(len(talk))) for _, text in each.turns]
    return train_tokenizer(texts, config.brain["text_config"]["vocab_size"])
