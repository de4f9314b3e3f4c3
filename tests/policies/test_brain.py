"""A brain directory: ours, and Transformers'."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from cerebella.models.checkpoint import load_brain
from cerebella.models.config import preset
from cerebella.models.vla import VLA
from cerebella.policies.brain import is_brain, read_brain, save_brain
from cerebella.processing.images import ImageConfig
from cerebella.processing.tokenizer import train_tokenizer

CONFIG = preset("micro")


@pytest.fixture(scope="module")
def model() -> VLA:
    torch.manual_seed(1)
    return VLA(CONFIG)


@pytest.fixture
def directory(model: VLA, tmp_path: Path) -> Path:
    tokenizer = train_tokenizer(["a red disc", "how many discs are there?"], CONFIG.brain["text_config"]["vocab_size"])
    save_brain(tmp_path / "brain", model, tokenizer, ImageConfig(patch_size=8))
    return tmp_path / "brain"


def test_what_was_saved_comes_back_and_the_cerebellum_stays(model: VLA, directory: Path) -> None:
    files, other = read_brain(directory, CONFIG), VLA(CONFIG)
    before = {name: tensor.clone() for name, tensor in other.cerebellum.state_dict().items()}
    load_brain(other, directory)
    for name, tensor in model.brain.state_dict().items():
        assert torch.equal(other.brain.state_dict()[name], tensor.bfloat16().float()), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.cerebellum.state_dict().items())
    assert files.images == ImageConfig(patch_size=8)
    assert files.tokenizer.decode(files.tokenizer("a red disc")["input_ids"]) == "a red disc"


def test_transformers_loads_it(model: VLA, directory: Path) -> None:
    stock = AutoModelForImageTextToText.from_pretrained(directory)
    assert stock.dtype == torch.bfloat16
    assert torch.equal(stock.lm_head.weight, model.brain.lm_head.weight.bfloat16())


def test_another_geometry_is_named(directory: Path) -> None:
    with pytest.raises(ValueError, match=r"text_config\.hidden_size of this brain is 128; the model 'nano' wants 192"):
        read_brain(directory, preset("nano"))


def test_something_else_is_no_brain(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert not is_brain(tmp_path)
    with pytest.raises(ValueError, match="holds no plain Qwen3-VL"):
        read_brain(tmp_path, CONFIG)
