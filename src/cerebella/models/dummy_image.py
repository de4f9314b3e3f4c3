"""A blank picture for a batch that has none, so that every rank runs the vision tower.

Sharded weights are gathered by all ranks together: one that skips the vision tower, because its samples are text only,
leaves the others waiting for ever. The picture lies in columns that the attention mask hides, so no number of any other
token changes and its own gradient is exactly zero.
"""

from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F

from cerebella.batch import NOT_COUNTED, BrainInput, VisionLanguageBatch
from cerebella.models.config import ModelConfig

AnyBatch = TypeVar("AnyBatch", bound=BrainInput)


def with_dummy_image(batch: AnyBatch, config: ModelConfig) -> AnyBatch:
    """The batch itself if it has an image, else with one black image token in hidden columns behind every row.

    Costs one merged patch in the vision tower and three columns. Labels, where there are any, do not count there.
    """
    if batch.pixel_values is not None:
        return batch
    vision, num_samples, device = config.brain["vision_config"], len(batch), batch.input_ids.device
    merge = vision["spatial_merge_size"]
    columns = torch.zeros(num_samples, 3, dtype=torch.int64, device=device)
    ids, kinds = columns.clone(), columns.clone()
    ids[-1] = torch.tensor(
        [config.brain["vision_start_token_id"], config.brain["image_token_id"], config.brain["vision_end_token_id"]]
    )
    kinds[-1, 1] = 1
    patch_width = 3 * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    longer = replace(
        batch,
        input_ids=torch.cat([batch.input_ids, ids], dim=1),
        attention_mask=torch.cat([batch.attention_mask, columns], dim=1),
        mm_token_type_ids=torch.cat([batch.mm_token_type_ids, kinds], dim=1),
        pixel_values=torch.zeros(merge**2, patch_width, device=device),
        image_grid_thw=torch.tensor([[1, merge, merge]], device=device),
    )
    if isinstance(longer, VisionLanguageBatch):
        return replace(longer, labels=F.pad(longer.labels, (0, 3), value=NOT_COUNTED))
    return longer
