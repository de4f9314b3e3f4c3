"""Data that lie encoded on the device against the same data encoded on the way."""

from dataclasses import replace

import pytest
import torch

from cerebella.batch import VisionLanguageBatch
from cerebella.envs.scenes.dialogues import make_dialogues
from cerebella.envs.scenes.questions import make_questions
from cerebella.models.config import preset
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.images import ImageConfig
from cerebella.processing.motion import batch_without_scene
from cerebella.recipes.scene_data import scene_tokenizer
from cerebella.training.held_source import COLUMNS_AT_ONCE, Held, hold, stack
from cerebella.training.parallel import World
from cerebella.training.sources import Shuffled, StepRequest, TrainingBatch
from cerebella.training.stages import Stage

FAMILIES = ("colour", "count", "box")
VOCABULARY = preset("micro").brain["text_config"]["vocab_size"]
TALK = ConversationProcessor(scene_tokenizer(FAMILIES, (), VOCABULARY, 0), ImageConfig(patch_size=8))
DIALOGUES = make_dialogues(make_questions(FAMILIES, 12, 0, "train"), 3)
CPU = torch.device("cpu")
STAGE = Stage(
    name="pretrain_brain",
    objective="next_token",
    trains=("language",),
    num_steps=1,
    batch_size=0,
    num_conversations=4,
    language_weight=1.0,
    learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def held() -> Held:
    parts = [TALK.encode(DIALOGUES.conversations(range(i, min(i + 5, len(DIALOGUES)))), True) for i in (0, 5, 10, 15)]
    return Held(language=hold(stack([part for part in parts if len(part)], TALK.pad_token_id), CPU))


def request(step: int, rank: int = 0, size: int = 1, parts: int = 1) -> StepRequest:
    return StepRequest(STAGE, step, (3, 0), World(rank, size, CPU), parts)


def language(batch: TrainingBatch) -> VisionLanguageBatch:
    assert batch.language is not None
    return batch.language


@pytest.mark.parametrize("step", [0, 7])
def test_the_rows_are_those_of_the_source_that_encodes(held: Held, step: int) -> None:
    fresh = Shuffled(conversations=DIALOGUES, conversation_processor=TALK)
    ours, theirs = (language(source.draw(request(step))[0].to(CPU)) for source in (held, fresh))
    length = theirs.input_ids.shape[1]
    for name in ("input_ids", "attention_mask", "mm_token_type_ids", "labels"):
        assert torch.equal(getattr(ours, name)[:, :length], getattr(theirs, name)), name
    assert not ours.attention_mask[:, length:].any()
    assert ours.pixel_values is not None
    assert theirs.pixel_values is not None
    assert torch.equal(ours.pixel_values, theirs.pixel_values)


def test_lengths_are_few(held: Held) -> None:
    total = language(held.draw(request(0))[0]).input_ids.shape[1]
    assert total % COLUMNS_AT_ONCE == 0 or total == language(TrainingBatch(language=held.language)).input_ids.shape[1]


def test_ranks_and_micro_batches_share_the_rows_of_one(held: Held) -> None:
    whole = language(held.draw(request(2))[0]).input_ids
    parts = [
        language(batch).input_ids for rank in range(2) for batch in held.draw(request(2, rank=rank, size=2, parts=2))
    ]
    length = min(part.shape[1] for part in parts)
    assert torch.equal(torch.cat([part[:, :length] for part in parts]), whole[:, :length])


def test_what_is_missing_or_uneven_is_said(held: Held) -> None:
    with pytest.raises(ValueError, match="batch_size 2, but its source has no such data"):
        held.draw(replace(request(0), stage=replace(STAGE, objective="choice", batch_size=2)))
    with pytest.raises(ValueError, match="num_conversations 4 must be a multiple of 3"):
        held.draw(request(0, parts=3))
    assert held.language is not None
    grid = held.language.image_grid_thw
    assert grid is not None
    with pytest.raises(ValueError, match="one picture per row, all of one size"):
        Held(language=replace(held.language, image_grid_thw=grid[1:]))
    with pytest.raises(ValueError, match="at least one batch"):
        stack([], 0)


def test_windows_without_pictures_are_held_too() -> None:
    generator = torch.Generator().manual_seed(0)
    robot = batch_without_scene(
        state=torch.randn(12, 1, 4, generator=generator),
        action_mask=torch.ones(12, 3, 2),
        actions=torch.randn(12, 3, 2, generator=generator),
        prefix_length=torch.arange(12) % 3,
    )
    stage = Stage("posttrain_sync", "flow", ("cerebellum",), num_steps=1, batch_size=6, learning_rate=1e-3)
    source, seed = Held(robot), (5,)
    first, second = (source.draw(StepRequest(stage, step, seed, World(0, 1, CPU)))[0].robot for step in (0, 1))
    assert first is not None
    assert second is not None
    assert len(first) == len(second) == 6
    assert first.input_ids.shape == (6, 0)
    assert first.prefix_length is not None
    order = torch.cat([first.state, second.state]).flatten(1)
    assert torch.equal(order.sort(dim=0).values, robot.state.flatten(1).sort(dim=0).values), (
        "an epoch is every row once"
    )
    assert not torch.equal(order, robot.state.flatten(1))
