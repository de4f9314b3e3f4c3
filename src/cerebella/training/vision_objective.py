"""Vision warm-up: every vision token learns from simulator truth what lies in it and where.

A brain that starts from nothing hardly learns to see from text alone. Here each vision token says, per kind of object,
whether its centre lies inside the token and where in the picture it is, and the last text token says, per picture, which kind is
named and where it is. The heads read the stream that enters the brain's last layer, so that what they ask for is in the keys and values that the
cerebellum reads. They are thrown away after the stage.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cerebella.batch import Batch
from cerebella.models.brain import position_ids
from cerebella.models.vla import VLA
from cerebella.types import SceneTruth

POSITIVE_WEIGHT = 8.0
"""Most tokens hold no object; weighs the rare positives up in the presence loss."""


class VisionHeads(nn.Module):
    """Read-outs of a stream of width `hidden_size`.

    Per vision token and kind: presence and place. From the last text token: kind and position of the named object in each of
    `num_views` pictures.
    """

    def __init__(self, hidden_size: int, num_classes: int, num_views: int = 1) -> None:
        super().__init__()
        self.num_classes, self.num_views = num_classes, num_views
        self.presence = nn.Linear(hidden_size, num_classes)
        self.place = nn.Linear(hidden_size, 2 * num_classes)
        self.named_class = nn.Linear(hidden_size, num_views * num_classes)
        self.target = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, 2 * num_views)
        )


def vision_objective(model: VLA, heads: VisionHeads, batch: Batch, truth: SceneTruth) -> Mapping[str, Tensor]:
    """`loss` and its parts, and `target_error_px`: mean distance of the named objects' estimates, pixels.

    A named object that is not in a picture asks for nothing there.

    Args:
        batch: as many images per sample as the heads have views, all of one size.
        truth: of the images, in their order.

    Raises:
        ValueError: another number of images, or kinds that the heads do not know.
    """
    assert batch.image_grid_thw is not None, "the vision warm-up needs images"
    num_pictures = len(batch) * heads.num_views
    if len(batch.image_grid_thw) != num_pictures or truth.num_classes != heads.num_classes:
        raise ValueError(
            f"the vision warm-up needs {heads.num_views} image(s) per sample and {heads.num_classes} kinds of objects; got "
            f"{len(batch.image_grid_thw)} images for {len(batch)} samples and {truth.num_classes} kinds"
        )
    stream = stream_before_last_layer(model, batch).to(heads.presence.weight.dtype)
    device, vision = stream.device, model.config.brain["vision_config"]
    factor = vision["patch_size"] * vision["spatial_merge_size"]
    rows, columns = (int(n) // vision["spatial_merge_size"] for n in batch.image_grid_thw[0, 1:])
    tokens = stream[batch.mm_token_type_ids == 1].view(num_pictures, rows * columns, -1)
    presence, place = (x.to(device) for x in dense_targets(truth, rows, columns, factor))
    logits = heads.presence(tokens)
    presence_loss = F.binary_cross_entropy_with_logits(
        logits, presence, pos_weight=torch.full((heads.num_classes,), POSITIVE_WEIGHT, device=device)
    )
    predicted = heads.place(tokens).unflatten(-1, (heads.num_classes, 2))
    is_present = presence.bool()
    place_loss = (predicted - place).abs()[is_present].mean() if bool(is_present.any()) else predicted.sum() * 0
    last = stream[torch.arange(len(batch), device=device), batch.attention_mask.sum(dim=1) - 1]
    picture = torch.arange(num_pictures)
    target_index = torch.from_numpy(truth.target_index)
    is_shown = torch.from_numpy(truth.is_present)[picture, target_index].to(device)
    named_class = torch.from_numpy(truth.class_index)[picture, target_index].to(device)
    class_losses = F.cross_entropy(heads.named_class(last).view(num_pictures, -1), named_class, reduction="none")
    class_loss = _mean_where(class_losses, is_shown)
    size = torch.tensor([columns, rows], dtype=torch.float32, device=device) * factor
    estimate = torch.sigmoid(heads.target(last).view(num_pictures, 2)) * size
    target = torch.from_numpy(truth.pixel)[picture, target_index].to(device)
    distance = (estimate - target).norm(dim=-1)
    target_losses = F.smooth_l1_loss(estimate / factor, target / factor, beta=0.25, reduction="none").mean(dim=-1)
    target_loss = _mean_where(target_losses, is_shown)
    loss = presence_loss + place_loss + class_loss + 2.0 * target_loss
    return {
        "loss": loss,
        "presence": presence_loss.detach(),
        "place": place_loss.detach(),
        "named_class": class_loss.detach(),
        "target": target_loss.detach(),
        "target_error_px": _mean_where(distance, is_shown).detach(),
    }


def _mean_where(values: Tensor, is_counted: Tensor) -> Tensor:
    """Mean of the counted values, float32[]; 0, with a gradient of 0, if none is."""
    return values[is_counted].mean() if bool(is_counted.any()) else values.sum() * 0


def stream_before_last_layer(model: VLA, batch: Batch) -> Tensor:
    """float[B, L, hidden_size]: what enters the brain's last layer."""
    output = model.brain.model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=position_ids(model.brain, batch),
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        mm_token_type_ids=batch.mm_token_type_ids,
        use_cache=False,
        output_hidden_states=True,
    )
    assert output.hidden_states is not None
    return output.hidden_states[-2]


def dense_targets(truth: SceneTruth, rows: int, columns: int, factor: int) -> tuple[Tensor, Tensor]:
    """Per token and kind: presence float32[n, rows * columns, kinds] and place float32[..., 2].

    The place is the object's centre in the picture, (u, v) in units of tokens. It is absolute, so that a token that
    holds an object says where it is without reference to its own index. Objects outside the picture, or absent, leave
    no trace; of two of one kind in one token one counts.
    """
    num, num_objects = truth.is_present.shape
    pixel = torch.from_numpy(truth.pixel) / factor
    cell = pixel.floor().long()
    inside = torch.from_numpy(truth.is_present) & (cell[..., 0] >= 0) & (cell[..., 0] < columns)
    inside &= (cell[..., 1] >= 0) & (cell[..., 1] < rows)
    presence = torch.zeros(num, rows * columns, truth.num_classes)
    place = torch.zeros(num, rows * columns, truth.num_classes, 2)
    sample = torch.arange(num)[:, None].expand(num, num_objects)[inside]
    token = (cell[..., 1] * columns + cell[..., 0])[inside]
    kind = torch.from_numpy(truth.class_index)[inside]
    presence[sample, token, kind] = 1.0
    place[sample, token, kind] = pixel[inside]
    return presence, place
