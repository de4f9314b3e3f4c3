from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cerebella.policies.engine.fp8 import FP8, FP8_MAX, Fp8Linear

ROUNDING = 2.0**-4  # half a step of a 3-bit mantissa, relative
SMALLEST = 2.0**-10  # half a step below the smallest normal number, in units of the scale


def _layer(
    num_out: int = 48, num_in: int = 64, bias: bool = True, input_scale: float = 0.01, seed: int = 0
) -> Fp8Linear:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(num_out, num_in, generator=generator)
    return Fp8Linear(weight, torch.randn(num_out, generator=generator) if bias else None, input_scale)


def _bound(x: Tensor, weight: Tensor, input_scale: float) -> Tensor:
    """The largest possible error of a product whose factors were rounded to float8."""
    weight_scale = weight.abs().amax(dim=1, keepdim=True) / FP8_MAX
    x_error = ROUNDING * x.abs() + SMALLEST * input_scale
    weight_error = ROUNDING * weight.abs() + SMALLEST * weight_scale
    return x_error @ weight.abs().T + x.abs() @ weight_error.T + x_error @ weight_error.T


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.floats(-6.0, 6.0), st.floats(-6.0, 6.0), st.floats(1.0, 8.0))
def test_the_error_stays_within_that_of_rounding(seed: int, x_power: float, weight_power: float, margin: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(7, 32, generator=generator) * 10**x_power
    spread = 10 ** (weight_power + torch.randn(16, 1, generator=generator))  # rows of very different size
    weight = torch.randn(16, 32, generator=generator) * spread
    input_scale = x.abs().max().item() * margin / FP8_MAX
    y = Fp8Linear(weight, None, input_scale)(x)
    exact = x @ weight.T
    assert bool(((y - exact).abs() <= _bound(x, weight, input_scale) + 1e-5 * exact.abs()).all())


def test_random_products_keep_their_direction() -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(64, 256, generator=generator), torch.randn(128, 256, generator=generator)
    y = Fp8Linear(weight, None, 2 * x.abs().max().item() / FP8_MAX)(x)
    assert torch.cosine_similarity(y.flatten(), (x @ weight.T).flatten(), dim=0) > 0.999


def test_the_reference_equals_torchs_own_float8_product() -> None:
    layer = _layer()
    rows = layer.round_input(torch.randn(9, 64, generator=torch.Generator().manual_seed(2)))
    independent = layer.multiply(rows)
    assert independent.dtype == torch.bfloat16
    torch.testing.assert_close(layer.reference(rows).bfloat16(), independent, rtol=2**-7, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9), reason="needs a GPU with float8 units"
)
def test_the_gpu_product_equals_the_reference() -> None:
    layer = _layer(256, 512).to("cuda")
    rows = layer.round_input(torch.randn(168, 512, device="cuda"))
    fast, reference = layer.multiply(rows).float(), layer.reference(rows)
    assert torch.cosine_similarity(fast.flatten(), reference.flatten(), dim=0) > 0.99995


def test_the_gpu_path_has_the_layouts_its_kernel_wants_and_no_host_synchronisation() -> None:
    # Fake CUDA tensors run the kernel's own shape, stride and type checks; reading a value back raises.
    with FakeTensorMode(), torch.device("cuda"):
        layer = Fp8Linear(torch.empty(48, 64, dtype=torch.bfloat16), torch.empty(48, dtype=torch.bfloat16), 0.1)
        y = layer(torch.empty(2, 5, 64, dtype=torch.bfloat16))
        assert (y.shape, y.dtype, y.device.type) == ((2, 5, 48), torch.bfloat16, "cuda")
        layer.output_scale = layer.output_scale.T
        with pytest.raises(RuntimeError, match="scal"):
            layer(torch.empty(2, 5, 64, dtype=torch.bfloat16))


def test_a_transposed_input_reaches_the_kernel_row_by_row() -> None:
    layer, x = _layer(), torch.randn(64, 5, generator=torch.Generator().manual_seed(6))
    assert layer.round_input(x.T).is_contiguous()
    assert torch.equal(layer(x.T), layer(x.T.contiguous()))


def test_inputs_beyond_the_scale_saturate() -> None:
    layer = _layer(bias=False, input_scale=1.0)
    largest = torch.full((1, 64), FP8_MAX)
    beyond = torch.tensor([1e3, 1e30, torch.inf])[:, None].expand(3, 64)
    assert bool(layer(beyond).isfinite().all())
    torch.testing.assert_close(layer(beyond), layer(largest).expand(3, -1))
    torch.testing.assert_close(layer(-beyond), -layer(largest).expand(3, -1))


def test_an_outlier_does_not_change_how_others_are_rounded() -> None:
    layer = _layer(bias=False)
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(3))
    with_outlier = torch.cat([x, torch.full((1, 64), 1e4)])
    assert torch.equal(layer.round_input(with_outlier)[:4].float(), layer.round_input(x).float())


def test_nan_is_not_hidden() -> None:
    assert bool(_layer()(torch.full((1, 64), torch.nan)).isnan().all())


def test_rows_of_zeros_and_of_tiny_numbers_give_no_nan() -> None:
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(4))
    weight[3], weight[5] = 0.0, 1e-42
    y = Fp8Linear(weight, None, 0.01)(torch.ones(2, 32))
    assert bool(y.isfinite().all())
    assert bool((y[:, 3] == 0).all())
    assert bool((y[:, 5].abs() < 1e-35).all())


def test_the_type_of_the_input_comes_out() -> None:
    layer = _layer()
    for dtype in (torch.float32, torch.bfloat16):
        assert layer(torch.ones(2, 3, 64, dtype=dtype)).dtype == dtype


class _Reads(TorchDispatchMode):
    """Counts operators that read a value back to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.num_reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_nothing_is_read_back() -> None:
    layer, x = _layer(), torch.ones(3, 64)
    with _Reads() as reads:
        layer(x)
        assert reads.num_reads == 0
        x.sum().item()
        assert reads.num_reads == 1


def test_it_compiles_in_one_piece_to_the_same_numbers() -> None:
    model = nn.Sequential(_layer(64, 64), nn.SiLU(), _layer(48, 64, bias=False))
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(5))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), model(x))


def test_moving_is_allowed_and_casting_refused() -> None:
    layer = _layer()
    assert layer.to("cpu").weight.dtype == FP8
    with pytest.raises(ValueError, match=r"cannot become torch.bfloat16.*cast the model first"):
        layer.to(torch.bfloat16)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_positive_and_finite(scale: float) -> None:
    with pytest.raises(ValueError, match="positive finite"):
        _layer(input_scale=scale)
