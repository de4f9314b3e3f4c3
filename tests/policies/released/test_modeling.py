"""The released classes: the calls of the released quick start, what they compute, save and refuse."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoProcessor

from cerebella.batch import Batch
from cerebella.models.checkpoint import load_weights
from cerebella.models.published import read_released_config
from cerebella.models.vla import VLA
from cerebella.policies.released.modeling import MiBoTForActionGeneration, released_noise
from cerebella.processing.prompt import robot_prompt

from ..released_directory import GOLDEN, write_released_directory

PROMPT = robot_prompt(["base", "left_wrist"], "Pick up the red block.")
SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released_directory(tmp_path_factory.mktemp("released") / "xr0-tiny")


@pytest.fixture(scope="module")
def model(directory: Path) -> MiBoTForActionGeneration:
    return AutoModel.from_pretrained(directory, dtype=torch.float32)


@pytest.fixture(scope="module")
def inputs(directory: Path) -> dict[str, Any]:
    """Of the released quick start, up to the call of the model."""
    return make_inputs(AutoProcessor.from_pretrained(directory, trust_remote_code=True, use_fast=False))


def make_inputs(processor: Any, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, (64, 96, 3), dtype=np.uint8)) for _ in range(2)]
    inputs = processor(text=[PROMPT], images=images, videos=None, padding=True, return_tensors="pt").to("cpu")
    inputs["seed"] = 42
    inputs["state"] = torch.from_numpy(random.normal(size=32)).to("cpu", dtype).view(1, 1, -1)
    inputs["action_mask"] = processor.get_action_mask("libero_all").to("cpu", dtype)
    return inputs


@torch.no_grad()
def actions_of(model: Any, inputs: Any, **more: Any) -> torch.Tensor:
    return model(**{**inputs, **more}).actions


def test_the_quick_start_runs_unchanged(directory: Path) -> None:
    model = AutoModel.from_pretrained(
        directory, trust_remote_code=True, attn_implementation="flash_attention_2", dtype=torch.bfloat16
    ).eval()
    processor = AutoProcessor.from_pretrained(directory, trust_remote_code=True, use_fast=False)
    assert (model.dtype, model.device) == (torch.bfloat16, torch.device("cpu"))
    outputs = model(**make_inputs(processor, torch.bfloat16))
    action_chunk = processor.decode_action(outputs.actions, robot_type="libero_all")
    assert (outputs.actions.shape, outputs.actions.dtype) == ((1, 10, 32), torch.bfloat16)
    assert (action_chunk.shape, action_chunk.dtype) == ((1, 10, 32), torch.float32)
    assert bool(action_chunk[..., :7].abs().min() > 0)
    assert bool((action_chunk[..., 7:] == 0).all())


def test_it_computes_the_golden_actions(tmp_path: Path) -> None:
    directory = write_released_directory(tmp_path / "exact", dtype=torch.float32)
    model = AutoModel.from_pretrained(directory)
    assert model.dtype == torch.float32
    data = load_file(GOLDEN / "xr0-tiny.data.safetensors")
    batch = Batch(
        mm_token_type_ids=(data["input_ids"] == 500).long(),
        **{name: data[name] for name in ("input_ids", "attention_mask", "pixel_values", "image_grid_thw")},
        **{name: data[name] for name in ("state", "action_mask")},
    )
    with torch.no_grad():
        actions = model.vla.sample(model.vla.encode(batch), batch.state, data["noise"], batch.action_mask)
    torch.testing.assert_close(actions, data["actions"], rtol=0, atol=1e-4)


def test_it_is_the_readable_model(directory: Path, model: MiBoTForActionGeneration, inputs: dict[str, Any]) -> None:
    """A VLA that was built the ordinary way, loaded from the same files and given the same noise."""
    vla = VLA(read_released_config(directory)).eval()
    load_weights(vla, directory)
    names = (
        "input_ids",
        "attention_mask",
        "mm_token_type_ids",
        "pixel_values",
        "image_grid_thw",
        "state",
        "action_mask",
    )
    batch = Batch(**{name: inputs[name] for name in names})
    noise = released_noise(inputs["action_mask"], 42)
    with torch.no_grad():
        expected = vla.sample(vla.encode(batch), batch.state, noise, batch.action_mask)
    assert torch.equal(actions_of(model, inputs), expected)


def test_its_tensors_have_the_released_names(directory: Path, model: MiBoTForActionGeneration) -> None:
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    assert set(model.state_dict()) - {"vlm.lm_head.weight"} == set(index["weight_map"])
    assert len(list(model.parameters())) == len(list(model.vla.parameters()))
    assert {id(p) for p in model.parameters()} == {id(p) for p in model.vla.parameters()}
    assert {id(b) for b in model.buffers()} == {id(b) for b in model.vla.buffers()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_noise_is_that_of_a_seeded_torch(dtype: torch.dtype) -> None:
    mask = torch.ones(2, 10, 32, dtype=dtype)
    before = torch.random.get_rng_state()
    noise = released_noise(mask, 42)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(42)
    assert torch.equal(noise, torch.randn_like(mask))
    torch.manual_seed(42)
    assert torch.equal(noise, released_noise(mask, None))


def test_the_seed_decides_and_the_callers_random_state_stays(
    model: MiBoTForActionGeneration, inputs: dict[str, Any]
) -> None:
    state = torch.random.get_rng_state()
    first = actions_of(model, inputs)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, actions_of(model, inputs))
    assert not torch.equal(first, actions_of(model, inputs, seed=43))


def test_what_a_released_request_carries_along_does_not_matter(
    model: MiBoTForActionGeneration, inputs: dict[str, Any]
) -> None:
    """`deploy/server.py` passes the whole request on."""
    image = Image.new("RGB", (64, 64))
    request = {"task_id": "libero_all", "language": "Pick it.", "base": image, "wrist_left": image}
    assert torch.equal(actions_of(model, inputs, **request), actions_of(model, inputs))
    del request["base"]
    without_types = {name: value for name, value in inputs.items() if name != "mm_token_type_ids"}
    assert torch.equal(actions_of(model, without_types, **request), actions_of(model, inputs))


def test_the_mask_decides_the_horizon_and_steps_can_be_chosen(
    model: MiBoTForActionGeneration, inputs: dict[str, Any]
) -> None:
    short = actions_of(model, inputs, action_mask=inputs["action_mask"][:, :4])
    assert short.shape == (1, 4, 32)
    assert torch.equal(actions_of(model, inputs, num_steps=5), actions_of(model, inputs))
    assert not torch.equal(actions_of(model, inputs, num_steps=2), actions_of(model, inputs))


def test_a_prefix_is_kept(model: MiBoTForActionGeneration, inputs: dict[str, Any]) -> None:
    prefix = torch.randn(1, 10, 32)
    actions = actions_of(model, inputs, action_prefix=prefix, prefix_length=torch.tensor([3]))
    assert torch.equal(actions[:, :3], prefix[:, :3])
    assert not torch.equal(actions[:, 3:], prefix[:, 3:])


@pytest.mark.parametrize("size", ["5GB", "1MB"])
def test_saved_and_loaded_it_answers_the_same(directory: Path, tmp_path: Path, size: str) -> None:
    model, processor = AutoModel.from_pretrained(directory), AutoProcessor.from_pretrained(directory)
    inputs = make_inputs(processor, model.dtype)
    model.save_pretrained(tmp_path, max_shard_size=size)
    processor.save_pretrained(tmp_path)
    again, processor_again = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    inputs_again = make_inputs(processor_again, again.dtype)
    for name, value in inputs.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(inputs_again[name])), name
    actions = actions_of(again, inputs_again)
    assert torch.equal(actions, actions_of(model, inputs))
    decoded = processor.decode_action(actions, "libero_all")
    assert torch.equal(decoded, processor_again.decode_action(actions, "libero_all"))
    assert (tmp_path / "model.safetensors.index.json").exists() == (size == "1MB")
    config = json.loads((tmp_path / "config.json").read_text())
    assert "auto_map" not in config
    text = config["vlm_config"]["text_config"]  # as the Transformers of the release wants it
    assert (text["rope_theta"], text["rope_scaling"]["mrope_section"]) == (5e6, [6, 5, 5])


def test_a_cast_rounds_the_rotary_frequencies_on_both_sides(directory: Path) -> None:
    """As `.to(torch.bfloat16)` of the released server does; loading in bfloat16 does not."""
    model = AutoModel.from_pretrained(directory, dtype=torch.bfloat16)
    brain, cerebellum = model.vla.brain.model.language_model.rotary_emb, model.vla.cerebellum.rotary_emb
    exact = AutoModel.from_pretrained(directory, dtype=torch.float32).vla.cerebellum.rotary_emb.inv_freq
    assert torch.equal(cerebellum.inv_freq, exact)
    assert torch.equal(brain.inv_freq, exact)
    model.to(torch.bfloat16)
    assert torch.equal(cerebellum.inv_freq, exact.bfloat16())
    assert torch.equal(brain.inv_freq, exact.bfloat16())


@pytest.mark.parametrize(("wanted", "runs"), [("flash_attention_2", "sdpa"), ("sdpa", "sdpa"), ("eager", "eager")])
def test_attention_kinds(directory: Path, wanted: str, runs: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cerebella"):
        model = AutoModel.from_pretrained(directory, attn_implementation=wanted)
    assert model.vla.brain.config._attn_implementation == runs
    lines = [f"attention: scaled-dot-product attention instead of {wanted}; it computes the same function"]
    how = f"{directory}: attention rule causal, position offset 0, 5 flow steps, bfloat16"
    assert caplog.messages == [*(lines if wanted != runs else []), how]


def damaged(directory: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    shutil.copytree(directory, tmp_path / "damaged")
    weights = load_file(tmp_path / "damaged" / SHARD)
    change(weights)
    save_file(weights, tmp_path / "damaged" / SHARD)
    return tmp_path / "damaged"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("dit.layers.0.adaln_table"), r"missing dit\.layers\.0\.adaln_table"),
        (lambda w: w.update({"dit.wings": torch.zeros(1)}), r"unexpected dit\.wings"),
        (
            lambda w: w.update({"dit.layers.0.adaln_table": torch.zeros(5, 64)}),
            r"dit\.layers\.0\.adaln_table is \[5, 64\], the model has \[6, 64\]",
        ),
    ],
    ids=["missing", "extra", "mis-shaped"],
)
def test_weights_that_do_not_fit_are_refused(
    directory: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        AutoModel.from_pretrained(damaged(directory, tmp_path, change))


def test_options_that_are_not_supported_are_refused(directory: Path) -> None:
    with pytest.raises(ValueError, match="attn_implementation is 'paged'; known: sdpa, eager, flash_attention_2"):
        AutoModel.from_pretrained(directory, attn_implementation="paged")
    with pytest.raises(ValueError, match="does not support max_memory; supported: config, dtype"):
        AutoModel.from_pretrained(directory, max_memory={0: "1GB"})
    with pytest.raises(ValueError, match="dtype is 'int8'; give a floating-point type"):
        AutoModel.from_pretrained(directory, dtype="int8")
    with pytest.raises(ValueError, match="put the whole model on one device"):
        AutoModel.from_pretrained(directory, device_map={"vlm": 0, "dit": 1})


def test_a_state_of_another_width_is_refused(model: MiBoTForActionGeneration, inputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"state must be float\[1, 1, 32\]; got \[1, 1, 8\]"):
        actions_of(model, inputs, state=torch.zeros(1, 1, 8))


def test_the_default_config_is_the_released_size() -> None:
    config = AutoConfig.for_model("mibot").model_config
    assert (config.hidden_size, config.num_layers, config.horizon, config.mask_variant) == (1024, 16, 30, "causal")


def test_a_fresh_model_comes_from_a_config(directory: Path, inputs: dict[str, Any]) -> None:
    fresh = AutoModel.from_config(AutoConfig.from_pretrained(directory), dtype=torch.float32)
    assert isinstance(fresh, MiBoTForActionGeneration)
    assert bool(actions_of(fresh, inputs).isfinite().all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values": None}, "image tokens, but no pixel_values"),
        ({"image_grid_thw": None}, "image tokens, but no pixel_values"),
        (
            {"action_mask": torch.ones(1, 10, 7)},
            r"action_mask must be float\[1, H, 32\] .* got torch.float32\[1, 10, 7\]",
        ),
        ({"action_mask": torch.ones(1, 10, 32, dtype=torch.bool)}, r"got torch.bool\[1, 10, 32\]"),
        ({"action_mask": torch.ones(1, 0, 32)}, "with H rows, 1 or more"),
        ({"state": np.zeros((1, 1, 32))}, "state must be a torch.Tensor; got a ndarray"),
        ({"state": torch.full((1, 1, 32), float("nan"))}, "the actions are not finite"),
        ({"action_prefix": torch.zeros(1, 10, 32)}, "action_prefix needs prefix_length"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    model: MiBoTForActionGeneration, inputs: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model(**{**inputs, **change})


def test_pixels_that_are_missing_at_the_end_are_noticed(
    model: MiBoTForActionGeneration, inputs: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"pixel_values must be float\[\d+, 1536\]"):
        model(**{**inputs, "pixel_values": inputs["pixel_values"][:-4]})
    num_first = int(inputs["image_grid_thw"][0].prod())
    fewer = {"pixel_values": inputs["pixel_values"][:num_first], "image_grid_thw": inputs["image_grid_thw"][:1]}
    with pytest.raises(ValueError, match="image tokens, but pictures for"):
        model(**{**inputs, **fewer})


def test_actions_need_no_gradient(model: MiBoTForActionGeneration, inputs: dict[str, Any]) -> None:
    assert not model(**inputs, num_steps=1).actions.requires_grad


def test_gaps_in_the_config_are_not_filled(directory: Path, tmp_path: Path) -> None:
    damaged_copy = tmp_path / "gap"
    shutil.copytree(directory, damaged_copy)
    fields = json.loads((damaged_copy / "config.json").read_text())
    del fields["action_dim"]
    (damaged_copy / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="action_dim"):
        MiBoTForActionGeneration.from_pretrained(damaged_copy)


def test_options_of_saving_that_change_nothing_are_taken(model: MiBoTForActionGeneration, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, safe_serialization=True, push_to_hub=False)
    with pytest.raises(ValueError, match="does not support push_to_hub"):
        model.save_pretrained(tmp_path, push_to_hub=True)
