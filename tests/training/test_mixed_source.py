"""Mixtures as training data: two robots and conversations in one step, the same on every number of processes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from cerebella.data.mixture import MixtureSpec
from cerebella.data.sources import RobotGroup
from cerebella.models.config import preset
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import Statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.recipes.conveyor import STAGES
from cerebella.training.mixed_source import MixedSource
from cerebella.training.parallel import World
from cerebella.training.sources import StepRequest
from tests.data.memory import Talk, one_joint, robot_source

CONFIG = preset("micro", horizon=3)
TEXTS = [robot_prompt(["base"], "move"), "<|im_start|>user\nt 3<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"]
TOKENIZER = train_tokenizer(TEXTS, vocab_size=CONFIG.brain["text_config"]["vocab_size"])
IMAGES = ImageConfig(CONFIG.brain["vision_config"]["patch_size"], max_pixels=4096)
STAGE = replace(STAGES[-1], batch_size=12, num_conversations=4, language_weight=0.1)


def processor(robot: str) -> Processor:
    zero, one = np.zeros((3, 1), np.float32), np.ones((3, 1), np.float32)
    statistics = Statistics(robot, "joint", zero, one, zero[0], one[0])
    return Processor(one_joint(robot), statistics, TOKENIZER, IMAGES, 3, CONFIG.state_dim, CONFIG.action_dim)


PROCESSORS = {RobotGroup(name, "joint"): processor(name) for name in ("toy", "other")}
TALK = ConversationProcessor(TOKENIZER, IMAGES)


@pytest.fixture
def source() -> Iterator[MixedSource]:
    sources = (robot_source("a", [30, 40]), robot_source("b", [50], robot="other"), Talk("t", 9))
    mixed = MixedSource(MixtureSpec(sources, vl_ratio=1 / 3, num_lanes=4), PROCESSORS, TALK, num_workers=1)
    yield mixed
    mixed.close()


def request(step: int, rank: int = 0, size: int = 1, parts: int = 1) -> StepRequest:
    return StepRequest(STAGE, step, (0, 2), World(rank, size, torch.device("cpu")), parts)


def rows(source: MixedSource, *requests: StepRequest) -> tuple[list[float], list[list[int]], list[int]]:
    """States and counted tokens of all micro-batches, and where their noise begins."""
    states, tokens, firsts = [], [], []
    for asked in requests:
        for batch in source.draw(asked):
            assert batch.robot is not None
            assert batch.language is not None
            states += batch.robot.state[:, 0, 0].tolist()
            tokens += [row[row >= 0].tolist() for row in batch.language.labels]
            firsts.append(batch.first_window)
    return states, tokens, firsts


def test_ranks_and_micro_batches_cut_the_same_step(source: MixedSource) -> None:
    states, tokens, firsts = rows(source, request(5))
    assert (len(states), len(tokens), firsts) == (12, 4, [0])
    halves = rows(source, request(5, 0, 2), request(5, 1, 2))
    quarters = rows(source, request(5, 0, 2, 2), request(5, 1, 2, 2))
    assert halves == (states, tokens, [0, 6])
    assert quarters == (states, tokens, [0, 3, 6, 9])


def test_every_step_has_what_the_stage_says(source: MixedSource) -> None:
    """A ratio that is no binary fraction: no step may drift by a row."""
    odd = MixedSource(replace(source.spec, vl_ratio=5 / 32, num_lanes=1), PROCESSORS, TALK, num_workers=0)
    stage = replace(STAGE, batch_size=32, num_conversations=5)
    for step in (*range(8), 99_999):
        (batch,) = odd.draw(replace(request(step), stage=stage))
        assert batch.robot is not None
        assert batch.language is not None
        assert (len(batch.robot), len(batch.language.labels)) == (32, 5)


def test_a_resumed_run_gets_the_same_steps(source: MixedSource) -> None:
    steps = [rows(source, request(step)) for step in range(6)]
    assert [rows(source, request(step)) for step in (4, 5)] == steps[4:]
    assert steps[0] != steps[1]


def test_what_does_not_fit_the_mixture_is_refused(source: MixedSource) -> None:
    with pytest.raises(ValueError, match=r"wants 5 conversations among 16 rows; the mixture gives 4\.00\. .*5 / 11"):
        source.draw(replace(request(0), stage=replace(STAGE, batch_size=11, num_conversations=5)))
    few = MixedSource(replace(source.spec, num_lanes=8), PROCESSORS, TALK)
    with pytest.raises(ValueError, match="num_conversations 4 must be a multiple of the 8 lanes"):
        few.draw(request(0))
    with pytest.raises(ValueError, match="no processor for other/joint; processors: toy/joint"):
        MixedSource(source.spec, {RobotGroup("toy", "joint"): PROCESSORS[RobotGroup("toy", "joint")]}, TALK)
    with pytest.raises(ValueError, match="needs a conversation_processor"):
        MixedSource(source.spec, PROCESSORS)
