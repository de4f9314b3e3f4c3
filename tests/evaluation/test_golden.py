import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from cerebella.evaluation.golden import GoldenReport, verify_golden

GOLDEN = Path(__file__).parents[1] / "golden" / "xr0-tiny"
ENDINGS = ("config.json", "weights.safetensors", "data.safetensors", "train.safetensors")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for ending in ENDINGS:
        shutil.copy(GOLDEN.with_name(f"{GOLDEN.name}.{ending}"), tmp_path)
    return tmp_path / GOLDEN.name


def test_the_model_agrees_with_the_golden_vectors() -> None:
    report = verify_golden(GOLDEN)
    assert report.passed, report.to_json()
    assert max(report.errors.values()) < 2e-5
    trained = {
        f"p{p}.{name}" for p in (0, 1, 3, 6) for name in ("sampled", "velocity", "loss", "loss_mse", "loss_freq")
    }
    cached = {f"{name}.{layer}" for name in ("key", "value") for layer in range(5)}
    engine = {f"engine.{name}.{layer}" for name in ("key", "value") for layer in (2, 3, 4)}
    engine |= {f"engine.p{p}.sampled" for p in (0, 1, 3, 6)} | {"engine.actions"}
    assert set(report.errors) == trained | cached | engine | {"position_ids", "actions"}
    assert set(report.cosines) == {"readable.actions", "engine.actions"}
    assert min(report.cosines.values()) > 0.9995
    line = json.loads(report.to_json())
    assert line["passed"] is True
    assert line["largest_error"] == max(report.errors.values())


@pytest.mark.parametrize(
    "name",
    [
        "vlm.model.visual.blocks.0.attn.qkv.weight",
        "vlm.model.visual.deepstack_merger_list.1.linear_fc2.bias",
        "vlm.model.language_model.layers.4.self_attn.k_norm.weight",
        "dit.layers.1.adaln_table",
        "dit.layers.2.attn.q_norm.weight",
        "t_projector.layers.0.bias",
        "sink.weight",
    ],
)
def test_one_wrong_number_is_noticed(copied: Path, name: str) -> None:
    path = copied.with_name(f"{copied.name}.weights.safetensors")
    weights = load_file(path)
    weights[name].view(-1)[5] += 0.1
    save_file(weights, path)
    report = verify_golden(copied)
    assert not report.passed
    assert json.loads(report.to_json())["passed"] is False


def test_training_vectors_are_optional(copied: Path) -> None:
    copied.with_name(f"{copied.name}.train.safetensors").unlink()
    report = verify_golden(copied)
    assert report.passed
    assert not any(name.startswith("p0.") for name in report.errors)


@pytest.mark.parametrize("ending", ENDINGS[:3])
def test_a_missing_file_is_named(copied: Path, ending: str) -> None:
    copied.with_name(f"{copied.name}.{ending}").unlink()
    with pytest.raises(FileNotFoundError, match=f"xr0-tiny.{ending} is missing"):
        verify_golden(copied)


def test_a_missing_vector_is_named(copied: Path) -> None:
    path = copied.with_name(f"{copied.name}.data.safetensors")
    data = load_file(path)
    del data["value.3"]
    save_file(data, path)
    with pytest.raises(ValueError, match=r"lack 'value\.3'"):
        verify_golden(copied)


def test_what_is_not_a_number_never_passes() -> None:
    report = GoldenReport("x", {"actions": float("nan"), "key.0": 0.0}, 1e-4)
    assert not report.passed
    assert json.loads(report.to_json()) == {
        "prefix": "x",
        "passed": False,
        "tolerance": 1e-4,
        "largest_error": None,
        "errors": {"actions": None, "key.0": 0.0},
        "least_cosine": 0.999,
        "bfloat16_cosines": {},
    }


def test_actions_that_turn_too_far_in_bfloat16_do_not_pass() -> None:
    assert GoldenReport("x", {"actions": 0.0}, 1e-4, {"engine.actions": 0.9991}).passed
    assert not GoldenReport("x", {"actions": 0.0}, 1e-4, {"engine.actions": 0.998}).passed
    assert not GoldenReport("x", {"actions": 0.0}, 1e-4, {"engine.actions": float("nan")}).passed
