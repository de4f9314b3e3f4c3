"""A touch policy and its neighbours: one by one and together, on disk, in other runtimes, far from the training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cerebella.geometry import compose, inverse, se3_log
from cerebella.models.touch_refiner import TouchRefiner, TouchRefinerConfig, increments
from cerebella.policies.touch_embedding import TouchEmbedding
from cerebella.policies.touch_export import INPUT_NAMES, export_onnx, export_program
from cerebella.policies.touch_neighbours import TouchNeighbours
from cerebella.policies.touch_policy import TouchPolicy, load_refiner
from cerebella.touch.pairs import Pairs, PairSource
from tests.training.blobs import NOMINAL, blob_set

CONFIGS = {
    "vit": TouchRefinerConfig(width=32, fusion_depth=1),
    "mlp": TouchRefinerConfig(width=32, fusion_depth=1, encoder="mlp", fingers=(0, 1, 2)),
    "cnn": TouchRefinerConfig(width=32, encoder="cnn"),
    "absolute": TouchRefinerConfig(width=32, fusion_depth=1, target="absolute"),
}
GRASPS = blob_set()
CALIBRATION = {"distance_limit": 12.5, "max_dead_fingers": 1.0}


def draw(num: int, seed: int = 0) -> Pairs:
    return PairSource(GRASPS).draw(num, np.random.default_rng(seed))


def arguments(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return pairs.counts, pairs.joints, pairs.goal_counts, pairs.goal_joints


def policy_of(name: str) -> TouchPolicy:
    torch.manual_seed(0)
    model = TouchRefiner(CONFIGS[name]).eval()
    for head in (model.rotation, model.translation):
        torch.nn.init.normal_(head.get_parameter("2.weight"))
    pairs = draw(200)
    statistics = pairs.joints.mean(axis=0), pairs.joints.std(axis=0)
    return TouchPolicy(model, TouchEmbedding.measure(pairs.counts, pairs.joints, *statistics), CALIBRATION)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_alone_and_together_it_says_the_same(name: str) -> None:
    policy, given = policy_of(name), arguments(draw(4, seed=1))
    together = policy.predict_many(*given)
    assert together.shape == (4, 4, 4)
    inverse(together)  # raises unless all are rigid transforms
    for i in range(4):
        alone = policy.predict(*(x[i] for x in given))
        assert alone.dtype == np.float64
        np.testing.assert_allclose(alone, together[i], atol=1e-5)
    assert np.ptp(together, axis=0).max() > 1e-4, "of different grasps it says different things"
    embeddings = policy.embedding_many(*given[:2])
    np.testing.assert_allclose(policy.embedding(given[0][2], given[1][2]), embeddings[2], atol=1e-3)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_it_comes_back_from_disk(name: str, tmp_path: Path) -> None:
    policy, given = policy_of(name), arguments(draw(3))
    policy.model.set_joint_statistics(np.linspace(0, 1, 11), np.linspace(0.1, 0.2, 11))
    policy.save(tmp_path / "p")
    loaded = TouchPolicy.load(tmp_path / "p")
    assert loaded.model.config == policy.model.config
    assert loaded.calibration == CALIBRATION
    assert loaded.policy_id.startswith("p@")
    assert np.array_equal(loaded.predict_many(*given), policy.predict_many(*given))
    assert np.array_equal(loaded.embedding_many(*given[:2]), policy.embedding_many(*given[:2]))


def test_a_damaged_directory_is_named(tmp_path: Path) -> None:
    policy_of("vit").save(tmp_path)
    config = (tmp_path / "config.json").read_text()
    for old, new, message in (
        ('"width": 32', '"width": 64', r"model\.safetensors does not fit .*config\.json"),
        ('"width"', '"breadth"', "a field is missing or unknown: .*breadth"),
        ("cerebella_touch", "cerebella_state", "model_type is 'cerebella_state'; wanted 'cerebella_touch'"),
    ):
        (tmp_path / "config.json").write_text(config.replace(old, new))
        with pytest.raises(ValueError, match=message):
            load_refiner(tmp_path)
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "calibration.json").write_text(json.dumps({"distance_limit": "far"}))
    with pytest.raises(ValueError, match="distance_limit must be numbers"):
        TouchPolicy.load(tmp_path)
    (tmp_path / "calibration.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"calibration\.json is missing"):
        TouchPolicy.load(tmp_path)


def test_bad_input_is_refused() -> None:
    policy, (counts, joints, goal_counts, goal_joints) = policy_of("vit"), arguments(draw(2))
    with pytest.raises(ValueError, match=r"counts must be uint8\[n, 5, 11, 9\]; got float64\[2, 5, 11, 9\]"):
        policy.predict_many(counts.astype(np.float64), joints, goal_counts, goal_joints)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"joints \(rad\) must be float32\[2, 11\]; got float32\[2, 10\]"):
        policy.predict_many(counts, joints[:, :10], goal_counts, goal_joints)
    with pytest.raises(ValueError, match=r"joints \(rad\) must be finite"):
        policy.predict_many(counts, joints * np.float32(np.nan), goal_counts, goal_joints)
    with pytest.raises(ValueError, match="as many goals as grasps; got 1 and 2"):
        policy.predict_many(counts, joints, goal_counts[:1], goal_joints[:1])


def test_the_embedding_knows_what_is_strange() -> None:
    policy, pairs = policy_of("vit"), draw(300, seed=5)
    usual = np.linalg.norm(policy.embedding_many(pairs.counts, pairs.joints), axis=1)
    noise = np.random.default_rng(0).integers(0, 256, pairs.counts.shape, dtype=np.uint8)
    bent = pairs.joints + np.float32(1.5)
    for counts, joints in ((noise, pairs.joints), (pairs.counts, bent)):
        strange = np.linalg.norm(policy.embedding_many(counts, joints), axis=1)
        assert (strange > np.quantile(usual, 0.999)).mean() > 0.9


def test_an_embedding_is_the_way_to_the_nearest_centre() -> None:
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1], 80)
    counts = np.where(kind[:, None, None, None] == 1, 255, 0) * np.ones((160, 5, 11, 9))
    joints = (kind[:, None] + 0.01 * rng.standard_normal((160, 11))).astype(np.float32)
    zero, one = np.zeros(11, dtype=np.float32), np.ones(11, dtype=np.float32)
    embedding = TouchEmbedding.measure(counts.astype(np.uint8), joints, zero, one)
    assert embedding.centres.shape == (20, 5 * 99 + 11), "a centre has eight readings or more on average"
    assert np.linalg.norm(embedding.embed(counts.astype(np.uint8), joints), axis=1).max() < 0.1
    between = embedding.embed(np.full((1, 5, 11, 9), 64, dtype=np.uint8), zero[None])
    assert np.linalg.norm(between) == pytest.approx(np.sqrt(5 * 99 * 64 / 255), rel=1e-2)
    assert np.linalg.norm(embedding.embed(counts[:1].astype(np.uint8), 2 * one[None])) > 3
    with pytest.raises(ValueError, match="need readings to measure an embedding; got none"):
        TouchEmbedding.measure(np.zeros((0, 5, 11, 9), dtype=np.uint8), joints[:0], zero, one)


def _fast(*names: str) -> list[Any]:
    """Every configuration; those that are not named take seconds."""
    return [pytest.param(name, marks=[] if name in names else pytest.mark.slow) for name in CONFIGS]


@pytest.mark.parametrize("name", _fast("cnn"))
def test_a_program_of_torch_export_agrees(name: str, tmp_path: Path) -> None:
    policy, given = policy_of(name), arguments(draw(5, seed=2))
    torch.export.save(export_program(policy), tmp_path / "refiner.pt2")
    program = torch.export.load(tmp_path / "refiner.pt2").module()
    numbers = program(*(torch.from_numpy(x) for x in given)).detach().numpy()
    np.testing.assert_allclose(increments(numbers), policy.predict_many(*given), atol=1e-4)


@pytest.mark.parametrize("name", _fast("vit"))
def test_onnx_agrees(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    policy = policy_of(name)
    export_onnx(policy, tmp_path / "refiner.onnx")
    session = runtime.InferenceSession(tmp_path / "refiner.onnx", providers=["CPUExecutionProvider"])
    for num in (1, 7):
        given = arguments(draw(num, seed=3))
        (numbers,) = session.run(["numbers"], dict(zip(INPUT_NAMES, given, strict=True)))
        np.testing.assert_allclose(increments(numbers), policy.predict_many(*given), atol=1e-4)


def test_neighbours_find_what_they_remember() -> None:
    pairs = PairSource(GRASPS, sensor=NOMINAL, joint_bias_rad=0, joint_noise_rad=0)
    rows = np.arange(len(GRASPS))
    counts = NOMINAL.draw(np.random.default_rng(0)).counts(GRASPS.arrays.forces, np.random.default_rng(0))
    poses = GRASPS.arrays.T_wrist_object.astype(np.float64)
    order = np.random.default_rng(1).permutation(rows)
    bank = TouchNeighbours(counts[order], GRASPS.arrays.joints[order], poses[order], GRASPS.object_index[order])
    for now, goal in zip(*pairs.draw_rows(10, np.random.default_rng(2)), strict=True):
        readings = (counts[now], GRASPS.arrays.joints[now], counts[goal], GRASPS.arrays.joints[goal])
        np.testing.assert_allclose(bank.predict(*readings), compose(poses[now], inverse(poses[goal])), atol=1e-6)
        assert np.linalg.norm(bank.embedding(*readings[:2])) < 1e-2
    assert np.linalg.norm(bank.embedding(255 - counts[0], GRASPS.arrays.joints[0])) > bank.calibration["distance_limit"]


def test_neighbours_come_near_what_they_do_not_remember() -> None:
    few = blob_set(num_per_shard=400, num_shards=1, seed=0)
    pairs = PairSource(few, sensor=NOMINAL, joint_bias_rad=0, joint_noise_rad=0)
    counts = NOMINAL.draw(np.random.default_rng(0)).counts(few.arrays.forces, np.random.default_rng(0))
    is_known = np.arange(len(few)) % 400 < 380
    poses = few.arrays.T_wrist_object.astype(np.float64)
    bank = TouchNeighbours(counts[is_known], few.arrays.joints[is_known], poses[is_known], few.object_index[is_known])
    errors, starts = [], []
    for i in range(10):
        now, goal = 380 + i, 399 - i
        D = compose(poses[now], inverse(poses[goal]))
        said = bank.predict(counts[now], few.arrays.joints[now], counts[goal], few.arrays.joints[goal])
        errors.append(np.linalg.norm(se3_log(compose(inverse(said), D))[:3]))
        starts.append(np.linalg.norm(se3_log(D)[:3]))
    assert pairs.same_hand
    assert np.mean(errors) < 0.6 * np.mean(starts)


def test_a_bank_without_pairs_is_refused() -> None:
    counts, joints, poses = (
        np.zeros((3, 5, 11, 9), np.uint8),
        np.zeros((3, 11), np.float32),
        np.tile(np.eye(4), (3, 1, 1)),
    )
    with pytest.raises(ValueError, match=r"2 or more grasps of every object; got \[3\] rows, \[2, 1\] per object"):
        TouchNeighbours(counts, joints, poses, np.array([0, 0, 1]))
