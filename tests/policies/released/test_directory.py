"""Released checkpoints as policies: what is chosen, what is said, what is refused, and the way back."""

import json
import logging
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

from cerebella.embodiment import Embodiment
from cerebella.models.checkpoint import from_released
from cerebella.models.vla import VLA
from cerebella.policies import VLAPolicy, load_policy
from cerebella.policies.directory import save_as_policy, weights_hash
from cerebella.policies.released import import_trainer, save_released
from cerebella.policies.released.modeling import released_noise
from cerebella.processing.prompt import robot_prompt
from cerebella.released_robots import released_embodiment
from cerebella.types import FloatArray, Observation

from ..released_directory import GOLDEN, write_released_directory

LIBERO = released_embodiment("libero_all")
NO_PREFIX = np.zeros((0, 7), dtype=np.float32)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released_directory(tmp_path_factory.mktemp("released") / "xr0-tiny")


@pytest.fixture(scope="module")
def policy(directory: Path) -> VLAPolicy:
    return load_policy(directory, dtype=torch.float32)


def vla_of(policy: VLAPolicy) -> VLA:
    assert isinstance(policy.model, VLA)
    return policy.model


def observation(seed: int = 0, robot: Embodiment = LIBERO) -> Observation:
    random = np.random.default_rng(seed)
    return Observation(
        state=random.uniform(-0.03, 0.03, robot.state_dim).astype(np.float32),
        prompt="Pick up the red block.",
        tick=0,
        timestamp_s=0.0,
        images={view: random.integers(0, 256, (64, 96, 3), dtype=np.uint8) for view in robot.views},
    )


def actions_of(policy: VLAPolicy, prefix: FloatArray = NO_PREFIX) -> FloatArray:
    return policy.infer(observation(), prefix).actions


def test_it_knows_what_it_is(directory: Path, policy: VLAPolicy) -> None:
    metadata = policy.metadata
    assert metadata.policy_id == f"xr0-tiny@{weights_hash(directory)}"
    assert metadata.embodiment == LIBERO
    assert (metadata.horizon, metadata.mask_variant, metadata.max_trained_prefix) == (10, "causal", 0)


def test_one_line_says_how_it_runs(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cerebella"):
        load_policy(directory)
    assert caplog.messages == [
        f"{directory}: robot type libero_all, attention rule causal, position offset 0, 5 flow steps, bfloat16"
    ]


def test_it_acts_as_the_released_code_does(directory: Path, policy: VLAPolicy) -> None:
    """The same observation through the quick start: processor, model, `decode_action`."""
    seen = observation()
    processor = AutoProcessor.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory, dtype=torch.float32)
    inputs = processor(
        text=[robot_prompt(LIBERO.views, seen.prompt)],
        images=[Image.fromarray(seen.images[view]) for view in LIBERO.views],
        padding=True,
        return_tensors="pt",
    )
    state = torch.zeros(1, 1, 32)
    state[0, 0, : len(seen.state)] = torch.from_numpy(seen.state)
    mask = processor.get_action_mask("libero_all")
    batch = policy.processor.encode([seen], [NO_PREFIX])
    for name in ("input_ids", "attention_mask", "pixel_values", "image_grid_thw"):
        assert torch.equal(getattr(batch, name), inputs[name]), name
    assert torch.equal(batch.state, state)
    assert torch.equal(batch.action_mask, mask)
    with torch.no_grad():
        released = processor.decode_action(model(**inputs, state=state, action_mask=mask, seed=1).actions, "libero_all")
        sampled = vla_of(policy).sample(vla_of(policy).encode(batch), batch.state, released_noise(mask, 1), mask)
    ours = policy.processor.decode(sampled, seen.state[None])
    np.testing.assert_allclose(ours, released[..., :7].numpy(), atol=1e-6)


