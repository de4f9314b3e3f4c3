import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoProcessor

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.interfaces import Policy
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA
from cerebella.policies import HoldPolicy, VLAPolicy, load_policy
from cerebella.policies.directory import REQUIRED_FILES, StageRecord, save_as_policy, save_policy
from cerebella.policies.released.modeling import released_noise
from cerebella.processing.hub_processor import Qwen3VLProcessor
from cerebella.processing.images import ImageConfig
from cerebella.processing.noise import noise_seed
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import Statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.types import FloatArray, Observation

HORIZON = 6
NO_PREFIX = np.zeros((0, 3), dtype=np.float32)
STAGE = StageRecord("posttrain_async", 10, "band", 4, "0" * 12)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = preset("micro", horizon=HORIZON)
    statistics = Statistics(
        robot_type=CONVEYOR.name,
        control_mode=CONVEYOR.control_mode,
        action_mean=np.zeros((HORIZON, 3), dtype=np.float32),
        action_std=np.full((HORIZON, 3), 0.05, dtype=np.float32),
        state_mean=np.zeros(4, dtype=np.float32),
        state_std=np.ones(4, dtype=np.float32),
    )
    tokenizer = train_tokenizer([robot_prompt(["base"], "pick it")], vocab_size=1024)
    processor = Processor(CONVEYOR, statistics, tokenizer, ImageConfig(8), HORIZON, 32, 32)
    path = tmp_path_factory.mktemp("policies") / "toy"
    save_policy(path, VLA(config), processor, [STAGE], {"recipe": "toy"})
    return path


@pytest.fixture(scope="module")
def policy(directory: Path) -> VLAPolicy:
    return load_policy(directory)


def vla_of(policy: VLAPolicy) -> VLA:
    assert isinstance(policy.model, VLA)
    return policy.model


def observation(seed: int = 0) -> Observation:
    random = np.random.default_rng(seed)
    return Observation(
        state=random.uniform(0.1, 0.3, 4).astype(np.float32),
        prompt="pick the red part",
        tick=seed,
        timestamp_s=seed / 30,
        images={"base": random.integers(0, 256, (64, 96, 3), dtype=np.uint8)},
    )


def prefix(length: int) -> FloatArray:
    return np.random.default_rng(length).uniform(0.1, 0.3, (length, 3)).astype(np.float32)


def test_it_fits_the_protocol_and_knows_what_it_is(policy: VLAPolicy) -> None:
    as_policy: Policy = policy
    metadata = as_policy.metadata
    assert metadata.policy_id.startswith("toy@")
    assert (metadata.horizon, metadata.mask_variant, metadata.max_trained_prefix) == (HORIZON, "band", 4)
    assert metadata.embodiment == CONVEYOR


def test_loaded_twice_answers_the_same(directory: Path, policy: VLAPolicy) -> None:
    again = load_policy(directory).infer(observation(), NO_PREFIX)
    np.testing.assert_array_equal(again.actions, policy.infer(observation(), NO_PREFIX).actions)


@pytest.mark.parametrize("length", range(HORIZON))
def test_prefix_rows_come_back_unchanged(policy: VLAPolicy, length: int) -> None:
    chunk = policy.infer(observation(), prefix(length))
    np.testing.assert_array_equal(chunk.actions[:length], prefix(length))
    assert (chunk.prefix_length, chunk.start_tick) == (length, 0)


def test_a_batch_of_different_prefixes_equals_one_by_one(policy: VLAPolicy) -> None:
    observations = [observation(seed) for seed in range(3)]
    prefixes = [prefix(length) for length in (0, 2, 5)]
    together = policy.infer_batch(observations, prefixes)
    for seen, committed, chunk in zip(observations, prefixes, together, strict=True):
        np.testing.assert_allclose(policy.infer(seen, committed).actions, chunk.actions, atol=1e-5)


def test_the_noise_depends_on_everything_observed_and_on_nothing_else() -> None:
    base = observation()
    other_image = {"base": base.images["base"] ^ 1}
    assert noise_seed(base) == noise_seed(replace(base, tick=99, timestamp_s=9.0))
    variants = [replace(base, prompt="x"), replace(base, state=base.state + 1), replace(base, images=other_image)]
    assert len({noise_seed(base), *(noise_seed(variant) for variant in variants)}) == 4


def test_a_model_gone_wrong_never_yields_a_chunk(directory: Path) -> None:
    broken = load_policy(directory)
    with torch.no_grad():
        vla_of(broken).cerebellum.sink.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"ActionChunk.actions must be finite"):
        broken.infer(observation(), NO_PREFIX)


