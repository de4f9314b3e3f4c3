"""A blank picture sends every rank through the vision tower and changes no number."""

from collections.abc import Callable
from dataclasses import replace

import torch

from cerebella.batch import NOT_COUNTED, Batch, VisionLanguageBatch
from cerebella.models.brain import word_losses
from cerebella.models.dummy_image import with_dummy_image
from cerebella.models.vla import VLA


def without_images(batch: Batch) -> Batch:
    return replace(
        batch,
        input_ids=batch.input_ids.clamp(max=50),
        mm_token_type_ids=torch.zeros_like(batch.input_ids),
        pixel_values=None,
        image_grid_thw=None,
    )


def test_a_batch_with_an_image_stays(make_model: Callable[..., VLA], make_batch: Callable[..., Batch]) -> None:
    config = make_model().config
    batch = make_batch(config)
    assert with_dummy_image(batch, config) is batch


def test_no_number_of_the_context_changes(make_model: Callable[..., VLA], make_batch: Callable[..., Batch]) -> None:
    model = make_model()
    batch = without_images(make_batch(model.config))
    padded = with_dummy_image(batch, model.config)
    num = batch.input_ids.shape[1]
    bare, context = model.encode(batch), model.encode(padded)
    assert torch.equal(context.last_position, bare.last_position)
    assert not context.is_valid[:, num:].any()
    assert torch.equal(context.is_valid[:, :num], bare.is_valid)
    for one, other in zip([*context.keys, *context.values], [*bare.keys, *bare.values], strict=True):
        torch.testing.assert_close(one[:, :, :num][:, :, bare.is_valid[0]], other[:, :, bare.is_valid[0]])


def test_the_vision_tower_runs_and_gets_a_gradient_of_zero(
    make_model: Callable[..., VLA], make_batch: Callable[..., Batch]
) -> None:
    model = make_model()
    batch = without_images(make_batch(model.config))
    talk = VisionLanguageBatch(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        mm_token_type_ids=batch.mm_token_type_ids,
        pixel_values=None,
        image_grid_thw=None,
        labels=torch.where(batch.attention_mask == 1, batch.input_ids, NOT_COUNTED),
    )
    padded = with_dummy_image(talk, model.config)
    assert padded.labels.shape == padded.input_ids.shape
    bare, _ = word_losses(model.brain, talk)
    losses, _ = word_losses(model.brain, padded)
    torch.testing.assert_close(losses, bare)
    losses.sum().backward()
    for name, parameter in model.brain.model.visual.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name