def test_in_bfloat16_it_runs_as_the_released_server(directory: Path, policy: VLAPolicy) -> None:
    half = load_policy(directory)
    assert vla_of(half).cerebellum.rotary_emb.inv_freq.dtype == torch.bfloat16
    assert vla_of(half).brain.model.language_model.rotary_emb.inv_freq.dtype == torch.bfloat16
    close = np.corrcoef(actions_of(half).ravel(), actions_of(policy).ravel())[0, 1]
    assert close > 0.999


def test_prefix_rows_come_back_unchanged(policy: VLAPolicy) -> None:
    prefix = np.random.default_rng(3).uniform(-0.5, 0.5, (4, 7)).astype(np.float32)
    np.testing.assert_array_equal(actions_of(policy, prefix)[:4], prefix)


def test_several_robot_types_have_to_be_named(tmp_path: Path) -> None:
    directory = write_released_directory(tmp_path / "several", {"libero_all": 10, "bridge_delta": 4, "droid_pt": 6})
    with pytest.raises(ValueError, match="name one of its robot types; known: libero_all, bridge_delta, droid_pt"):
        load_policy(directory)
    with pytest.raises(ValueError, match="no robot type 'franka'; known: libero_all, bridge_delta, droid_pt"):
        load_policy(directory, robot_type="franka")
    bridge = load_policy(directory, robot_type="bridge_delta")
    assert (bridge.metadata.horizon, bridge.metadata.embodiment.views) == (4, ("base",))
    seen = observation(robot=released_embodiment("bridge_delta"))
    assert bridge.infer(seen, NO_PREFIX).actions.shape == (4, 7)


def test_an_unknown_robot_needs_its_embodiment(tmp_path: Path) -> None:
    directory = write_released_directory(tmp_path / "droid", {"droid_pt": 6})
    with pytest.raises(ValueError, match=r"what the numbers of 'droid_pt' mean. Pass its Embodiment .* libero_all"):
        load_policy(directory)
    policy = load_policy(directory, embodiment=LIBERO)
    assert policy.metadata.embodiment == replace(LIBERO, name="droid_pt")
    assert policy.infer(observation(), NO_PREFIX).actions.shape == (6, 7)


def test_another_embodiment_than_relied_on_is_refused(directory: Path) -> None:
    load_policy(directory, embodiment="libero_all")
    with pytest.raises(ValueError, match="for the embodiment 'libero_all', not for 'conveyor'"):
        load_policy(directory, embodiment="conveyor")


def test_another_rule_than_the_checkpoints_is_refused(directory: Path) -> None:
    load_policy(directory, mask_variant="causal")
    with pytest.raises(ValueError, match=r"trained with .* 'causal'; it cannot run as 'band': .* would mix two rules"):
        load_policy(directory, mask_variant="band")
    with pytest.raises(ValueError, match="unknown attention rule 'block'; known rules: causal, band"):
        load_policy(directory, mask_variant="block")


def test_a_trainers_file_becomes_a_checkpoint_with_its_rule(directory: Path, tmp_path: Path) -> None:
    weights = load_file(GOLDEN / "xr0-tiny.weights.safetensors")
    module = {f"model.{name}": tensor.bfloat16() for name, tensor in weights.items()}
    torch.save({"module": module, "global_steps": 30_000}, tmp_path / "mp_rank_00_model_states.pt")
    std = np.tile(np.arange(32) < 8, (8, 1)).astype(float)
    statistics = {"mean": np.zeros((8, 32)).tolist(), "std": std.tolist()}
    out = tmp_path / "trained"
    import_trainer(
        tmp_path / "mp_rank_00_model_states.pt", directory, out, {"my_arm": statistics}, max_trained_prefix=6
    )
    robot = replace(LIBERO, name="my_arm")
    with pytest.raises(ValueError, match=r"active in the slots \[7\]"):
        load_policy(out, embodiment=robot)
    std[:, 7] = 0
    statistics["std"] = std.tolist()
    import_trainer(
        tmp_path / "mp_rank_00_model_states.pt", directory, out, {"my_arm": statistics}, max_trained_prefix=6
    )
    policy = load_policy(out, embodiment=robot)
    metadata, config = policy.metadata, vla_of(policy).config
    assert (metadata.horizon, metadata.mask_variant, metadata.max_trained_prefix) == (8, "band", 6)
    assert (config.mask_window, config.position_offset) == (4, 10)
    with pytest.raises(ValueError, match="trained with the attention rule 'band'; it cannot run as 'causal'"):
        load_policy(out, embodiment=robot, mask_variant="causal")
    for name, tensor in vla_of(policy).state_dict().items():
        stored = {from_released(key): value for key, value in weights.items()}
        if "lm_head" not in name:
            assert torch.equal(tensor, stored[name].bfloat16()), name
    model = AutoModel.from_pretrained(out)
    assert model.vla.config.mask_variant == "band"


