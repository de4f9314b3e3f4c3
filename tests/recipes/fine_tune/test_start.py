"""What a run can begin with: what is read of it, what may be changed, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.models.config import preset
from cerebella.models.vla import VLA
from cerebella.policies.directory import StageRecord, save_policy
from cerebella.policies.stored import weights_hash
from cerebella.processing.images import RELEASED_MAX_PIXELS, ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.statistics import Statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.recipes.fine_tune.start import Start, StartOptions
from cerebella.recipes.fine_tune.start_reading import read_start
from cerebella.released_robots import released_embodiment
from tests.policies.released_directory import write_released_directory

SHIPPED = Path(__file__).parents[3] / "policies" / "conveyor-micro"


def start(source: Path | str, **options: Any) -> Start:
    return read_start(StartOptions(start=str(source), **options))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released_directory(tmp_path_factory.mktemp("released") / "checkpoint", {"libero_all": 10})


def plain_brain(released: Path, directory: Path) -> Path:
    """The brain of a released checkpoint as its makers publish it."""
    directory.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(released / name, directory)
    weights = {name: value for path in released.glob("*.safetensors") for name, value in load_file(path).items()}
    brain = {name.removeprefix("vlm."): value for name, value in weights.items() if name.startswith("vlm.")}
    save_file(brain, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(json.loads((released / "config.json").read_text())["vlm_config"]))
    return directory


def test_a_preset_begins_with_nothing() -> None:
    begun = start("nano", horizon=40, mask_variant="band", mask_window=3)
    assert (begun.kind, begun.tokenizer, begun.embodiment, begun.history) == ("preset", None, None, ())
    assert (begun.config.horizon, begun.config.mask_variant, begun.config.mask_window) == (40, "band", 3)
    assert begun.images == ImageConfig(8, max_pixels=RELEASED_MAX_PIXELS)
    with pytest.raises(ValueError, match="vocabulary of a published brain, which cannot be trained here"):
        start("xr0")


def test_a_policy_brings_its_robot_and_its_past() -> None:
    begun = start(SHIPPED)
    assert begun.embodiment == CONVEYOR
    assert [stage.name for stage in begun.history] == ["warmup_vision", "pretrain_cerebellum", "posttrain_async"]
    assert (begun.images.max_pixels, begun.takes_raw_states, begun.config.horizon) == (None, False, 16)
    weights = load_file(SHIPPED / "model.safetensors")
    model = start(SHIPPED, horizon=12).model(torch.float32)
    assert model.config.horizon == 12
    torch.testing.assert_close(model.cerebellum.sink.weight, weights["cerebellum.sink.weight"].float())
    assert start(SHIPPED, mask_variant="lambda", mask_window=4, position_offset=10).config == begun.config


@pytest.mark.parametrize("change", [{"mask_variant": "band"}, {"mask_window": 3}, {"position_offset": 0}])
def test_a_trained_rule_stays(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"was trained under the attention rule 'lambda' \(window 4, offset 10\)"):
        start(SHIPPED, **change)


def test_a_policy_that_only_learnt_to_see_takes_any_rule(tmp_path: Path) -> None:
    horizon = 4
    statistics = Statistics(
        "conveyor",
        "end_effector",
        np.zeros((horizon, 3), np.float32),
        np.ones((horizon, 3), np.float32),
        np.zeros(4, np.float32),
        np.ones(4, np.float32),
    )
    processor = Processor(CONVEYOR, statistics, train_tokenizer(["a"], 1024), ImageConfig(8), horizon, 32, 32)
    stage = StageRecord("warmup_vision", 3, "lambda", 0, "0" * 12)
    save_policy(tmp_path, VLA(preset("micro", horizon=horizon)), processor, [stage], {})
    begun = start(tmp_path, mask_variant="band")
    assert (begun.config.mask_variant, begun.takes_raw_states) == ("band", True)


def test_the_horizon_shrinks_and_never_grows() -> None:
    with pytest.raises(
        ValueError, match=r"must be in 7\.\.16 rows .* \(it was trained with prefixes of up to 6\); got 17"
    ):
        start(SHIPPED, horizon=17)
    with pytest.raises(ValueError, match="got 6"):
        start(SHIPPED, horizon=6)


def test_a_released_checkpoint(released: Path, tmp_path: Path) -> None:
    begun = start(released)
    assert (begun.kind, begun.takes_raw_states, begun.says_rule) == ("released", True, False)
    assert begun.embodiment == released_embodiment("libero_all")
    assert begun.history == (StageRecord("imported", 0, "causal", 0, weights_hash(released)),)
    assert begun.images.max_pixels == RELEASED_MAX_PIXELS
    assert begun.model(torch.bfloat16).cerebellum.sink.weight.dtype == torch.bfloat16
    # The released post-training begins with the same files and runs another rule; the record says which one was chosen.
    assert start(released, mask_variant="band").history[0].mask_variant == "band"

    again = shutil.copytree(released, tmp_path / "says")
    fields = json.loads((again / "config.json").read_text())
    (again / "config.json").write_text(json.dumps(fields | {"mask_variant": "band", "max_trained_prefix": 3}))
    begun = start(again)
    assert (begun.says_rule, begun.config.mask_variant, begun.history[0].max_prefix) == (True, "band", 3)
    with pytest.raises(ValueError, match="was trained under the attention rule 'band'"):
        start(again, mask_variant="lambda")
    with pytest.raises(ValueError, match=r"must be in 4\.\.10 rows"):
        start(again, horizon=3)


def test_a_released_checkpoint_of_several_robots_names_none(tmp_path: Path) -> None:
    begun = start(write_released_directory(tmp_path / "pretrain", {"droid": 10, "agibot": 10}))
    assert begun.embodiment is None


def test_statistics_of_the_start(released: Path) -> None:
    kept = start(SHIPPED, horizon=9).statistics(CONVEYOR)
    own = Statistics.load(SHIPPED / "statistics.json", "conveyor", "end_effector")
    np.testing.assert_array_equal(kept.action_std, own.action_std[:9])
    robot = released_embodiment("libero_all")
    assert start(released, horizon=5).statistics(robot).action_mean.shape == (5, 7)
    with pytest.raises(ValueError, match="unknown robot type 'fractal_delta'"):
        start(released).statistics(released_embodiment("fractal_delta"))
    with pytest.raises(ValueError, match="micro has no statistics; measure them"):
        start("micro").statistics(CONVEYOR)


def test_a_plain_brain_gets_a_new_cerebellum(released: Path, tmp_path: Path) -> None:
    begun = start(plain_brain(released, tmp_path / "brain"), horizon=7, mask_variant="lambda")
    assert (begun.kind, begun.config.horizon, begun.config.mask_variant) == ("brain", 7, "lambda")
    assert begun.tokenizer is not None
    theirs = load_file(tmp_path / "brain" / "model.safetensors")["model.language_model.norm.weight"]
    torch.testing.assert_close(begun.model(torch.float32).brain.model.language_model.norm.weight, theirs.float())


def test_what_is_no_start_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'micr' is neither a preset .* Did you mean 'micro'\?"):
        start("micr")
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        start(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        start(tmp_path)
