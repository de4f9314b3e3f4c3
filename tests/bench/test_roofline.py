"""The limit formula against figures that were worked out by hand for the released geometry."""

import pytest

from bench.measure.request import Geometry
from bench.measure.roofline import Ceilings, Phase, action_phase, limit_s, phases, training_flops
from cerebella.models.config import preset

RTX_4090 = Ceilings(165.2e12, 1.008e12)
H200 = Ceilings(790e12, 4.3e12)
WORKED_OUT = (
    # geometry, tokens, TFLOP of vision, language, action; 4090 ms, H200 ms
    ("1x224", 119, 0.133, 0.846, 0.087, 10.5, 2.47),
    ("2x224", 168, 0.267, 1.197, 0.088, 11.6, 2.62),
    ("3x224", 217, 0.400, 1.549, 0.089, 14.5, 3.11),
    ("2x256", 198, 0.352, 1.412, 0.088, 13.4, 2.87),
    ("3x256", 262, 0.527, 1.873, 0.089, 17.3, 3.68),
    ("3x320x256+85", 325, 0.665, 2.330, 0.090, 20.9, 4.44),
)


@pytest.mark.parametrize(("text", "tokens", "vision", "language", "action", "on_4090", "on_h200"), WORKED_OUT)
def test_the_released_geometry(
    text: str, tokens: int, vision: float, language: float, action: float, on_4090: float, on_h200: float
) -> None:
    config, geometry = preset("xr0"), Geometry.parse(text)
    found = phases(config, geometry)
    assert geometry.num_tokens(config) == tokens
    assert [phase.flops / 1e12 for phase in found] == pytest.approx([vision, language, action], rel=0.03)
    assert 1e3 * limit_s(found, RTX_4090) == pytest.approx(on_4090, rel=0.03)
    assert 1e3 * limit_s(found, H200) == pytest.approx(on_h200, rel=0.03)


def test_a_phase_is_bound_by_what_takes_longer() -> None:
    assert Phase("", 10.0, 1.0).limit_s(Ceilings(2.0, 1.0)) == 5.0
    assert Phase("", 1.0, 10.0).limit_s(Ceilings(2.0, 1.0)) == 10.0


def test_batches_share_weights_but_not_caches() -> None:
    config, geometry = preset("xr0"), Geometry.parse("2x224")
    one, eight = action_phase(config, geometry, 1), action_phase(config, geometry, 8)
    cache = 5 * 2 * 16 * 168 * 8 * 128 * 2
    assert eight.flops == pytest.approx(8 * one.flops)
    assert eight.num_bytes - one.num_bytes == pytest.approx(7 * cache)
    at_60_percent = 8 * 0.6 / limit_s(phases(config, geometry, 8), H200)
    assert at_60_percent == pytest.approx(305, rel=0.03)


def test_flow_steps_and_smaller_weights() -> None:
    config, geometry = preset("xr0"), Geometry.parse("3x320x256+85")
    none_but_state = action_phase(config, geometry, num_flow_steps=0)
    one, five = (action_phase(config, geometry, num_flow_steps=n) for n in (1, 5))
    assert five.flops - none_but_state.flops == pytest.approx(5 * (one.flops - none_but_state.flops))
    fp8 = phases(config, geometry, bytes_per_weight=1.0)
    assert 1e3 * limit_s(fp8, Ceilings(330e12, 1.008e12)) == pytest.approx(10.5, rel=0.03)


def test_training_costs_three_forward_passes_where_it_trains() -> None:
    config, geometry = preset("xr0"), Geometry.parse("2x224")
    assert training_flops(config, geometry, 4, trains_brain=True) / 1e12 == pytest.approx(4.70, rel=0.03)
    assert training_flops(config, geometry, 4, trains_brain=False) / 1e12 == pytest.approx(1.7, rel=0.03)