def test_a_longest_prefix_beyond_the_horizon_is_refused(directory: Path, tmp_path: Path) -> None:
    write_released_directory(tmp_path / "long")
    path = tmp_path / "long" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_trained_prefix": 10}))
    with pytest.raises(ValueError, match=r"max_trained_prefix must be in 0..9 rows; got 10"):
        load_policy(tmp_path / "long")


def test_there_and_back_again(directory: Path, tmp_path: Path) -> None:
    """Released layout, policy directory, released layout: the same weights, the same statistics, the same chunk."""
    policy = load_policy(directory, num_flow_steps=3)
    save_as_policy(policy, tmp_path / "ours")
    ours = load_policy(tmp_path / "ours", num_flow_steps=3, dtype=torch.float32)
    exact = load_policy(directory, num_flow_steps=3, dtype=torch.float32)
    assert ours.metadata.embodiment == LIBERO
    np.testing.assert_array_equal(actions_of(ours), actions_of(exact))
    save_released(ours, tmp_path / "back")
    back = load_policy(tmp_path / "back", num_flow_steps=3)
    np.testing.assert_array_equal(actions_of(back), actions_of(policy))
    assert back.metadata.statistics_hash == policy.metadata.statistics_hash
    first, last = (AutoProcessor.from_pretrained(path).action_config for path in (directory, tmp_path / "back"))
    np.testing.assert_allclose(first["libero_all"]["std"], last["libero_all"]["std"], rtol=1e-6)
    assert not list((tmp_path / "back").glob("*.py"))


def test_a_released_file_set_is_written(directory: Path, policy: VLAPolicy, tmp_path: Path) -> None:
    save_released(policy, tmp_path / "saved")
    written = {path.name for path in (tmp_path / "saved").iterdir()}
    expected = {
        path.name for path in directory.iterdir() if path.suffix != ".py" and not path.name.startswith("model-0")
    }
    assert written == expected - {"model.safetensors.index.json"} | {"model.safetensors"}
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert not {"mask_variant", "mask_window", "position_offset", "max_trained_prefix"} & set(config)


def test_a_normalised_state_does_not_fit_the_released_layout(policy: VLAPolicy, tmp_path: Path) -> None:
    processor = copy(policy.processor)
    processor.statistics = replace(processor.statistics, state_std=np.full(LIBERO.state_dim, 2.0, dtype=np.float32))
    changed = VLAPolicy(policy.model, processor, policy.metadata)
    with pytest.raises(ValueError, match="its state is normalised; the released layout has no place"):
        save_released(changed, tmp_path)


@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors.index.json"]
)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    directory = write_released_directory(tmp_path / "incomplete")
    (directory / name).unlink()
    with pytest.raises(FileNotFoundError, match=name.removesuffix(".index.json")):
        load_policy(directory)


def test_statistics_of_another_width_are_refused(tmp_path: Path) -> None:
    directory = write_released_directory(tmp_path / "narrow")
    path = directory / "preprocessor_config.json"
    fields = json.loads(path.read_text())
    fields["action_config"]["libero_all"] = {"mean": np.zeros((10, 4)).tolist(), "std": np.ones((10, 4)).tolist()}
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"must be two arrays \[H, A\] with A above the slot 6"):
        load_policy(directory)
