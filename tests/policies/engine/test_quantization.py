import sys
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cerebella.batch import Batch
from cerebella.models.config import preset
from cerebella.models.vla import VLA
from cerebella.policies.engine import Engine, EngineConfig
from cerebella.policies.engine.calibration import calibrate
from cerebella.policies.engine.fp8 import FP8, Fp8Linear
from cerebella.policies.engine.quantization import Scheme, check_support, keep_ends, parts, quantize
from cerebella.policies.engine.weight_only import INT4_GROUP

SCHEMES: tuple[Scheme, ...] = ("fp8", "int8", "int4")
COSINE = {"fp8": 0.999, "int8": 0.9999, "int4": 0.99}
WIDTH = 64


def _require(scheme: str) -> None:
    if scheme == "fp8":
        return
    pytest.importorskip("torchao", reason="torchao (extra `quant`) is not installed")
    kernel = "aten::_weight_int4pack_mm_for_cpu"
    if scheme == "int4" and not torch._C._dispatch_has_kernel_for_dispatch_key(kernel, "CPU"):
        pytest.skip(f"this build of torch has no {kernel} for the CPU")


class _Layer(nn.Module):
    """Attention and SwiGLU, as in the brain and the cerebellum."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate_up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(F.rms_norm(x, (WIDTH,))).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        gate, up = self.gate_up(F.rms_norm(x, (WIDTH,))).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class _Stack(nn.Module):
    def __init__(self, num_layers: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer() for _ in range(num_layers))
        self.head = nn.Linear(WIDTH, 20)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def _stack(seed: int = 0) -> _Stack:
    torch.manual_seed(seed)
    return _Stack().eval().requires_grad_(False)


def _input(seed: int = 1) -> Tensor:
    return torch.randn(2, 9, WIDTH, generator=torch.Generator().manual_seed(seed))


def _scales(module: nn.Module, scheme: str, x: Tensor) -> dict[str, float] | None:
    return calibrate(module, lambda: module(x)) if scheme == "fp8" else None


def _keep_none(*_: object) -> None:
    return None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_stack_keeps_its_direction(scheme: Scheme) -> None:
    _require(scheme)
    model, x = _stack(), _input()
    exact = model(_input(7))
    quantize(model, scheme, _keep_none, _scales(model, scheme, x))
    assert F.cosine_similarity(model(_input(7)).flatten(), exact.flatten(), dim=0) > COSINE[scheme]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.floats(-1.0, 4.0))
def test_int8_rounds_each_weight_by_half_a_step(seed: int, power: float) -> None:
    _require("int8")
    weight, y, x = _product("int8", seed, power)
    step = weight.abs().amax(dim=1) / 127.5
    bound = x.abs().sum(dim=1, keepdim=True) * step / 2
    exact = x @ weight.T
    assert bool(((y - exact).abs() <= 1.01 * bound + 1e-5 * (x.abs() @ weight.abs().T)).all())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.floats(-1.0, 4.0))
def test_int4_rounds_each_weight_by_half_a_step_of_its_group(seed: int, power: float) -> None:
    _require("int4")
    weight, y, x = _product("int4", seed, power)
    groups = weight.unflatten(1, (-1, INT4_GROUP))
    step = (groups.amax(dim=2) - groups.amin(dim=2)) / 15
    bound = x.abs().unflatten(1, (-1, INT4_GROUP)).sum(dim=2) @ (step / 2).T
    exact = x @ weight.T
    assert bool(((y - exact).abs() <= 1.01 * bound + 1e-5 * (x.abs() @ weight.abs().T)).all())


def _product(scheme: Scheme, seed: int, power: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 64, generator=generator)
    weight = torch.randn(32, 64, generator=generator) * 10 ** (power + torch.rand(32, 1, generator=generator))
    model = nn.Sequential(nn.Linear(64, 32, bias=False))
    model[0].weight = nn.Parameter(weight, requires_grad=False)
    quantize(model, scheme, _keep_none)
    return weight, model(x), x


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rows_of_zeros_stay_zeros(scheme: Scheme) -> None:
    _require(scheme)
    model, x = _stack(), _input()
    model.get_parameter("layers.0.qkv.weight")[5] = 0.0
    bias = model.get_parameter("layers.0.qkv.bias")[5].clone()
    quantize(model, scheme, _keep_none, _scales(model, scheme, x))
    qkv = model.get_submodule("layers.0.qkv")
    torch.testing.assert_close(qkv(x)[..., 5], bias.expand(2, 9), rtol=0, atol=1e-7)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_compiles_in_one_piece_to_the_same_numbers(scheme: Scheme) -> None:
    _require(scheme)
    model, x = _stack(), _input()
    quantize(model, scheme, scales=_scales(model, scheme, x))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_report_names_every_layer_and_its_bytes(scheme: Scheme) -> None:
    _require(scheme)
    model, x = _stack(), _input()
    linears = {name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    before = sum(parameter.numel() * 4 for parameter in model.parameters())
    report = quantize(model, scheme, scales=_scales(model, scheme, x))
    assert report.bytes_before == before
    assert set(report.quantized) | set(report.kept) == linears
    assert {name.rsplit(".", 1)[0] for name in report.quantized} == {"layers.1", "layers.2"}
    assert report.kept["head"] == "out_features 20 is not a multiple of 16"
    assert report.kept["layers.0.qkv"] == "first of layers"
    assert report.kept["layers.3.down"] == "last of layers"
    num_weights = 2 * (3 + 1 + 4 + 2) * WIDTH**2
    num_rows = 2 * (3 + 1 + 4 + 1) * WIDTH
    saved = {
        "fp8": 3 * num_weights - 4 * num_rows - 8 * 4,  # a scale a row, one number a layer
        "int8": 3 * num_weights - 5 * num_rows,  # a scale and a zero point a row
        "int4": 7 * num_weights // 2 - 8 * num_weights // INT4_GROUP,  # a scale and a zero point a group
    }
    assert report.bytes_before - report.bytes_after == saved[scheme]
    assert str(report).startswith(f"{scheme}: 8 linear layers quantised, 9 kept; ")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_kept_layers_and_the_model_it_came_from_are_untouched(scheme: Scheme) -> None:
    _require(scheme)
    original, x = _stack(), _input()
    shared = _stack(seed=9)
    for parameter, source in zip(shared.parameters(), original.parameters(), strict=True):
        parameter.data = source.data
    state = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    report = quantize(shared, scheme, scales=_scales(shared, scheme, x))
    assert all(torch.equal(tensor, state[name]) for name, tensor in original.state_dict().items())
    for name in report.kept:
        layer = shared.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        assert layer.weight.data_ptr() == original.get_submodule(name).get_parameter("weight").data_ptr()


class _Watch(TorchDispatchMode):
    """How many of the old weights are alive each time a new one is rounded."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.weights = [weakref.ref(weight) for weight in weights]
        self.alive: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == FP8:
            self.alive.append(sum(weight() is not None for weight in self.weights))
        return result


