from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cerebella.batch import NOT_COUNTED, Batch, VisionLanguageBatch
from cerebella.models import brain
from cerebella.models.config import preset
from cerebella.models.dummy_image import with_dummy_image
from cerebella.models.generate import generate, log_likelihood
from cerebella.models.vla import VLA

MakeModel = Callable[..., VLA]
MakeBatch = Callable[..., Batch]


def talk(batch: Batch, labels: torch.Tensor | None = None) -> VisionLanguageBatch:
    return VisionLanguageBatch(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        mm_token_type_ids=batch.mm_token_type_ids,
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        labels=torch.full_like(batch.input_ids, NOT_COUNTED) if labels is None else labels,
    )


@torch.no_grad()
def step_by_step(model: VLA, batch: Batch, num: int) -> list[int]:
    """One sample, the whole sequence anew for every token."""
    said: list[int] = []
    for _ in range(num):
        logits = model.brain(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            pixel_values=batch.pixel_values,
            image_grid_thw=batch.image_grid_thw,
            mm_token_type_ids=batch.mm_token_type_ids,
            position_ids=brain.position_ids(model.brain, batch),
        ).logits
        said.append(int(logits[0, -1].argmax()))
        more = {"input_ids": said[-1], "attention_mask": 1, "mm_token_type_ids": 0}
        batch = replace(
            batch,
            **{name: torch.cat([getattr(batch, name), torch.tensor([[value]])], dim=1) for name, value in more.items()},
        )
    return said


def test_it_says_what_the_whole_sequence_would_say(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """Padded and unpadded samples together, from a cache, against one sample at a time without any."""
    model = make_model()
    batch = make_batch(model.config, num_words=(3, 9))
    answers = generate(model, batch, max_new_tokens=5, stop_tokens=(999,))
    for index, length in enumerate(batch.attention_mask.sum(dim=1).tolist()):
        assert batch.pixel_values is not None
        assert batch.image_grid_thw is not None
        alone = replace(
            batch,
            input_ids=batch.input_ids[index : index + 1, :length],
            attention_mask=batch.attention_mask[index : index + 1, :length],
            mm_token_type_ids=batch.mm_token_type_ids[index : index + 1, :length],
            pixel_values=batch.pixel_values[index * 16 : index * 16 + 16],
            image_grid_thw=batch.image_grid_thw[index : index + 1],
        )
        assert answers[index] == step_by_step(model, alone, 5)


def test_a_stop_token_ends_one_answer_and_not_the_others(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model()
    batch = make_batch(model.config, num_words=(3, 9))
    free = generate(model, batch, max_new_tokens=6, stop_tokens=(999,))
    stop = free[0][2]
    stopped = generate(model, batch, max_new_tokens=6, stop_tokens=(stop,))
    for answer, whole in zip(stopped, free, strict=True):
        assert answer == (whole[: whole.index(stop)] if stop in whole else whole)
    with pytest.raises(ValueError, match="stop_tokens not empty"):
        generate(model, batch, max_new_tokens=6, stop_tokens=())


def test_losses_of_words_equal_those_of_the_stock_model(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model()
    batch = make_batch(model.config, num_words=(3, 9))
    labels = torch.full_like(batch.input_ids, NOT_COUNTED)
    labels[0, 8:10], labels[1, 10:14] = batch.input_ids[0, 8:10], batch.input_ids[1, 10:14]
    with torch.no_grad():
        losses, sample = brain.word_losses(model.brain, talk(batch, labels))
        stock = model.brain(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            pixel_values=batch.pixel_values,
            image_grid_thw=batch.image_grid_thw,
            mm_token_type_ids=batch.mm_token_type_ids,
            position_ids=brain.position_ids(model.brain, batch),
            labels=labels,
        )
    assert sample.tolist() == [0, 0, 1, 1, 1, 1]
    torch.testing.assert_close(losses.mean(), stock.loss, atol=1e-5, rtol=1e-5)
    likelihood = log_likelihood(model, talk(batch, labels))
    torch.testing.assert_close(likelihood, -torch.stack([losses[:2].sum(), losses[2:].sum()]))


def test_a_blank_picture_changes_no_word() -> None:
    model = VLA(preset("micro"))
    ids = torch.tensor([[11, 12, 13, 14], [15, 16, 17, 18]])
    text = VisionLanguageBatch(ids, torch.ones_like(ids), torch.zeros_like(ids), None, None, ids.clone())
    with torch.no_grad():
        without, _ = brain.word_losses(model.brain, text)
        with_picture, _ = brain.word_losses(model.brain, with_dummy_image(text, model.config))
    torch.testing.assert_close(without, with_picture, atol=1e-6, rtol=1e-6)


def test_pictures_without_room_in_the_text_are_refused(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model()
    batch = make_batch(model.config)
    fewer = batch.mm_token_type_ids.clone()
    fewer[0, 3] = 0
    with pytest.raises(ValueError, match="8 image tokens, but the text has room for 7"):
        brain.read(model.brain, replace(batch, mm_token_type_ids=fewer))
