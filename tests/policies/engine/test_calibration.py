from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cerebella.policies.engine.calibration import MARGIN, calibrate, load_scales, save_scales
from cerebella.policies.engine.fp8 import FP8_MAX


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))


def test_the_largest_input_of_all_runs_counts() -> None:
    model = _model()
    inputs = [torch.randn(4, 16) * size for size in (1.0, 5.0, 2.0)]
    scales = calibrate(model, lambda: [model(x) for x in inputs])
    hidden = max(model[:2](x).abs().max().item() for x in inputs)
    assert scales["0"] == pytest.approx(MARGIN * max(x.abs().max().item() for x in inputs) / FP8_MAX)
    assert scales["2"] == pytest.approx(MARGIN * hidden / FP8_MAX)


def test_the_margin_scales_the_scale() -> None:
    model, x = _model(), torch.randn(4, 16)
    narrow, wide = (calibrate(model, lambda: model(x), margin) for margin in (1.0, 3.0))
    assert wide == pytest.approx({name: 3 * scale for name, scale in narrow.items()})


def test_layers_that_did_not_run_or_saw_zeros_are_absent() -> None:
    model = nn.ModuleDict({"used": nn.Linear(4, 4), "unused": nn.Linear(4, 4), "zero": nn.Linear(4, 4)})
    scales = calibrate(model, lambda: (model["used"](torch.ones(1, 4)), model["zero"](torch.zeros(1, 4))))
    assert list(scales) == ["used"]


def test_observers_leave_no_trace() -> None:
    model = _model()
    with pytest.raises(ZeroDivisionError):
        calibrate(model, lambda: 1 / 0)
    calibrate(model, lambda: model(torch.ones(1, 16)))
    assert not any(layer._forward_pre_hooks for layer in model)


class _Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(2 * x)


def test_a_compiled_model_is_observed_too() -> None:
    model = _Doubled()
    model.compile(fullgraph=True, backend="aot_eager")
    x = torch.ones(1, 16)
    with torch.no_grad():
        model(x)
    assert calibrate(model, lambda: model(x)) == {"linear": MARGIN * 2 / FP8_MAX}


def test_calibrating_something_else_is_an_error() -> None:
    model, other = _model(), _model()
    with pytest.raises(ValueError, match="none of the 2 linear layers ran"):
        calibrate(model, lambda: other(torch.ones(1, 16)))


def test_an_input_that_is_not_finite_is_named() -> None:
    model = _model()
    with pytest.raises(ValueError, match="layer '0' was inf"):
        calibrate(model, lambda: model(torch.full((1, 16), torch.inf)))


@pytest.mark.parametrize("margin", [0.5, float("nan"), float("inf")])
def test_a_margin_below_one_is_refused(margin: float) -> None:
    model = _model()
    with pytest.raises(ValueError, match="margin must be"):
        calibrate(model, lambda: model(torch.ones(1, 16)), margin)


@given(st.dictionaries(st.text(), st.floats(min_value=1e-300, allow_infinity=False)))
def test_scales_survive_the_file(tmp_path_factory: pytest.TempPathFactory, scales: dict[str, float]) -> None:
    path = tmp_path_factory.mktemp("scales") / "scales.json"
    save_scales(scales, path)
    assert load_scales(path) == scales


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1.0]", "must hold one object"),
        ('{"a": 0}', "scale of 'a' must be a positive finite number; got 0"),
        ('{"a": NaN}', "got nan"),
        ('{"a": true}', "got True"),
        ('{"a": "1"}', "got '1'"),
    ],
)
def test_a_damaged_scale_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scales.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_scales(path)