def test_old_weights_go_one_by_one() -> None:
    model, x = _stack(), _input()
    scales = _scales(model, "fp8", x)
    names = [name for name in scales or {} if name != "head"]
    with _Watch([model.get_submodule(name).get_parameter("weight") for name in names]) as watch:
        quantize(model, "fp8", _keep_none, scales)
    assert watch.alive == list(range(len(names), 0, -1))


def test_a_static_scale_does_not_follow_larger_inputs() -> None:
    model, x = _stack(), _input()
    quantize(model, "fp8", _keep_none, _scales(model, "fp8", x))
    layer = model.get_submodule("layers.0.qkv")
    assert isinstance(layer, Fp8Linear)
    before = layer(x).clone()
    assert bool(model(1e4 * x).isfinite().all())
    torch.testing.assert_close(layer(1e6 * x.sign()), layer(1e9 * x.sign()))  # both saturate everywhere
    assert torch.equal(layer(x), before)


def test_fp8_without_scales_is_an_error_that_says_what_to_do() -> None:
    model, x = _stack(), _input()
    with pytest.raises(ValueError, match="run `calibrate` first"):
        quantize(model, "fp8")
    scales = calibrate(model, lambda: model.layers[1](x))
    with pytest.raises(ValueError, match=r"no input scale for 4 of 8 layers \(first: layers.2.qkv\)"):
        quantize(model, "fp8", scales=scales)
    scales = calibrate(model, lambda: model(x)) | {"layers.2.down": -1.0}
    with pytest.raises(ValueError, match=r"scale of layer 'layers.2.down' must be a positive finite number; got -1.0"):
        quantize(model, "fp8", scales=scales)
    assert all(isinstance(model.get_submodule(name), nn.Linear) for name in scales)


