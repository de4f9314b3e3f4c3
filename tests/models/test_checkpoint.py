import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cerebella.models.checkpoint import (
    config_from_brain,
    from_released,
    load_brain,
    load_weights,
    read_released_config,
    save_weights,
    to_released,
)
from cerebella.models.config import MaskVariant
from cerebella.models.published import released_fields
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
    save_weights(model, tmp_path, torch.float32)
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


@pytest.mark.parametrize("names", ["released", "ours"])
def test_large_weights_become_shards_with_an_index(
    make_model: MakeModel, tmp_path: Path, names: Literal["released", "ours"]
) -> None:
    model, other = make_model(), make_model()
    torch.nn.init.zeros_(other.cerebellum.sink.weight)
    save_weights(model, tmp_path, torch.float32, names)
    save_weights(model, tmp_path, torch.float32, names, max_shard_size="100KB")
    shards = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"  # the single file of before is gone
    stored = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    total = json.loads((tmp_path / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    assert total == 4 * sum(p.numel() for p in model.parameters()) < stored
    load_weights(other, tmp_path)
    assert torch.equal(other.cerebellum.sink.weight, model.cerebellum.sink.weight)
    (tmp_path / shards[1]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{shards[1]} is missing"):
        load_weights(other, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="weight_map is missing or empty"):
        load_weights(other, tmp_path)


def test_a_tensor_stored_twice_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model()
    save_weights(model, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {"cerebellum.sink.weight": weights["sink.weight"] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"sink\.weight is stored twice"):
        load_weights(model, tmp_path)


def trainer_file(model: VLA, path: Path) -> dict[str, Any]:
    """What the released trainer leaves, without its optimiser."""
    module = {f"model.{to_released(name)}": tensor.bfloat16() for name, tensor in model.state_dict().items()}
    content = {"module": module, "global_steps": 30_000, "dp_world_size": 8}
    torch.save(content, path)
    return content


def test_a_trainer_file_loads(make_model: MakeModel, tmp_path: Path) -> None:
    model, other = make_model().bfloat16(), make_model()
    file = tmp_path / "mp_rank_00_model_states.pt"
    trainer_file(model, file)
    load_weights(other, file)
    for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one.float(), two), name


def test_a_file_that_is_not_a_trainers_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    model, file = make_model(), tmp_path / "last.pt"
    content = trainer_file(model, file)
    torch.save(content["module"], file)
    with pytest.raises(ValueError, match="no entry 'module'"):
        load_weights(model, file)
    torch.save({"module": {"ema.sink.weight": torch.zeros(1)}}, file)
    with pytest.raises(ValueError, match=r"'ema\.sink\.weight' of 'module'"):
        load_weights(model, file)
    torch.save({"module": {"model.sink.weight": model.cerebellum.sink.weight}}, file)
    with pytest.raises(ValueError, match=r"missing vlm\.model"):
        load_weights(model, file)
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="damaged, or no torch checkpoint"):
        load_weights(model, file)


def test_a_trainer_file_cannot_run_code(make_model: MakeModel, tmp_path: Path) -> None:
    torch.save({"module": {}, "config": Path}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="anything else could run code"):
        load_weights(make_model(), tmp_path / "evil.pt")


def plain_brain(model: VLA, directory: Path, with_head: bool) -> None:
    """A Qwen3-VL directory as its makers publish it: untied names, number types in the config."""
    directory.mkdir()
    weights = {
        name.removeprefix("brain."): tensor.clone()
        for name, tensor in model.state_dict().items()
        if name.startswith("brain.") and (with_head or "lm_head" not in name)
    }
    save_file(weights, directory / "model.safetensors")
    brain = json.loads(json.dumps(model.config.brain))
    brain["text_config"]["dtype"] = "bfloat16"
    fields = {**brain, "model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"]}
    (directory / "config.json").write_text(json.dumps(fields))


@pytest.mark.parametrize("with_head", [False, True])
def test_a_plain_brain_gets_a_new_cerebellum(make_model: MakeModel, tmp_path: Path, with_head: bool) -> None:
    model = make_model()
    plain_brain(model, tmp_path / "Qwen3-VL-tiny", with_head)
    config = config_from_brain(tmp_path / "Qwen3-VL-tiny", horizon=7)
    assert (config.name, config.num_layers, config.hidden_size, config.horizon) == ("Qwen3-VL-tiny", 3, 64, 7)
    assert (config.mask_variant, config.position_offset, config.state_dim) == ("band", 0, 32)
    other = VLA(config)
    sink = other.cerebellum.sink.weight.clone()
    load_brain(other, tmp_path / "Qwen3-VL-tiny")
    for (name, one), two in zip(model.brain.named_parameters(), other.brain.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert torch.equal(other.cerebellum.sink.weight, sink)


def test_a_brain_is_loaded_as_strictly(make_model: MakeModel, tmp_path: Path) -> None:
    model, path = make_model(), tmp_path / "brain" / "model.safetensors"
    plain_brain(model, path.parent, with_head=False)
    weights = load_file(path)
    del weights["model.language_model.norm.weight"]
    save_file(weights | {"model.ears": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"unexpected model.ears; missing model.language_model.norm.weight"):
        load_brain(model, path.parent)
    fields = json.loads((path.parent / "config.json").read_text())
    (path.parent / "config.json").write_text(json.dumps(fields | {"model_type": "llama"}))
    with pytest.raises(ValueError, match="model_type is 'llama'; a brain is of the type 'qwen3_vl'"):
        config_from_brain(path.parent)


def test_another_rule_brings_its_window_and_offset(make_model: MakeModel, tmp_path: Path) -> None:
    plain_brain(make_model(), tmp_path / "brain", with_head=False)
    config = config_from_brain(tmp_path / "brain", mask_variant="band", num_layers=2)
    assert (config.mask_variant, config.mask_window, config.position_offset, config.num_layers) == ("band", 4, 10, 2)
    assert config_from_brain(tmp_path / "brain", mask_variant="band", position_offset=3).position_offset == 3
    with pytest.raises(ValueError, match="unexpected keyword argument 'wings'"):
        config_from_brain(tmp_path / "brain", wings=2)


def test_every_misfit_is_listed(make_model: MakeModel, tmp_path: Path) -> None:
    model, path = make_model(), tmp_path / "model.safetensors"
    save_weights(model, tmp_path)
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


def test_a_released_config_may_name_another_rule(tmp_path: Path) -> None:
    fields = json.loads(GOLDEN_CONFIG.read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | {"mask_variant": "band"}))
    config = read_released_config(tmp_path)
    assert (config.mask_variant, config.mask_window, config.position_offset) == ("band", 4, 10)
    (tmp_path / "config.json").write_text(json.dumps(fields | {"mask_variant": "lambda", "position_offset": 6}))
    assert read_released_config(tmp_path).position_offset == 6
    (tmp_path / "config.json").write_text(json.dumps(fields | {"mask_variant": "block"}))
    with pytest.raises(ValueError, match="mask_variant is 'block'; known variants: causal"):
        read_released_config(tmp_path)


@pytest.mark.parametrize("rule", ["causal", "band", "lambda"])
def test_a_config_survives_the_released_layout(rule: MaskVariant, tmp_path: Path) -> None:
    config = read_released_config(GOLDEN_CONFIG).with_mask(rule)
    (tmp_path / "config.json").write_text(json.dumps(released_fields(config)))
    again = read_released_config(tmp_path)
    assert again.brain.pop("model_type") == "qwen3_vl"  # pyright: ignore[reportAttributeAccessIssue] - a dict here
    assert replace(again, name=config.name) == config


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
