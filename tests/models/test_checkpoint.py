import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cerebella.models.checkpoint import (
    from_released,
    load_weights,
    read_released_config,
    save_released,
    to_released,
)
from cerebella.models.vla import VLA

GOLDEN = Path(__file__).parents[1] / "golden" / "xr0-tiny"
GOLDEN_CONFIG, GOLDEN_WEIGHTS = (GOLDEN.with_name(f"xr0-tiny.{end}") for end in ("config.json", "weights.safetensors"))
MakeModel = Callable[..., VLA]


def test_our_names_are_the_released_names(make_model: MakeModel) -> None:
    with safe_open(GOLDEN_WEIGHTS, framework="pt") as released:
        names = set(released.keys())
    ours = {name for name in VLA(read_released_config(GOLDEN_CONFIG)).state_dict() if "lm_head" not in name}
    assert {from_released(name) for name in names} == ours
    assert {to_released(name) for name in ours} == names
    assert {from_released(name) for name in ours} == ours


def test_weights_survive_a_round_trip(make_model: MakeModel, tmp_path: Path) -> None:
    model, other = make_model(), make_model()
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    save_released(model, tmp_path / "model.safetensors", torch.float32)
    load_weights(other, tmp_path)
    for (name, one), two in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert other.brain.lm_head.weight is other.brain.model.get_input_embeddings().weight


def test_our_own_names_load_too(make_model: MakeModel, tmp_path: Path) -> None:
    model, other = make_model(), make_model()
    torch.nn.init.zeros_(other.cerebellum.sink.weight)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if "lm_head" not in name}
    save_file(weights, tmp_path / "ours.safetensors")
    load_weights(other, tmp_path / "ours.safetensors")
    assert torch.equal(other.cerebellum.sink.weight, model.cerebellum.sink.weight)


def test_shards_are_found_through_their_index(make_model: MakeModel, tmp_path: Path) -> None:
    model, other = make_model(), make_model()
    torch.nn.init.zeros_(other.cerebellum.sink.weight)
    save_released(model, tmp_path / "whole.safetensors", torch.float32)
    weights = sorted(load_file(tmp_path / "whole.safetensors").items())
    shards = {"model-1.safetensors": dict(weights[::2]), "model-2.safetensors": dict(weights[1::2])}
    for file, tensors in shards.items():
        save_file(tensors, tmp_path / file)
    index = {"weight_map": {name: file for file, tensors in shards.items() for name in tensors}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    load_weights(other, tmp_path)
    assert torch.equal(other.cerebellum.sink.weight, model.cerebellum.sink.weight)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-2\.safetensors is missing"):
        load_weights(other, tmp_path)


def test_every_misfit_is_listed(make_model: MakeModel, tmp_path: Path) -> None:
    model, path = make_model(), tmp_path / "model.safetensors"
    save_released(model, path)
    weights = load_file(path)
    del weights["sink.weight"]
    weights["dit.wings"] = torch.zeros(1)
    weights["dit.layers.1.attn.q_norm.weight"] = torch.zeros(3)
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"does not fit") as error:
        load_weights(model, path)
    for misfit in ("missing sink.weight", "unexpected dit.wings", "q_norm.weight is [3], the model has [32]"):
        assert misfit in str(error.value)


def test_released_config_becomes_ours() -> None:
    config = read_released_config(GOLDEN_CONFIG)
    assert (config.hidden_size, config.num_layers, config.horizon, config.num_flow_steps) == (64, 3, 10, 5)
    assert (config.mask_variant, config.position_offset) == ("causal", 0)
    assert config.rope_theta == 5e6


def test_a_published_number_type_does_not_change_the_models(tmp_path: Path) -> None:
    fields = json.loads(GOLDEN_CONFIG.read_text())
    fields["vlm_config"]["text_config"]["dtype"] = "bfloat16"
    fields["vlm_config"]["dtype"] = "bfloat16"
    (tmp_path / "config.json").write_text(json.dumps(fields))
    model = VLA(read_released_config(tmp_path))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_config_that_is_not_released_is_refused(tmp_path: Path) -> None:
    fields = json.loads(GOLDEN_CONFIG.read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in fields.items() if k != "dit_config"}))
    with pytest.raises(ValueError, match=r"dit_config.* is missing"):
        read_released_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(fields | {"state_length": 4}))
    with pytest.raises(ValueError, match="state_length is 4"):
        read_released_config(tmp_path)