def test_what_makes_no_sense_is_refused() -> None:
    model = _stack()
    with pytest.raises(ValueError, match="scheme is 'int3'; known: fp8, int8, int4"):
        quantize(model, "int3")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="int8 has no scales"):
        quantize(model, "int8", scales={})
    with pytest.raises(ValueError, match="all 17 linear layers are kept"):
        quantize(model, "int8", lambda *_: "because")
    with pytest.raises(ValueError, match=r"starts from float32 or bfloat16 weights; got torch.float64"):
        quantize(_stack().double(), "int8")
    model.get_parameter("layers.1.down.weight")[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"weight of layer 'layers.1.down' is not finite"):
        quantize(model, "int8")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_quantising_twice_is_refused(scheme: Scheme) -> None:
    _require(scheme)
    model, x = _stack(), _input()
    scales = _scales(model, scheme, x)
    quantize(model, scheme, scales=scales)
    with pytest.raises(ValueError, match=r"'layers.1.qkv' is quantised already"):
        quantize(model, scheme, scales=scales)


def test_a_missing_torchao_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ValueError, match=r"pip install 'cerebella\[quant\]'"):
        quantize(_stack(), "int8")


@pytest.mark.parametrize(
    ("scheme", "device", "dtype", "capability", "message"),
    [
        ("fp8", "cuda", torch.bfloat16, (8, 6), r"compute capability 8.9 or newer; this one has 8.6: take int8"),
        ("int4", "cuda", torch.bfloat16, (7, 5), r"8.0 or newer; this one has 7.5"),
        ("int4", "cuda", torch.float32, (9, 0), r"starts from bfloat16 weights; got torch.float32"),
        ("int8", "mps", torch.float32, None, r"runs on cpu and cuda; the weights are on mps"),
        ("int8", "meta", torch.float32, None, r"on meta"),
        ("int8", "cpu", torch.float16, None, r"got torch.float16"),
    ],
)
def test_what_has_no_kernel_is_refused(
    scheme: Scheme, device: str, dtype: torch.dtype, capability: tuple[int, int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_support(scheme, device, dtype, capability)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_current_gpus_and_cpus_are_supported(scheme: Scheme) -> None:
    for capability in ((8, 9), (9, 0), (12, 0)):
        check_support(scheme, "cuda", torch.bfloat16, capability)
    check_support(scheme, "cpu", torch.float32, None)


@pytest.fixture
def nano() -> tuple[Engine, Batch]:
    """An engine of a random `nano`, and two pictures with five words."""
    torch.manual_seed(0)
    config = preset("nano")
    model = VLA(config).eval()
    start, end, image, _ = range(1020, 1024)
    input_ids = torch.tensor([[5, start, *[image] * 16, end, start, *[image] * 16, end, 10, 11, 12, 13, 14]])
    batch = Batch(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        mm_token_type_ids=(input_ids == image).long(),
        pixel_values=torch.randn(2 * 64, 3 * 2 * 8 * 8),
        image_grid_thw=torch.tensor([[1, 8, 8]] * 2),
        state=torch.randn(1, 1, config.state_dim),
        action_mask=torch.ones(1, config.horizon, config.action_dim),
    )
    return Engine(model, config=EngineConfig()), batch


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_quantised_engine_acts_almost_as_before(scheme: Scheme, nano: tuple[Engine, Batch]) -> None:
    _require(scheme)
    engine, batch = nano
    noise = torch.randn(batch.action_mask.shape, generator=torch.Generator().manual_seed(1))

    def act() -> Tensor:
        return engine.sample(engine.encode(batch), batch.state, noise, batch.action_mask)

    moved, tree = act() - noise, parts(engine)
    scales = calibrate(tree, act) if scheme == "fp8" else None
    report = quantize(tree, scheme, scales=scales)
    engine.forget_sessions()
    assert F.cosine_similarity((act() - noise).flatten(), moved.flatten(), dim=0) > COSINE[scheme]
    assert isinstance(engine.language.layers[1].get_submodule("qkv"), Fp8Linear) == (scheme == "fp8")
    assert report.bytes_after < 0.7 * report.bytes_before


def test_the_ends_of_an_engine_are_kept(nano: tuple[Engine, Batch]) -> None:
    tree = parts(nano[0])
    rule = keep_ends(tree)
    kept = {name for name, layer in tree.named_modules() if isinstance(layer, nn.Linear) and rule(name, layer)}
    assert {"vision.patch", "vision.blocks.0.qkv", "vision.blocks.2.down", "language.layers.0.out"} <= kept
    assert {"language.last_kv", "action.layers.0.qkv", "action.layers.3.down", "action.output.second"} <= kept
    assert not kept & {"vision.blocks.1.up", "language.layers.1.qkv", "language.layers.2.qkv", "action.layers.2.out"}
    assert {name for name in kept if "time_" in name} == {
        "action.time_embedder.mlp.0",
        "action.time_embedder.mlp.2",
        "action.time_projector.layers.0",
    }
