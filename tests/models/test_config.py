from collections.abc import Callable

import pytest
import torch

from cerebella.models.config import MASK_DEFAULTS, MASK_VARIANTS, PRESETS, ModelConfig, preset
from cerebella.models.vla import VLA, parameter_table


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_json(name: str) -> None:
    config = preset(name)
    assert ModelConfig.from_json(config.to_json()) == config


def test_unknown_json_fields_are_named() -> None:
    with pytest.raises(ValueError, match="unknown model config fields: wings"):
        ModelConfig.from_json('{"wings": 2}')
    with pytest.raises(ValueError, match="incomplete"):
        ModelConfig.from_json('{"name": "half"}')


def test_the_released_size_is_exact() -> None:
    table = parameter_table(preset("xr0"))
    assert table.brain == 4_437_815_808
    assert table.cerebellum == 278_458_368
    assert table.num_cerebellum_tensors == 219
    assert table.total == 4_716_274_176


@pytest.mark.parametrize(("name", "millions"), [("micro", 3.2), ("nano", 5.4), ("tiny", 15.6), ("small", 150)])
def test_our_sizes_are_what_they_are_called(name: str, millions: float) -> None:
    assert parameter_table(preset(name)).total == pytest.approx(millions * 1e6, rel=0.02)


def test_the_table_counts_what_torch_counts() -> None:
    config = preset("micro")
    model = VLA(config)
    table = parameter_table(config)
    assert table.total == sum(parameter.numel() for parameter in model.parameters())
    assert table.parts["brain.visual"] == sum(p.numel() for p in model.brain.model.visual.parameters())


@pytest.mark.parametrize("name", ["micro", "nano", "tiny", "small"])
def test_special_tokens_are_the_last_of_the_vocabulary(name: str) -> None:
    brain = preset(name).brain
    ids = [brain[f"{token}_token_id"] for token in ("vision_start", "vision_end", "image", "video")]
    size = brain["text_config"]["vocab_size"]
    assert ids == [size - 4, size - 3, size - 2, size - 1]


def test_defaults_of_presets() -> None:
    assert {name: preset(name).horizon for name in PRESETS} == {
        "micro": 16,
        "nano": 16,
        "tiny": 16,
        "small": 30,
        "xr0": 30,
    }
    for name in PRESETS:
        config = preset(name)
        wanted = ("causal", 4, 0) if name == "xr0" else ("band", 4, 0)
        assert (config.mask_variant, config.mask_window, config.position_offset) == wanted


def test_wrong_names_list_the_right_ones() -> None:
    with pytest.raises(ValueError, match=r"'huge'.*micro, nano, tiny, small, xr0"):
        preset("huge")
    with pytest.raises(ValueError, match="wings"):
        preset("micro", wings=2)
    with pytest.raises(ValueError, match=r"'sparse'.*causal, band, lambda, full"):
        preset("micro", mask_variant="sparse")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_layers": 9}, "only 4 layers"),
        ({"head_dim": 64}, "multiple of|brain's head_dim"),
        ({"num_kv_heads": 2}, "brain's num_key_value_heads is 4"),
        ({"hidden_size": 96}, "hidden_size 96"),
        ({"horizon": 0}, "horizon must be an integer of 1 or more; got 0"),
        ({"position_offset": -1}, "position_offset"),
    ],
)
def test_a_config_that_cannot_work_is_refused(overrides: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset("micro", **overrides)


def test_with_mask_takes_the_rules_own_window_and_offset(make_config: Callable[..., ModelConfig]) -> None:
    config = make_config(mask_window=2)
    for variant in MASK_VARIANTS:
        changed = config.with_mask(variant)  # pyright: ignore[reportArgumentType]
        assert (changed.mask_window, changed.position_offset) == MASK_DEFAULTS[variant]
    assert config.with_mask("band", window=1, offset=0).mask_window == 1
    with pytest.raises(ValueError, match="'sparse'"):
        config.with_mask("sparse")  # pyright: ignore[reportArgumentType]


def test_small_presets_build_without_memory_surprises() -> None:
    with torch.device("meta"):
        model = VLA(preset("small"))
    assert model.config.num_heads == 8
