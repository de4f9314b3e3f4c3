"""From grasps on disk to a policy directory: interrupted, fine-tuned, cut short, and asked for nonsense."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cerebella.models.touch_refiner import TouchRefinerConfig
from cerebella.policies.touch_policy import TouchPolicy
from cerebella.recipes.touch_files import first_grasps
from cerebella.recipes.touch_training import TouchTraining, train_touch_refiner
from cerebella.touch.confidence import DISTANCE_LIMIT, MAX_DEAD_FINGERS, distance_of
from cerebella.touch.grasp_shards import load_grasps
from cerebella.touch.sensor import sensor_ranges
from tests.training.blobs import OBJECTS, blob_set, write_blobs

SETTINGS: dict[str, Any] = {
    "width": 32,
    "num_steps": 6,
    "batch_size": 16,
    "num_held_out": 32,
    "num_calibration": 256,
    "validate_every": 3,
    "save_every": 2,
    "show_progress": False,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blobs(tmp_path_factory.mktemp("blobs"))


def training_on(data: Path, **fields: Any) -> TouchTraining:
    return TouchTraining(data, **(SETTINGS | fields))


def weights(policy: TouchPolicy) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in policy.model.parameters()])


def test_two_halves_are_the_whole(data: Path, tmp_path: Path) -> None:
    training = training_on(data)
    whole = train_touch_refiner(training, tmp_path / "whole")
    assert whole is not None
    assert train_touch_refiner(replace(training, stop_after=3), tmp_path / "parts") is None
    assert not (tmp_path / "parts" / "config.json").exists()
    parts = train_touch_refiner(replace(training, stop_after=3), tmp_path / "parts")
    assert parts is not None
    assert torch.equal(weights(whole), weights(parts))
    assert dict(whole.calibration) == dict(parts.calibration)
    files = {path.name for path in (tmp_path / "parts").iterdir()}
    assert files == {
        *("config.json", "model.safetensors", "embedding.safetensors", "calibration.json"),
        *("recipe.json", "curves.jsonl", "validation.jsonl", "curves.png", "README.md"),
    }
    steps = [
        json.loads(line)["train_step"] for line in (tmp_path / "parts" / "validation.jsonl").read_text().splitlines()
    ]
    assert steps == [3, 6]
    made = (tmp_path / "parts" / "config.json").stat().st_mtime_ns
    again = train_touch_refiner(training, tmp_path / "parts")
    assert again is not None
    assert (tmp_path / "parts" / "config.json").stat().st_mtime_ns == made


def test_the_policy_knows_its_training(data: Path, tmp_path: Path) -> None:
    policy = train_touch_refiner(training_on(data, num_steps=30), tmp_path)
    assert policy is not None
    numbers = policy.calibration
    assert 0 < numbers["distance_q50"] < numbers["distance_q99"] < numbers[DISTANCE_LIMIT]
    assert numbers[MAX_DEAD_FINGERS] == 1
    assert 4e-3 < numbers["largest_increment_m"] < 20e-3
    grasps = blob_set().arrays
    rng = np.random.default_rng(0)
    counts = sensor_ranges("trained").draw(rng, len(grasps.joints)).counts(grasps.forces, rng)
    near = [distance_of(policy.embedding(*each), numbers) for each in zip(counts[:50], grasps.joints[:50], strict=True)]
    assert np.mean(np.array(near) < 1) > 0.95
    assert distance_of(policy.embedding(np.full_like(counts[0], 200), grasps.joints[0]), numbers) > 1
    joints = grasps.joints.mean(axis=0)
    np.testing.assert_allclose(policy.model.joint_mean.numpy(), joints, atol=0.05)
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["settings"]["seed"] == 0
    assert recipe["objects"] == list(OBJECTS)
    assert recipe["num_grasps"] == 120, "shard 0 of each object is held out"
    assert f"{numbers['held_out_error_mm']:.2f} mm" in (tmp_path / "README.md").read_text()


def test_fine_tuning_goes_on_from_a_directory(data: Path, tmp_path: Path) -> None:
    start = train_touch_refiner(training_on(data), tmp_path / "start")
    assert start is not None
    other = write_blobs(tmp_path / "other", num_per_shard=20, num_shards=1, seed=90)
    tune = training_on(other, held_out=data, start_from=tmp_path / "start", num_per_object=10, dead_finger_share=0.0)
    nearly_none = train_touch_refiner(replace(tune, learning_rate=1e-12), tmp_path / "none")
    tuned = train_touch_refiner(tune, tmp_path / "tuned")
    assert nearly_none is not None
    assert tuned is not None
    torch.testing.assert_close(weights(nearly_none), weights(start))
    assert not torch.allclose(weights(tuned), weights(start), atol=1e-4)
    assert torch.equal(tuned.model.joint_mean, start.model.joint_mean), "the normalisation belongs to the weights"
    assert tuned.calibration[MAX_DEAD_FINGERS] == 0
    assert json.loads((tmp_path / "tuned" / "recipe.json").read_text())["num_grasps"] == 20
    with pytest.raises(ValueError, match="has another network: encoder is vit there, mlp here"):
        train_touch_refiner(replace(tune, encoder="mlp"), tmp_path / "c")


def test_the_ablations_reach_the_network(data: Path, tmp_path: Path) -> None:
    training = training_on(data, inputs="no_touch", fingers=(0, 1), target="absolute", encoder="mlp")
    policy = train_touch_refiner(replace(training, num_steps=1, batch_size=2), tmp_path)
    assert policy is not None
    wanted = TouchRefinerConfig(width=32, inputs="no_touch", fingers=(0, 1), target="absolute", encoder="mlp")
    assert policy.model.config == wanted == training.model_config


def test_the_first_grasps_of_every_object(data: Path) -> None:
    grasps = load_grasps(data)
    few = first_grasps(grasps, 70)
    assert few.starts.tolist() == [0, 60, 70, 130, 140]
    assert few.object_of_shard.tolist() == [0, 0, 1, 1]
    rows = [*range(70), *range(120, 190)]
    assert np.array_equal(few.arrays.joints, grasps.arrays.joints[rows])
    assert first_grasps(grasps, 61).starts.tolist() == [0, 60, 120], "one grasp makes no pair"
    with pytest.raises(ValueError, match=f"fewer than 122 grasps of {OBJECTS[0]}, {OBJECTS[1]}"):
        first_grasps(grasps, 122)


def test_nonsense_is_refused(data: Path, tmp_path: Path) -> None:
    training = training_on(data)
    for fields, message in (
        ({"encoder": "resnet"}, "encoder is 'resnet'; known: vit"),
        ({"sensor": "perfect"}, "unknown sensor 'perfect'; known: nominal"),
        ({"num_steps": 0}, "num_steps must be 1 or more; got 0"),
        ({"num_per_object": 1}, "num_per_object must be 2 grasps or more"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(training, **fields)
    assert train_touch_refiner(replace(training, stop_after=1), tmp_path / "a") is None
    with pytest.raises(ValueError, match=r"begun with other settings \(seed: 0 there, 5 wanted\)"):
        train_touch_refiner(replace(training, seed=5), tmp_path / "a")
    with pytest.raises(ValueError, match="has no grasps of rod_6x120"):
        train_touch_refiner(replace(training, objects=("rod_6x120",)), tmp_path / "b")