def test_what_the_caller_relies_on_is_checked(directory: Path) -> None:
    load_policy(directory, embodiment="conveyor", mask_variant="band")
    with pytest.raises(ValueError, match="embodiment 'conveyor', not for 'franka'"):
        load_policy(directory, embodiment="franka")
    with pytest.raises(ValueError, match="attention rule 'band'; it cannot run as 'lambda'"):
        load_policy(directory, mask_variant="lambda")


def test_a_mixture_of_attention_rules_is_refused(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mixed"
    copy.mkdir()
    for file in directory.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    config["stages"][0]["mask_variant"] = "lambda"
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'band', but its stages were trained with lambda"):
        load_policy(copy)


@pytest.mark.parametrize("name", REQUIRED_FILES)
@pytest.mark.parametrize("content", ["", "{", "[1]", "{}"])
def test_a_damaged_file_is_named(directory: Path, tmp_path: Path, name: str, content: str) -> None:
    shutil.copytree(directory, tmp_path / "damaged")
    (tmp_path / "damaged" / name).write_text(content)
    with pytest.raises(ValueError, match=name):
        load_policy(tmp_path / "damaged")


@pytest.mark.parametrize(
    ("name", "where", "value", "said"),
    [
        ("config.json", ("model", "horizon"), "6", "horizon must be an integer of 1 or more; got '6'"),
        ("config.json", ("model", "brain"), None, "brain must hold the fields of a Qwen3VLConfig"),
        ("config.json", ("model", "brain", "image_token_id"), 5, "the id 1022; the brain expects 5"),
        ("config.json", ("images", "patch_size"), 16, "images.patch_size is 16, but the brain's patch_size is 8"),
        ("config.json", ("images", "colour"), 1, "unexpected keyword argument 'colour'"),
        ("config.json", ("stages", 0, "max_prefix"), 6, r"max_prefix must be in 0..5 rows; got 6"),
        ("embodiment.json", ("views",), ["front"], "has the view 'front'; known views: base"),
        ("embodiment.json", ("control_hz",), 0, "control_hz must be a finite number above 0; got 0"),
        ("embodiment.json", ("actions", 0, "low"), "a", "low must be a finite number; got 'a'"),
        ("embodiment.json", ("actions", 0, "slot"), 32, r"uses the action slot 32; the model has 32"),
        ("statistics.json", ("conveyor/end_effector", "spread"), [1], "unexpected keyword argument 'spread'"),
        ("tokenizer.json", ("model", "vocab"), {}, "tokenizer.json cannot be read"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_wrong_entry_is_explained(
    directory: Path, tmp_path: Path, name: str, where: tuple[str | int, ...], value: object, said: str
) -> None:
    shutil.copytree(directory, tmp_path / "wrong")
    content = json.loads((tmp_path / "wrong" / name).read_text())
    place = content
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    (tmp_path / "wrong" / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        load_policy(tmp_path / "wrong")


def test_one_prefix_for_each_observation(policy: VLAPolicy) -> None:
    with pytest.raises(ValueError, match="2 observations and 1 prefixes"):
        policy.infer_batch([observation(0), observation(1)], [NO_PREFIX])


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_missing_file_is_named(directory: Path, tmp_path: Path, name: str) -> None:
    for file in directory.iterdir():
        if file.name != name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        load_policy(tmp_path)


def test_the_embodiment_travels(directory: Path) -> None:
    assert Embodiment.load(directory / "embodiment.json") == CONVEYOR


def test_holding_still_repeats_the_measured_pose_or_the_end_of_the_prefix() -> None:
    hold = HoldPolicy(CONVEYOR, horizon=4)
    seen = observation()
    np.testing.assert_array_equal(hold.infer(seen, NO_PREFIX).actions, np.tile(seen.state[:3], (4, 1)))
    np.testing.assert_array_equal(hold.infer(seen, prefix(2)).actions[1:], np.tile(prefix(2)[1], (3, 1)))


def test_transformers_reads_the_same_inputs_from_the_directory(directory: Path, policy: VLAPolicy) -> None:
    """The auto class, and the image-and-text half of the stock processor, give what our own batched processing gives."""
    seen = observation()
    text = robot_prompt(["base"], seen.prompt)
    ours = policy.processor.encode([seen], [NO_PREFIX])
    assert ours.pixel_values is not None
    for processor in (AutoProcessor.from_pretrained(directory), Qwen3VLProcessor.from_pretrained(directory)):
        inputs = processor(text=[text], images=[Image.fromarray(seen.images["base"])])
        assert ours.input_ids.tolist() == inputs["input_ids"]
        assert ours.mm_token_type_ids.tolist() == inputs["mm_token_type_ids"]
        np.testing.assert_allclose(ours.pixel_values.numpy(), inputs["pixel_values"], atol=1e-6)


def test_the_auto_classes_run_the_directory(directory: Path, policy: VLAPolicy) -> None:
    """Same modules, same inputs, same noise: the chunk of the policy, but for the pose that its embodiment adds."""
    model = AutoModel.from_pretrained(directory, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(directory)
    assert isinstance(AutoConfig.from_pretrained(directory).model_config, ModelConfig)
    assert processor.list_robot_types() == ["conveyor"]
    seen, mask = observation(), processor.get_action_mask("conveyor")
    inputs = processor(
        text=[robot_prompt(["base"], seen.prompt)], images=[Image.fromarray(seen.images["base"])], return_tensors="pt"
    )
    batch = policy.processor.encode([seen], [NO_PREFIX])
    assert torch.equal(mask, batch.action_mask)
    with torch.no_grad():
        actions = model(**inputs, state=batch.state, action_mask=mask, seed=7).actions
        noise = released_noise(mask, 7)
        expected = vla_of(policy).sample(vla_of(policy).encode(batch), batch.state, noise, mask)
    torch.testing.assert_close(actions, expected, rtol=0, atol=1e-5)
    relative = processor.decode_action(actions, "conveyor").numpy()
    measured = np.where([a.relative for a in CONVEYOR.actions], CONVEYOR.reference_of(seen.state), 0)
    decoded = policy.processor.decode(expected, seen.state[None])
    slots = policy.processor.action_slots
    np.testing.assert_allclose(relative[..., slots] + measured, decoded, atol=1e-5)
    np.testing.assert_array_equal(np.delete(relative, slots, axis=-1), 0)


def test_what_the_model_class_saves_it_loads(directory: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(directory, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    for (name, one), two in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert not hasattr(again.config, "auto_map")


def test_a_directory_from_before_the_auto_classes_still_loads(
    directory: Path, policy: VLAPolicy, tmp_path: Path
) -> None:
    shutil.copytree(directory, tmp_path / "toy")
    config = json.loads((tmp_path / "toy" / "config.json").read_text())
    del config["model_type"], config["architectures"]
    (tmp_path / "toy" / "config.json").write_text(json.dumps(config))
    again = load_policy(tmp_path / "toy").infer(observation(), NO_PREFIX)
    np.testing.assert_array_equal(again.actions, policy.infer(observation(), NO_PREFIX).actions)


def test_a_loaded_policy_can_be_written_again(directory: Path, policy: VLAPolicy, tmp_path: Path) -> None:
    save_as_policy(policy, tmp_path / "copy")
    again = load_policy(tmp_path / "copy")
    expected = policy.infer(observation(), prefix(2))
    np.testing.assert_array_equal(again.infer(observation(), prefix(2)).actions, expected.actions)
    assert again.metadata.policy_id == policy.metadata.policy_id.replace("toy", "copy")
    assert replace(again.metadata, policy_id="") == replace(policy.metadata, policy_id="")


def test_loading_says_what_was_loaded(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cerebella"):
        load_policy(directory, num_flow_steps=3)
    assert caplog.messages == [
        f"{directory}: robot type conveyor, attention rule band (window 4), position offset 0, 3 flow steps, float32"
    ]


def test_the_number_type_can_be_chosen(directory: Path, policy: VLAPolicy) -> None:
    half = load_policy(directory, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in vla_of(half).parameters()} == {torch.bfloat16}
    exact = policy.infer(observation(), prefix(3)).actions
    np.testing.assert_allclose(half.infer(observation(), prefix(3)).actions, exact, atol=0.01)


def test_robot_and_embodiment_are_the_same_thing_here(directory: Path) -> None:
    load_policy(directory, embodiment=CONVEYOR, robot_type="conveyor")
    with pytest.raises(ValueError, match="embodiment 'conveyor', not for 'libero_all'"):
        load_policy(directory, robot_type="libero_all")


def test_the_fast_engine_is_one_word_away(directory: Path, policy: VLAPolicy) -> None:
    fast = load_policy(directory, engine="fast", device="auto")
    assert type(fast.model).__name__ == "Engine"
    expected = policy.infer(observation(), prefix(2)).actions
    np.testing.assert_allclose(fast.infer(observation(), prefix(2)).actions, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "turbo"}, "engine is 'turbo'; known: readable, fast"),
        ({"device": "gpu"}, "device is 'gpu', which does not work here .* give cpu, cuda or auto"),
        ({"device": "meta"}, "device is 'meta', which holds no weights"),
        ({"dtype": "int8"}, "dtype is 'int8'; give a floating-point type"),
        pytest.param(
            {"device": "cuda"},
            "device is 'cuda', which does not work here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_an_unknown_engine_or_device_is_named(directory: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_policy(directory, **options)


def test_without_logging_the_line_is_printed(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("cerebella")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [])
    load_policy(directory)
    assert "attention rule band (window 4), position offset 0, 5 flow steps, float32" in capsys.readouterr().err
