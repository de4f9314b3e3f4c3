"""What of a batch is known before any number is computed: sizes, where the pictures are, rotary positions. NumPy, on the host.

The readable model finds all this out in the middle of its pass, which costs host synchronisation; here it is done once,
before, so that everything after it has static shapes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cerebella.batch import Batch

Grid = tuple[int, int]
"""Height and width of one picture, in patches."""


@dataclass(frozen=True)
class Layout:
    """The key of everything that is compiled or captured: two batches of one layout run through one graph.

    Args:
        batch_size: B. length: text and image tokens per sample, padded up to a bucket (L).
        grids: of all pictures of the batch, in order.
    """

    batch_size: int
    length: int
    grids: tuple[Grid, ...]

    @property
    def num_patches(self) -> int:
        """Patches of all pictures, the rows of `pixel_values`."""
        return sum(height * width for height, width in self.grids)


@dataclass(frozen=True, eq=False)
class Plan:
    """One batch, laid out; tensors on the CPU.

    Args:
        image_index: int64[N], where the image tokens sit in the flattened [B * L] tokens, in order.
        positions: int64[3, B, L], rotary positions (time, height, width); they count on behind the real tokens.
        last_position: int64[B], the largest position of the real tokens.
    """

    layout: Layout
    image_index: Tensor
    positions: Tensor
    last_position: Tensor


def plan(batch: Batch, merge_size: int, bucket: int) -> Plan:
    """Lay a batch out.

    Args:
        batch: on the CPU, right padded. merge_size: patches per token along each side. bucket: lengths are padded up to a
            multiple of this.

    Raises:
        ValueError: padding on the left, or the pictures do not match the image tokens of the text.
    """
    lengths = batch.attention_mask.sum(dim=1).tolist()
    is_image = batch.mm_token_type_ids.numpy() != 0
    batch_size, width = is_image.shape
    if not bool((batch.attention_mask == (torch.arange(width) < torch.tensor(lengths)[:, None])).all()):
        raise ValueError("the tokens of a batch must be padded on the right")
    grids = _grids(batch)
    length = -(-width // bucket) * bucket
    positions = np.empty((3, batch_size, length), dtype=np.int64)
    last_position = np.empty(batch_size, dtype=np.int64)
    image_index: list[NDArray[np.int64]] = []
    next_grid = 0
    for sample in range(batch_size):
        token = position = 0
        for start, end in _runs(is_image[sample]):
            if next_grid == len(grids):
                raise ValueError(f"sample {sample} has more image tokens than pictures ({len(grids)} in this batch)")
            height, width_ = (side // merge_size for side in grids[next_grid])
            if end - start != height * width_:
                raise ValueError(
                    f"sample {sample}: {end - start} image tokens for picture {next_grid}, which has {height * width_} "
                    f"({height} x {width_})"
                )
            positions[:, sample, token:start] = np.arange(position, position + start - token)
            position += start - token
            positions[0, sample, start:end] = position
            positions[1, sample, start:end] = position + np.repeat(np.arange(height), width_)
            positions[2, sample, start:end] = position + np.tile(np.arange(width_), height)
            image_index.append(np.arange(start, end) + sample * length)
            token, position, next_grid = end, position + max(height, width_), next_grid + 1
        positions[:, sample, token:] = np.arange(position, position + length - token)
        last_position[sample] = positions[:, sample, : lengths[sample]].max()
    if next_grid != len(grids):
        raise ValueError(f"the batch has {len(grids)} pictures, but image tokens for {next_grid}")
    return Plan(
        layout=Layout(batch_size, length, grids),
        image_index=torch.from_numpy(np.concatenate(image_index) if image_index else np.empty(0, dtype=np.int64)),
        positions=torch.from_numpy(positions),
        last_position=torch.from_numpy(last_position),
    )


def pad_to(tokens: Tensor, length: int) -> Tensor:
    """int64[B, l] -> int64[B, length], zeros on the right."""
    return torch.nn.functional.pad(tokens, (0, length - tokens.shape[1]))


def patch_coordinates(grids: tuple[Grid, ...], merge_size: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Row and column of every patch of every picture, in the order of `pixel_values` (merge block by merge block)."""
    coordinates = []
    for height, width in grids:
        row, column = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        blocks = (height // merge_size, merge_size, width // merge_size, merge_size)
        in_blocks = [axis.reshape(blocks).swapaxes(1, 2).reshape(-1) for axis in (row, column)]
        coordinates.append((in_blocks[0], in_blocks[1]))
    return coordinates


def _grids(batch: Batch) -> tuple[Grid, ...]:
    if batch.image_grid_thw is None:
        return ()
    grids = [tuple(row) for row in batch.image_grid_thw.tolist()]
    if any(frames != 1 for frames, _, _ in grids):
        raise ValueError(f"only still pictures, one frame each, are supported; got grids {grids}")
    return tuple((height, width) for _, height, width in grids)


def _runs(is_image: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end of every run of image tokens."""
    edges = np.flatnonzero(np.diff(is_image.astype(np.int8), prepend=0, append=0))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
