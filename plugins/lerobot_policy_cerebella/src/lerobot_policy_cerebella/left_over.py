"""What a policy may take from LeRobot's real-time chunking: which rows of the running chunk are committed."""

import torch
from torch import Tensor


def committed_rows(delay: int | None, left_over: Tensor | None, shape: tuple[int, int], longest: int) -> list[Tensor]:
    """The action prefix of every sample: the rows that will be sent before the new chunk is used.

    LeRobot cuts or fills its left-over to a fixed number of rows, and fills with zeros. A zero is a target like any other
    here, so rows of nothing but zeros at the end are taken for filling and dropped. Where the real rows end before the delay
    does, the robot will hold the last of them, so that row is repeated.

    Args:
        delay: rows; None and 0 are no prefix. left_over: float[T, n] or float[B, T, n], or None.
        shape: (B, n). longest: rows that a prefix may have.

    Returns:
        B tensors float32[p, n] on the CPU, p of 0 to `longest`.

    Raises:
        ValueError: a negative delay, or another shape.
    """
    if delay is not None and delay < 0:
        raise ValueError(f"inference_delay must be 0 or more rows; got {delay}")
    num_samples, width = shape
    if left_over is None:
        return [torch.zeros(0, width)] * num_samples
    rows = left_over.detach().to("cpu", torch.float32)
    rows = rows.expand(num_samples, *rows.shape) if rows.ndim == 2 else rows
    if rows.ndim != 3 or (len(rows), rows.shape[-1]) != shape:
        raise ValueError(
            f"prev_chunk_left_over must be float[T, {width}] or float[{num_samples}, T, {width}]; got {list(left_over.shape)}"
        )
    return [_prefix(each, min(delay or 0, longest)) for each in rows]


def _prefix(rows: Tensor, num_rows: int) -> Tensor:
    is_real = rows.ne(0).any(dim=-1).nonzero()
    num_real = int(is_real.max()) + 1 if len(is_real) else 0
    if not num_real:
        return rows[:0]
    wanted = torch.arange(num_rows).clamp(max=num_real - 1)
    return rows[wanted]
