"""`Fp8Linear`: a linear layer that multiplies in float8, with a fixed scale for what comes in.

Weights are `float8_e4m3fn` with one scale per output channel, inputs `float8_e4m3fn` with one scale per layer. That scale
is measured once (`calibration.py`) and never again: the forward pass neither looks for a maximum nor asks the host, and a
CUDA graph can hold it. A static scale needs headroom, and float8 gives it nearly for free: relative precision
is the same from the largest number down to a 28 000th of it.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max
"""448. A cast beyond it gives NaN, not 448, so every cast here clamps first."""


class Fp8Linear(nn.Module):
    """y = x W^T + b with both factors rounded to float8 and the sum in float32.

    On CUDA one row-wise `torch._scaled_mm` (compute capability 8.9 or newer) that accumulates fast and leaves in bfloat16;
    anywhere else `reference`. Made by `quantization.quantize`, never trained.

    Attributes:
        weight: float8_e4m3fn[out_features, in_features]. bias: as in the layer it replaces, or None.
        output_scale: float32[1, out_features], scale of the input times scale of the weight row.
        inverse_input_scale: float32[].
    """

    weight: Tensor
    output_scale: Tensor
    inverse_input_scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, input_scale: float) -> None:
        """Round `weight`, float[out_features, in_features], finite, row by row.

        Args:
            input_scale: the number that float8 1.0 stands for at the input, > 0; see `calibration.calibrate`.

        Raises:
            ValueError: the scale is not a positive finite number.
        """
        super().__init__()
        if not 0.0 < input_scale < float("inf"):
            raise ValueError(f"input_scale must be a positive finite number; got {input_scale}")
        self.out_features, self.in_features = weight.shape
        with torch.no_grad():
            exact = weight.float()
            scale = exact.abs().amax(dim=1, keepdim=True) / FP8_MAX
            scale = scale.clamp(min=torch.finfo(torch.float32).tiny)  # a row of zeros stays zeros
            self.register_buffer("weight", (exact / scale).clamp(-FP8_MAX, FP8_MAX).to(FP8))
            self.register_buffer("output_scale", (scale * input_scale).T.contiguous())
            self.register_buffer("inverse_input_scale", torch.tensor(1.0 / input_scale, device=weight.device))
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """float[..., in_features] to float[..., out_features] of the same type; inputs beyond the scale saturate."""
        rows = self.round_input(x.reshape(-1, self.in_features))
        product = self.multiply(rows) if x.is_cuda else self.reference(rows)
        if self.bias is not None:
            product = product + self.bias
        return product.to(x.dtype).reshape(*x.shape[:-1], self.out_features)

    def round_input(self, x: Tensor) -> Tensor:
        """float[M, in_features] to contiguous float8_e4m3fn[M, in_features]: scaled, saturated at +-448. NaN stays NaN."""
        return (x.float() * self.inverse_input_scale).clamp(-FP8_MAX, FP8_MAX).to(FP8).contiguous()

    def multiply(self, rows: Tensor) -> Tensor:
        """The product by `torch._scaled_mm`: float8_e4m3fn[M, in_features] to bfloat16[M, out_features], no bias."""
        # Both scales sit in output_scale; the kernel wants one per row as well, and `torch.compile` merges equal fills.
        ones = torch.ones(rows.shape[0], 1, device=rows.device)
        return torch._scaled_mm(  # pyright: ignore[reportPrivateImportUsage]
            rows, self.weight.T, ones, self.output_scale, out_dtype=torch.bfloat16, use_fast_accum=rows.is_cuda
        )

    def reference(self, rows: Tensor) -> Tensor:
        """The same product, slow and exact to float32: float8_e4m3fn[M, in_features] to float32[M, out_features]."""
        return (rows.float() @ self.weight.float().T) * self.output_scale

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        """Let `.to(device)` through; `.to(dtype)` would turn the float8 weights into something else.

        Raises:
            ValueError: the layer was cast.
        """
        super()._apply(fn, recurse)
        if self.weight.dtype != FP8 or self.output_scale.dtype != torch.float32:
            raise ValueError(f"an fp8 layer cannot become {self.weight.dtype}: cast the model first, then quantise it")
        return self
