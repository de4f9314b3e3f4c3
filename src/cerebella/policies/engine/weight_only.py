"""int8 and int4 weights through torchao: a smaller model, the same arithmetic.

Weights are stored small and widened for every product. That saves memory, not time: with a few hundred tokens in flight
the products are bound by arithmetic, not by reading weights.
"""

from typing import Literal

from torch import Tensor, nn

INT4_GROUP = 32
"""Weights that share one scale and one zero point: the smallest, so most exact, group that torchao's kernels take."""


def quantize_weight(linear: nn.Linear, scheme: Literal["int8", "int4"]) -> nn.Linear:
    """A new layer with the weight of `linear` in int8 (one scale a row) or int4 (one a group of 32); same bias.

    int4 is packed for the device where the weight lies and stays there: on CUDA in tinygemm tiles, which pad in_features
    to a multiple of 1024, on CPU in the order of the CPU kernel (`quantization.check_support` refuses other devices).

    Raises:
        ValueError: torchao is not installed.
    """
    result = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
    result.bias = linear.bias
    result.weight = nn.Parameter(
        _int8(linear.weight) if scheme == "int8" else _int4(linear.weight), requires_grad=False
    )
    return result


def _int8(weight: Tensor) -> Tensor:
    try:
        from torchao.quantization import Int8Tensor, PerRow  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(_MISSING) from error
    return Int8Tensor.from_hp(weight.detach(), PerRow())


def _int4(weight: Tensor) -> Tensor:
    block = [1, INT4_GROUP]
    try:
        if weight.device.type == "cpu":
            from torchao.prototype.quantization.int4 import Int4OpaqueTensor  # pyright: ignore[reportMissingImports]

            return Int4OpaqueTensor.from_hp(weight.detach(), block)
        from torchao.quantization import Int4TilePackedTo4dTensor  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(_MISSING) from error
    return Int4TilePackedTo4dTensor.from_hp(weight.detach(), block)


_MISSING = "int8 and int4 weights need torchao, which is not installed: pip install 'cerebella[quant]'"
